"""The log: one line an event, the request's id in it, a key never."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest

from agent import log

KEY = "thox_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0-_x"


@pytest.fixture(autouse=True)
def _restore_root() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_key_never_reaches_the_log_whatever_way_it_takes(style: str) -> None:
    out = io.StringIO()
    log.setup("debug", style, out)
    logger = logging.getLogger("agent.unit")
    logger.info("refused %s", KEY)
    logger.info("refused", extra={"header": f"Bearer {KEY}"})
    try:
        raise ValueError(f"no such key {KEY}")
    except ValueError:
        logger.exception("broke")
    logging.getLogger("some.dependency").warning("url ?api_key=%s", KEY)
    written = out.getvalue()
    assert KEY not in written and KEY[8:20] not in written
    assert written.count("thox_***") >= 4


def test_an_event_as_json_carries_its_fields_and_the_request_id() -> None:
    out = io.StringIO()
    log.setup("info", "json", out)
    token = log.request_id.set("req-1")
    try:
        log.access("POST", "/v1/chat/completions", 200, 0.25, key="owner", prompt_tokens=7, completion_tokens=3)
    finally:
        log.request_id.reset(token)
    event = json.loads(out.getvalue())
    assert datetime.fromisoformat(event.pop("time").replace("Z", "+00:00")).tzinfo is not None
    assert event == {
        "level": "info",
        "logger": "agent.access",
        "event": "request",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "ms": 250.0,
        "key": "owner",
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "request_id": "req-1",
    }


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_path_with_a_line_break_in_it_cannot_forge_a_line(style: str) -> None:
    out = io.StringIO()
    log.setup("info", style, out)
    log.access("GET", "/v1/models\n2026-11-22T00:00:00.000Z info agent.auth forged", 404, 0.001)
    assert len(out.getvalue().splitlines()) == 1


def test_dependencies_are_heard_only_when_something_went_wrong() -> None:
    out = io.StringIO()
    log.setup("debug", "text", out)
    logging.getLogger("some.dependency").info("chatter")
    logging.getLogger("agent.unit").debug("detail")
    assert "chatter" not in out.getvalue() and "detail" in out.getvalue()
