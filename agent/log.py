"""One line an event, as text or JSON, with the id of the request it belongs to, and never a key.

The rest of the agent logs through the standard library: ``logging.getLogger(__name__)``, with ``extra={"model": ...}``
for fields. Only this file decides how an event looks.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import TextIO

request_id: ContextVar[str] = ContextVar("request_id", default="")

_KEY = re.compile(r"thox_[A-Za-z0-9_-]{8,}")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_access = logging.getLogger("agent.access")


def setup(level: str = "info", style: str = "text", stream: TextIO | None = None) -> None:
    """Send every event to ``stream`` (standard error unless told otherwise). Calling it again replaces the first."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if style == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # of dependencies, only what went wrong
    for name in ("agent", "hal"):
        logging.getLogger(name).setLevel(level.upper())


def redact(text: str) -> str:
    """The text with every key in it cut to its prefix."""
    return _KEY.sub("thox_***", text)


def access(
    method: str,
    path: str,
    status: int,
    seconds: float,
    *,
    key: str = "",
    prompt_tokens: int | None = None,
    completion_tokens: int | None = None,
) -> None:
    """The line of one request, when its last byte is sent. ``key`` is the name of the key, never the key."""
    fields: dict[str, object] = {"method": method, "path": path, "status": status, "ms": round(seconds * 1000, 1)}
    if key:
        fields["key"] = key
    if prompt_tokens is not None:
        fields["prompt_tokens"] = prompt_tokens
    if completion_tokens is not None:
        fields["completion_tokens"] = completion_tokens
    _access.info("request", extra=fields)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    found = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    current = request_id.get()
    if current:
        found.setdefault("request_id", current)
    return found


def _value(value: object) -> str:
    # A quoted value cannot start a line of its own, whatever a client put into its path.
    text = str(value)
    return text if re.fullmatch(r"[\w.,:/@%+~*-]+", text) else json.dumps(text, ensure_ascii=False)


class TextLines(logging.Formatter):
    """``2026-11-22T22:15:40.123Z info  agent.models loaded model=thox-nano``; a traceback follows, indented."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        parts = [_stamp(record), f"{record.levelname.lower():<7}", record.name, message]
        parts += [f"{name}={_value(value)}" for name, value in _fields(record).items()]
        line = " ".join(parts)
        if record.exc_info:
            line += "\n    " + self.formatException(record.exc_info).replace("\n", "\n    ")
        return redact(line)


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, event, and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, object] = {
            "time": _stamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return redact(json.dumps(event, ensure_ascii=False, default=str))


def _stamp(record: logging.LogRecord) -> str:
    when = datetime.fromtimestamp(record.created, timezone.utc)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
