"""Requests that name an adapter, through the engine: each of their sequences begins with it, and goes on with it."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from fakes_engine import GREEDY, ask, engine_over, read
from fakes_runner import FakeRunner, counting

from agent.engine.base import Request
from agent.errors import ModelError


def test_each_choice_of_a_request_begins_with_the_adapter_that_it_names() -> None:
    runner = FakeRunner(counting(64))
    with engine_over(runner, adapters=("first", "second")) as engine:
        for adapter in ("second", "", "first"):
            read(engine.generate(Request("r", ("AB",), GREEDY, n=2, adapter=adapter)))
        assert runner.adapters == [2, 2, 0, 0, 1, 1]


def test_a_sequence_that_lost_its_pages_comes_back_with_its_adapter() -> None:
    gate = threading.Semaphore(0)
    runner = FakeRunner(counting(64), slots=2, pages=6, gate=gate)
    sampling = replace(GREEDY, max_tokens=14)
    with engine_over(runner, adapters=("first",)) as engine:
        answers = [engine.generate(Request("r", ("AB",), sampling, adapter=name)) for name in ("", "first")]
        gate.release(1000)  # no step before both are there: they have to meet in the cache
        assert [len(read(answer).text) for answer in answers] == [14, 14]
    assert len(runner.adapters) > 2, "somebody was sent back into the line"
    assert set(runner.adapters[1:]) == {1}, "the younger one"


def test_an_adapter_that_did_not_come_with_its_base_is_an_error_that_says_where_to_look() -> None:
    with engine_over(FakeRunner(counting(64)), adapters=("first",)) as engine:
        with pytest.raises(ModelError) as caught:
            engine.generate(Request("r", ("AB",), GREEDY, adapter="broken"))
        assert "broken" in caught.value.message and "log" in (caught.value.hint or "")
        assert read(ask(engine, "AB")).text
