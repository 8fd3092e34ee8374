"""The OpenAPI 3.1 document of a port, made from the app's own routes, so that neither has what the other lacks.

A route says what it is with ``describes``, beside ``guard.requires``; its body is the table of fields that its parser
reads. ``serve`` comes last, when every blueprint is registered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from flask import Flask, Response, jsonify

from agent.api import guard
from agent.api.schema import Field, Json, object_schema

View = TypeVar("View", bound=Callable[..., object])

_MARK = "thox_operation"
_ANSWER = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")

# Each event carries a chunk of the answer as JSON; the last one is the text [DONE].
_EVENT: Json = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "string", "contentMediaType": "application/json"}},
}

_ERRORS = {
    400: "invalid parameters or body",
    401: "missing or invalid API key",
    403: "the key lacks the permission",
    404: "no such model or object",
    409: "it cannot be done now",
    413: "the body is too large",
    415: "the body is not JSON",
    429: "too many requests; Retry-After says when to try again",
    500: "the server's own fault",
    503: "for now unavailable; Retry-After says when to try again",
    507: "no room for a model",
}

_ERROR_SCHEMA: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "type"],
            "properties": {
                "code": {"type": "integer"},
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "hint": {"type": "string"},
            },
        }
    },
}


@dataclass(frozen=True, slots=True)
class Operation:
    """What the document says of one route. ``contents`` maps media types to JSON Schemas of the answer."""

    summary: str
    contents: Json
    body: Json | None = None
    errors: Sequence[int] = ()
    query: Json = field(default_factory=dict)  # by name, the JSON Schema of a query parameter; each must be there
    status: int = 200


def describes(
    summary: str,
    answer: Json,
    *,
    body: Sequence[Field[object]] | Json | None = None,
    stream: bool = False,
    lines: bool = False,
    media: str = "application/json",
    errors: Sequence[int] = (),
    query: Json | None = None,
    status: int = 200,
) -> Callable[[View], View]:
    """Describe a view. ``body``: the parser's own fields, or a JSON Schema; ``errors``: those beside the usual ones.

    ``stream``: the answer can also come as server-sent events; ``lines``: as lines of JSON.
    """
    schema = body if body is None or not isinstance(body, Sequence) else object_schema(body)
    contents: dict[str, object] = {media: {"schema": answer}}
    if stream:
        contents["text/event-stream"] = {"schema": _EVENT}
    if lines:
        contents["application/x-ndjson"] = {"schema": {"type": "string"}}
    usual = {401, 403, 429, 500} | ({400, 413, 415} if schema is not None else set[int]())
    operation = Operation(summary, contents, schema, sorted(usual | set(errors)), query or {}, status)

    def mark(view: View) -> View:
        setattr(view, _MARK, operation)
        return view

    return mark


def serve(app: Flask, title: str) -> None:
    """Answer GET /openapi.json with the document of all routes that the app has by now, and this one."""

    @app.get("/openapi.json")
    @guard.public
    @describes("This document", {"type": "object"})
    def openapi() -> Response:
        return jsonify(written)

    written = document(app, title)


def document(app: Flask, title: str) -> dict[str, object]:
    """The document of all routes that the app has now."""
    paths: dict[str, dict[str, object]] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = app.view_functions[rule.endpoint]
        operation: Operation | None = getattr(view, _MARK, None)
        if operation is None:
            continue
        path = _PARAMETER.sub(r"{\1}", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            described = _operation(rule.rule, operation, guard.needs_of(view), rule.endpoint)
            paths.setdefault(path, {})[method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": "1",
            "description": "Fields that are not listed are ignored; null counts as absent.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR_SCHEMA},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(rule: str, operation: Operation, needs: tuple[str, ...] | None, name: str) -> dict[str, object]:
    responses: dict[str, object] = {str(operation.status): {"description": "OK", "content": operation.contents}}
    for status in operation.errors:
        if needs is None and status in (401, 403):
            continue
        responses[str(status)] = {"description": _ERRORS[status], "content": _ANSWER}
    parameters: list[object] = [
        {"name": part, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for part in _PARAMETER.findall(rule)
    ]
    parameters += [
        {"name": part, "in": "query", "required": True, "schema": schema} for part, schema in operation.query.items()
    ]
    described: dict[str, object] = {
        "summary": operation.summary,
        "operationId": name,
        "responses": responses,
        "security": [] if needs is None else [{"key": []}],
    }
    if needs:
        described["description"] = "Needs a key with the permission " + " or ".join(needs) + "."
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": operation.body}}}
    return described
