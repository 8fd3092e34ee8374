"""The body of a request as strict JSON: an object, with finite numbers and text that can be encoded again."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterable

from flask import Request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from agent.api.schema import Field, Json
from agent.errors import MediaTypeError, RequestError, TooLargeError

log = logging.getLogger(__name__)

# Deeper than any real request, and far from where Python's own recursion would end in a crash of the request.
_DEEPEST = 100
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(request: Request) -> Json:
    """The body's object. Raises MediaTypeError, TooLargeError, or RequestError with what is wrong and where."""
    if request.headers.get("Content-Type") and not request.is_json:
        raise MediaTypeError(
            f"the body must be JSON, not {request.mimetype[:80] or 'of an unknown type'}",
            hint="send the header Content-Type: application/json",
        )
    try:
        data = request.get_data(cache=False)
        if request.content_length is None:
            request.stream.read(1)  # a chunked body is cut at the limit in silence; a further read says so
    except RequestEntityTooLarge:
        limit = request.max_content_length
        raise TooLargeError("the body is larger than this device takes", hint=f"at most {limit} bytes") from None
    except (ClientDisconnected, OSError) as error:  # the client stalled or broke off in the middle of its own request
        raise RequestError("the body did not arrive whole") from error
    return parse_object(data)


def parse_object(data: bytes) -> Json:
    """A JSON object from bytes. Raises RequestError."""
    if not data.strip():
        raise RequestError("the body is empty", hint="send a JSON object")
    try:
        text = data.decode("utf-8")
        body = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(body, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError("the body is not UTF-8 text") from error
    except UnicodeEncodeError as error:
        raise RequestError("the body has half a character: a surrogate without its other half") from error
    except json.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise RequestError("the body is nested too deeply") from error
    except ValueError as error:  # a number with thousands of digits
        raise RequestError("the body has a number that is too long") from error
    if not isinstance(body, dict):
        raise RequestError("the body must be a JSON object")
    if text.count("{") + text.count("[") > _DEEPEST:
        _check_depth(body)
    for name, value in body.items():
        _check_finite(value, name)
    return body


def log_unknown(body: Json, fields: Iterable[Field[object]]) -> None:
    """Fields that nobody reads are ignored, as OpenAI's clients expect; the log says which, for whoever wonders."""
    if log.isEnabledFor(logging.DEBUG):
        unknown = sorted(set(body) - {field.name for field in fields})
        if unknown:
            log.debug("fields ignored: %s", ", ".join(name[:40] for name in unknown[:20]))


def _check_depth(body: object) -> None:
    level: list[object] = [body]
    for _ in range(_DEEPEST):
        level = [child for node in level for child in _children(node) if isinstance(child, (dict, list))]
        if not level:
            return
    raise RequestError("the body is nested too deeply", hint=f"at most {_DEEPEST} levels")


def _children(node: object) -> Iterable[object]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


def _check_finite(value: object, path: str) -> None:
    """Python's parser takes NaN and Infinity, and makes an infinity of 1e400; JSON has neither."""
    if isinstance(value, float) and not math.isfinite(value):
        raise RequestError(f"'{path}' is NaN or infinite: not a number in JSON", param=path)
    if isinstance(value, dict):
        for name, child in value.items():
            _check_finite(child, f"{path}.{name[:40]}")
    elif isinstance(value, list):
        for index, child in enumerate(value):
            if isinstance(child, (float, dict, list)):  # millions of other things may stand in a list
                _check_finite(child, f"{path}[{index}]")
