"""BatchedEngine when things go wrong: no pages, clients that leave or never read, a device that fails, the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from fakes_engine import DEADLINE_S, GREEDY, ask, engine_over, eventually, read
from fakes_runner import FakeRunner, counting, hashed
from fakes_text import FakeMeter, FakeTokenizer

from agent.engine.base import Answer, Chunk, Request, Sampling
from agent.errors import EngineError, OverloadedError, RequestError, UnavailableError

LONG = replace(GREEDY, max_tokens=200)
STOPS = Sampling(max_tokens=40, seed=3, stop=("zq",), logprobs=1, presence_penalty=0.5)


def test_out_of_pages_the_text_is_exactly_what_it_would_have_been() -> None:
    prompts = ["A", "HELLO WORLD", "THE THIRD", "X" * 20, "Y" * 9, "Z"]

    def run(pages: int) -> tuple[list[object], int]:
        runner = FakeRunner(hashed(64), slots=4, pages=pages, context_length=64)
        with engine_over(runner, prefill_tokens=7) as engine:
            answers = [ask(engine, prompt, sampling=STOPS, n=2) for prompt in prompts]
            got = [read(answer) for answer in answers]
        return [(g.texts, g.finishes, g.logprobs) for g in got], len(runner.begun)

    roomy, begun = run(1000)
    tight, begun_again = run(17)
    assert tight == roomy
    assert begun_again > begun, "nothing was preempted: the test shows nothing"


def test_the_youngest_goes_back_and_the_oldest_never_does() -> None:
    runner, meter = FakeRunner(counting(64), slots=3, pages=12, context_length=40), FakeMeter()
    with engine_over(runner, meter=meter) as engine:
        answers = [ask(engine, "A" * length, sampling=replace(GREEDY, max_tokens=24)) for length in (6, 7, 8)]
        assert [len(read(answer).text) for answer in answers] == [24, 24, 24]
    assert [usage.prompt for _, usage in meter.ends] == [6, 7, 8]
    assert len(runner.begun) > 3


def test_under_constant_pressure_everyone_is_served() -> None:
    runner = FakeRunner(hashed(64), slots=8, pages=20, context_length=64)
    with engine_over(runner, prefill_tokens=16) as engine:
        answers = [ask(engine, "P" * (i % 23 + 1), sampling=Sampling(max_tokens=30, seed=i)) for i in range(40)]
        assert all(len(read(answer).text) == 30 for answer in answers)
        eventually(lambda: engine.status().pages_used == 0)


def test_one_that_cannot_fit_even_alone_ends_by_its_length() -> None:
    class Leaky(FakeRunner):
        """Room for so many tokens less than it says."""

        def reserve(self, slot: int, length: int) -> bool:
            return length <= 10 and super().reserve(slot, length)

    with engine_over(Leaky(counting(64))) as engine:
        got = read(ask(engine, "ABCD", sampling=LONG))
        assert (len(got.text), got.finishes[0]) == (7, "length")
        with pytest.raises(RequestError, match="room"):
            read(ask(engine, "X" * 11))
        assert read(ask(engine, "AB")).text == "CDEFGHIJ"


@pytest.mark.parametrize("when", ["waiting", "prefill", "decode"])
def test_a_client_that_leaves_frees_its_slot_within_one_step(when: str) -> None:
    gate = threading.Semaphore(0)
    runner = FakeRunner(counting(64), slots=1, gate=gate)
    meter = FakeMeter()
    with engine_over(runner, prefill_tokens=4, meter=meter) as engine:
        answer = ask(engine, "X" * 40 if when == "prefill" else "AB", sampling=LONG)
        gate.release(3)
        eventually(lambda: len(runner.calls) == 3)
        leaving = ask(engine, "YZ", sampling=LONG) if when == "waiting" else answer
        closer = threading.Thread(target=leaving.close)  # from another thread, as a server does
        closer.start()
        closer.join(DEADLINE_S)
        leaving.close()
        gate.release(1)  # the step that was under way
        if when == "waiting":
            gate.release(1)
            eventually(lambda: engine.status().waiting == 0 and engine.status().running == 1)
        else:
            eventually(lambda: engine.status().running == 0 and engine.status().pages_used == 0)
            assert len(runner.calls) == 4
        assert meter.ends[0][0] == "cancelled"
        assert leaving.poll(0.0) is None


def test_an_answer_closed_before_anybody_reads_it_costs_nothing_more() -> None:
    runner = FakeRunner(counting(64), slots=1)
    with engine_over(runner) as engine:
        for _ in range(20):
            ask(engine, "AB", sampling=LONG).close()
        assert read(ask(engine, "AB")).text == "CDEFGHIJ"


def test_closing_one_choice_of_many_ends_all_of_that_request() -> None:
    with engine_over(FakeRunner(counting(64), slots=2)) as engine:
        big = ask(engine, "A", "B", "C", n=4, sampling=LONG)
        eventually(lambda: engine.status().running == 2)
        big.close()
        eventually(lambda: engine.status().running == 0)
        assert read(ask(engine, "AB")).text == "CDEFGHIJ"


def test_a_full_line_is_refused_with_the_time_to_come_back() -> None:
    gate = threading.Semaphore(0)
    runner = FakeRunner(counting(64), slots=2, gate=gate)
    with engine_over(runner, waiting=3) as engine:
        answers = [ask(engine, "AB") for _ in range(5)]  # two slots, three places
        with pytest.raises(OverloadedError) as caught:
            ask(engine, "AB")
        assert 1 <= caught.value.retry_after <= 60 and caught.value.headers()["Retry-After"]
        gate.release(1000)
        assert all(read(answer).text == "CDEFGHIJ" for answer in answers)
        eventually(lambda: engine.status().running == 0)
        assert read(ask(engine, "AB")).text == "CDEFGHIJ"


def test_a_client_that_never_reads_is_cut_off_and_the_others_go_on() -> None:
    with engine_over(FakeRunner(counting(64), context_length=256), buffer_bytes=100_000) as engine:
        silent = ask(engine, "AB", sampling=replace(LONG, logprobs=20))  # over 600 kB in all; the other one 42 kB
        reading = ask(engine, "AB", sampling=LONG)
        assert len(read(reading).text) == 200
        eventually(lambda: engine.status().running == 0)
        with pytest.raises(RequestError, match="not read"):
            read(silent)


def test_a_forward_pass_that_fails_ends_its_requests_and_the_engine_goes_on() -> None:
    def fail(chunks: Sequence[Chunk]) -> None:
        if any(7 in chunk.tokens for chunk in chunks):
            raise ValueError("the device is confused")

    meter = FakeMeter()
    runner = FakeRunner(counting(64), slots=4, on_forward=fail)
    with engine_over(runner, meter=meter) as engine:
        broken = engine.generate(Request("r", ((5,),), GREEDY, n=2))
        with pytest.raises(EngineError, match="ValueError") as caught:
            read(broken)
        assert caught.value.status == 500 and "confused" not in caught.value.message
        eventually(lambda: engine.status().running == 0 and engine.status().pages_used == 0)
        assert read(ask(engine, "AB")).text == "CDEFGHIJ"
    assert [reason for reason, _ in meter.ends] == ["error", "length"]


def test_an_error_with_a_status_of_its_own_reaches_the_client_as_it_is() -> None:
    def gone(chunks: Sequence[Chunk]) -> None:
        raise UnavailableError("a neighbour left the stack", retry_after=3)

    with (
        engine_over(FakeRunner(counting(64), on_forward=gone)) as engine,
        pytest.raises(UnavailableError, match="left"),
    ):
        read(ask(engine, "AB"))


def test_a_bug_in_the_text_of_one_answer_ends_that_one_alone() -> None:
    class Bad(FakeTokenizer):
        def token_bytes(self, token: int, /) -> bytes:
            if token == 20:
                raise KeyError(token)
            return super().token_bytes(token)

    with engine_over(FakeRunner(counting(64)), tokenizer=Bad(eos=frozenset())) as engine:
        good = [ask(engine, "AB", sampling=replace(GREEDY, max_tokens=20)) for _ in range(2)]
        bad = ask(engine, (17,), sampling=LONG)
        more = ask(engine, "AB", sampling=replace(GREEDY, max_tokens=20))
        with pytest.raises(EngineError):
            read(bad)
        assert [len(read(answer).text) for answer in (*good, more)] == [20, 20, 20]


def test_a_runner_that_cannot_even_begin_fails_that_request_alone() -> None:
    class Picky(FakeRunner):
        def begin(self, slot: int, tokens: Sequence[int], adapter: int = 0) -> int:
            if tokens[0] == 13:
                raise RuntimeError("no")
            return super().begin(slot, tokens, adapter)

    with engine_over(Picky(counting(64))) as engine:
        with pytest.raises(EngineError):
            read(ask(engine, (13,)))
        assert read(ask(engine, "AB")).text == "CDEFGHIJ"


def test_closing_the_engine_ends_every_answer_with_an_error_even_in_mid_step() -> None:
    gate = threading.Semaphore(0)
    runner = FakeRunner(counting(64), slots=1, gate=gate)
    with engine_over(runner) as engine:
        running, waiting = ask(engine, "AB"), ask(engine, "AB")
        assert runner.entered.acquire(timeout=DEADLINE_S)
        closer = threading.Thread(target=engine.close)
        closer.start()
        for answer in (running, waiting):
            with pytest.raises(UnavailableError, match="unloaded"):
                read(answer)
        gate.release(100)
        closer.join(DEADLINE_S)
        assert not closer.is_alive() and runner.closed.is_set()
        with pytest.raises(UnavailableError):
            ask(engine, "AB")
        engine.close()


def test_an_engine_whose_slots_cannot_be_freed_stops_and_says_so() -> None:
    class Stuck(FakeRunner):
        def release(self, slot: int) -> None:
            raise RuntimeError("stuck")

    with engine_over(Stuck(counting(64))) as engine:
        first, second = ask(engine, "AB", sampling=LONG), ask(engine, "AB")
        for answer in (first, second):
            with pytest.raises(EngineError, match="stopped"):
                read(answer)
        with pytest.raises(EngineError, match="stopped"):
            ask(engine, "AB")


def test_clients_that_come_and_go_at_random_leave_nothing_behind() -> None:
    runner = FakeRunner(hashed(64), slots=3, pages=20, context_length=64)
    with engine_over(runner, prefill_tokens=6) as engine:

        def client(number: int) -> None:
            for round_ in range(8):
                answer = ask(engine, "C" * (1 + (number * 7 + round_) % 19), sampling=Sampling(max_tokens=20), n=2)
                for _ in range((number + round_) % 5):
                    answer.poll(0.5)
                if (number + round_) % 3:
                    answer.close()
                else:
                    read_rest(answer)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert not any(thread.is_alive() for thread in threads)
        eventually(lambda: engine.status().running == 0)
        status = engine.status()
    assert (status.waiting, status.pages_used) == (0, 0)


def read_rest(answer: Answer) -> None:
    until = time.monotonic() + DEADLINE_S
    for _ in answer:
        assert time.monotonic() < until
