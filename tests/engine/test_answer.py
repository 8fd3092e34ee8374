"""The queue between the engine's thread and a client, stop strings, and the pure parts of scheduling."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engine.answer import StreamedAnswer
from agent.engine.base import Delta, Usage
from agent.engine.scheduler import Line, Pace, share
from agent.engine.stops import StopScanner
from agent.errors import EngineError, RequestError

LAST = Delta(text="!", finish="stop", usage=Usage())


def test_an_answer_is_read_piece_by_piece_and_ends_after_its_usage() -> None:
    answer = StreamedAnswer(1000)
    answer.put(Delta(text="a"))
    answer.put(LAST)
    assert [delta.text for delta in answer] == ["a", "!"]
    assert answer.poll(10.0) is None, "there is nothing to wait for after the last piece"


def test_poll_gives_up_after_its_time() -> None:
    began = time.monotonic()
    assert StreamedAnswer(1000).poll(0.02) is None
    assert time.monotonic() - began < 5


def test_a_broken_answer_gives_what_came_before_and_then_raises_each_time() -> None:
    answer = StreamedAnswer(1000)
    answer.put(Delta(text="a"))
    answer.fail(EngineError("broke"))
    first = answer.poll(1.0)
    assert first is not None and first.text == "a"
    for _ in range(2):
        with pytest.raises(EngineError, match="broke"):
            answer.poll(1.0)


def test_closing_wakes_a_reader_and_is_harmless_twice() -> None:
    answer = StreamedAnswer(1000)
    rest: list[Delta] = []
    reader = threading.Thread(target=lambda: rest.extend(answer))
    reader.start()
    answer.close()
    answer.close()
    reader.join(10)
    assert not reader.is_alive() and rest == [] and answer.closed


def test_too_much_unread_text_cancels_the_answer_and_says_so() -> None:
    answer = StreamedAnswer(10_000)
    for _ in range(100):
        answer.put(Delta(text="x" * 10))
    assert answer.closed
    with pytest.raises(RequestError, match="not read"):
        list(answer)


def test_a_reader_that_keeps_up_is_never_cut_off_and_one_piece_may_be_large() -> None:
    answer = StreamedAnswer(1000)
    for _ in range(100):
        answer.put(Delta(text="x" * 10_000))
        assert answer.poll(1.0) is not None
    assert not answer.closed


def _scan(stops: list[str], pieces: list[str]) -> str:
    scanner = StopScanner(stops)
    return "".join([*map(scanner.feed, pieces), "" if scanner.stopped else scanner.flush()])


@given(
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=4),
    st.text("abc", max_size=30),
    st.lists(st.integers(0, 30)),
)
def test_how_text_is_cut_into_pieces_makes_no_difference_to_where_it_stops(
    stops: list[str], text: str, cuts: list[int]
) -> None:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    assert _scan(stops, pieces) == (text[: min(ends)[1]] if ends else text)


@given(st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3), st.text("abc", max_size=20))
def test_nothing_is_passed_on_that_a_stop_string_may_still_take_back(stops: list[str], text: str) -> None:
    scanner, passed = StopScanner(stops), ""
    for end, char in enumerate(text, 1):
        passed += scanner.feed(char)
        assert text[:end].startswith(passed)
        assert not any(stop in passed for stop in stops)
        if scanner.stopped:
            return
        assert len(passed) + max(len(stop) for stop in stops) > end, "more is held back than a stop string is long"


def test_the_waiting_line_is_first_come_first_served() -> None:
    line: Line[str] = Line(slots=2)
    for name in "abc":
        line.join([name])
    assert _drain(line, 3) == ["a", "b", "c"]


def test_many_choices_let_newcomers_in_and_newcomers_do_not_keep_them_out_for_ever() -> None:
    line: Line[str] = Line(slots=4)
    line.join([f"big{i}" for i in range(8)])
    assert _drain(line, 3) == ["big0", "big1", "big2"]
    admitted: list[str] = []
    for newcomer in range(40):
        line.join([f"new{newcomer}"])
        admitted += _drain(line, 1)
    assert admitted.index("new0") <= 1, "a newcomer waits behind one choice at most"
    assert admitted.count("big7") == 1 or sum(name.startswith("big") for name in admitted) >= 5, "the choices starve"


def test_whoever_is_sent_back_is_before_all_who_came_later() -> None:
    line: Line[str] = Line(slots=2)
    (place,) = line.join(["old"])
    line.admit("old")
    line.join(["young"])
    line.rejoin(place, "old")
    assert _drain(line, 2) == ["old", "young"]


def test_one_that_is_not_ready_lets_the_next_one_pass() -> None:
    line: Line[str] = Line(slots=2)
    line.join(["a", "b"])
    assert line.first(lambda item: item != "a") == "b"
    line.leave(lambda item: item == "a")
    assert len(line) == 1


@given(st.integers(0, 300), st.lists(st.integers(0, 100), max_size=8))
def test_the_budget_is_used_up_and_nobody_gets_less_than_an_even_share(budget: int, wants: list[int]) -> None:
    shares = share(budget, wants)
    assert sum(shares) == min(budget, sum(wants))
    assert all(0 <= got <= want for got, want in zip(shares, wants, strict=True))
    assert all(got == want or got >= budget // len(wants) for got, want in zip(shares, wants, strict=True))


def test_the_time_to_wait_follows_the_recent_pace() -> None:
    pace = Pace()
    assert pace.wait(10, 0.0) == 5.0, "nothing is known yet"
    for second in range(10):
        pace.finished(float(second))
    assert pace.wait(20, 9.0) == pytest.approx(18.0)  # ten in nine seconds
    assert pace.wait(1, 9.0) == 1.0
    assert pace.wait(100_000, 9.0) == 60.0


def _drain(line: Line[str], count: int) -> list[str]:
    out = []
    for _ in range(count):
        item = line.first(lambda _: True)
        assert item is not None
        line.admit(item)
        out.append(item)
    return out
