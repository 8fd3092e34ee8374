"""BatchedEngine over a fake runner: what a client sees, and what the runner is asked."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from fakes_engine import GREEDY, ask, engine_over, eventually, read
from fakes_runner import FakeRunner, counting, hashed, scripted
from fakes_text import FakeMeter, FakeTokenizer

from agent.engine.base import EmbedRequest, Infill, Request, Sampling
from agent.errors import RequestError

SEEDED = Sampling(max_tokens=12, seed=7)


def test_an_answer_is_the_models_own_continuation() -> None:
    with engine_over(FakeRunner(counting(64))) as engine:
        got = read(ask(engine, "AB"))
    assert got.text == "CDEFGHIJ"
    assert got.finishes == {0: "length"}
    assert got.usage is not None and (got.usage.prompt, got.usage.completion, got.usage.cached) == (2, 8, 0)


def test_the_end_token_ends_the_answer_and_shows_nowhere() -> None:
    tokenizer = FakeTokenizer(eos=frozenset({37}))
    with engine_over(FakeRunner(counting(64)), tokenizer=tokenizer) as engine:
        got = read(ask(engine, "AB"))
        on = read(ask(engine, "AB", sampling=replace(GREEDY, ignore_eos=True)))
    assert (got.text, got.finishes[0]) == ("CD", "stop")
    assert (on.text, on.finishes[0]) == ("CDEFGHIJ", "length")


def test_requests_join_and_leave_between_steps_and_each_is_as_if_alone() -> None:
    prompts = ["A", "HELLO", "A LONG PROMPT THAT TAKES SEVERAL STEPS", "XYZ", "Q" * 30, "LAST"]
    alone = []
    for prompt in prompts:
        with engine_over(FakeRunner(hashed(64))) as engine:
            alone.append(read(ask(engine, prompt, sampling=SEEDED)).text)
    runner = FakeRunner(hashed(64), slots=3)
    with engine_over(runner, prefill_tokens=5) as engine:
        answers = [ask(engine, prompt, sampling=SEEDED) for prompt in prompts]
        together = [read(answer).text for answer in answers]
    assert together == alone
    assert any(len(call) > 1 for call in runner.calls), "nothing was computed together"


def test_those_who_decode_never_wait_for_a_long_prompt() -> None:
    gate = threading.Semaphore(0)
    runner = FakeRunner(counting(64), gate=gate, context_length=512)
    with engine_over(runner, prefill_tokens=8) as engine:
        first = ask(engine, "AB", sampling=replace(GREEDY, max_tokens=40))
        gate.release(2)
        eventually(lambda: len(runner.calls) == 2)
        long = ask(engine, "X" * 100)
        short = ask(engine, "YZ")
        gate.release(1000)
        read(first), read(long), read(short)
    during = [call for call in runner.calls if any(len(chunk.tokens) > 1 for chunk in call if chunk.start)]
    assert during, "the long prompt came in chunks"
    for call in during:
        assert any(chunk.slot == 0 and len(chunk.tokens) == 1 for chunk in call), "a step without the decoding slot"
        assert sum(len(chunk.tokens) for chunk in call if len(chunk.tokens) > 1) <= 8
    both = next(call for call in runner.calls if len(call) == 3)
    assert sorted(len(chunk.tokens) for chunk in both) == [1, 2, 6], (
        "the short prompt has its share beside the long one"
    )


def test_logits_are_asked_for_only_where_a_token_is_chosen() -> None:
    runner = FakeRunner(counting(64))
    with engine_over(runner, prefill_tokens=4) as engine:
        read(ask(engine, "ABCDEFGHIJ", sampling=replace(GREEDY, max_tokens=3)))
    assert [(len(c.tokens), c.logits) for call in runner.calls for c in call] == [
        (4, "none"),
        (4, "none"),
        (2, "last"),
        (1, "last"),
        (1, "last"),
    ]


def test_siblings_wait_for_the_first_ones_prefix_and_reuse_it() -> None:
    runner = FakeRunner(hashed(64))
    with engine_over(runner, prefill_tokens=8) as engine:
        got = read(ask(engine, "A PROMPT OF MANY TOKENS", sampling=SEEDED, n=3))
    assert runner.begun[0] == (23, 0)
    assert [held for _, held in runner.begun[1:]] == [20, 20]
    assert got.usage is not None
    assert (got.usage.prompt, got.usage.completion, got.usage.cached) == (23, 36, 0)
    assert len(set(got.texts.values())) == 3, "choices of one request differ"


def test_cached_tokens_are_counted_once_for_each_prompt() -> None:
    with engine_over(FakeRunner(hashed(64))) as engine:
        read(ask(engine, "A PROMPT OF MANY TOKENS", sampling=SEEDED))
        again = read(ask(engine, "A PROMPT OF MANY TOKENS", sampling=SEEDED, n=4)).usage
    assert again is not None and (again.prompt, again.cached) == (23, 20)


def test_each_prompt_has_its_n_choices_in_order() -> None:
    with engine_over(FakeRunner(counting(64))) as engine:
        got = read(ask(engine, "A", "H", (10, 11), n=2, sampling=replace(GREEDY, max_tokens=2)))
    assert got.texts == {0: "BC", 1: "BC", 2: "IJ", 3: "IJ", 4: ",-", 5: ",-"}
    assert [delta.usage is not None for delta in got.deltas].count(True) == 1
    assert got.usage is not None and (got.usage.prompt, got.usage.completion) == (4, 12)


def test_the_same_seed_gives_the_same_text_whatever_else_is_in_the_batch() -> None:
    with engine_over(FakeRunner(hashed(64), slots=8)) as engine:
        alone = read(ask(engine, "SEED", sampling=SEEDED)).text
        others = [ask(engine, f"OTHER {i}", sampling=Sampling(max_tokens=20)) for i in range(5)]
        among = read(ask(engine, "SEED", sampling=SEEDED)).text
        [read(other) for other in others]
        unseeded = {read(ask(engine, "SEED", sampling=Sampling(max_tokens=12))).text for _ in range(3)}
    assert among == alone
    assert len(unseeded) == 3, "without a seed answers differ"


def test_many_choices_of_one_request_do_not_shut_another_out() -> None:
    gate = threading.Semaphore(0)
    runner = FakeRunner(counting(64), slots=2, gate=gate)
    with engine_over(runner) as engine:
        big = ask(engine, "A", n=20, sampling=replace(GREEDY, max_tokens=30))
        assert runner.entered.acquire(timeout=30)  # its first choice is being computed
        other = ask(engine, "HHH")
        gate.release(10_000)
        read(other)
        read(big)
    order = [tokens for tokens, _ in runner.begun]
    assert order.index(3) < 10, "the other request was served only after most choices of the first"


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers() -> None:
    with engine_over(FakeRunner(counting(64), context_length=20)) as engine:
        with pytest.raises(RequestError, match=r"21 tokens.*20") as caught:
            ask(engine, "X" * 21)
        assert caught.value.param == "prompt" and caught.value.details == {"tokens": 21, "limit": 20}
        with pytest.raises(RequestError):
            ask(engine, "X" * 20)
        assert read(ask(engine, "X" * 20, sampling=Sampling(max_tokens=0))).finishes == {0: "length"}


@pytest.mark.parametrize("prompt", ["A" * 3000, Infill("A" * 1500, "B" * 1500)])
def test_a_prompt_far_longer_than_the_context_is_refused_unread(prompt: str | Infill) -> None:
    class Unread(FakeTokenizer):
        def encode(self, text: str, /, special: bool) -> list[int]:
            raise AssertionError("it was read")

    with (
        engine_over(FakeRunner(counting(64)), tokenizer=Unread()) as engine,
        pytest.raises(RequestError, match="more than 256 tokens") as caught,
    ):
        engine.generate(Request("r", (prompt,)))
    assert caught.value.param == "prompt" and caught.value.details == {"limit": 256}


def test_an_answer_ends_where_the_context_does() -> None:
    with engine_over(FakeRunner(counting(64), context_length=20)) as engine:
        for asked in (None, 1000):
            got = read(ask(engine, "X" * 15, sampling=Sampling(temperature=0.0, max_tokens=asked)))
            assert (len(got.text), got.finishes[0]) == (5, "length")


def test_the_limit_is_what_the_cache_can_hold_where_that_is_less() -> None:
    with engine_over(FakeRunner(counting(64), context_length=100, pages=4, page_tokens=4)) as engine:
        with pytest.raises(RequestError, match="16"):
            ask(engine, "X" * 17)
        assert len(read(ask(engine, "X" * 10, sampling=replace(GREEDY, max_tokens=99))).text) == 6


def test_prompts_that_cannot_be_are_refused() -> None:
    with engine_over(FakeRunner(counting(64))) as engine:
        for tokens in ((1, 64), (-1,)):
            with pytest.raises(RequestError, match="vocabulary"):
                ask(engine, tokens)
        with pytest.raises(RequestError, match="vocabulary"):
            ask(engine, "A", sampling=Sampling(logit_bias={64: 1.0}))
        with pytest.raises(RequestError, match="empty"):
            ask(engine, "")
        with pytest.raises(RequestError, match="embed"):
            engine.embed(EmbedRequest("r", ("text",)))


def test_a_model_that_knows_no_gaps_goes_on_from_the_prefix() -> None:
    with engine_over(FakeRunner(counting(64))) as engine:
        plain = read(ask(engine, "AB", sampling=replace(GREEDY, max_tokens=3)))
        gap = read(engine.generate(Request("r", (Infill("AB", "Z"),), replace(GREEDY, max_tokens=3))))
    assert gap.text == plain.text


def test_an_empty_prompt_begins_as_after_the_end_of_a_text() -> None:
    with engine_over(FakeRunner(counting(64)), tokenizer=FakeTokenizer(eos=frozenset({36}))) as engine:
        got = read(ask(engine, "", sampling=replace(GREEDY, max_tokens=3)))
    assert got.text == "EFG"


def test_no_tokens_asked_for_is_an_answer_without_any() -> None:
    runner = FakeRunner(counting(64))
    with engine_over(runner) as engine:
        got = read(ask(engine, "AB", n=2, sampling=replace(GREEDY, max_tokens=0)))
    assert (got.texts, got.finishes) == ({0: "", 1: ""}, {0: "length", 1: "length"})
    assert runner.calls == []


def test_the_meter_hears_of_steps_first_tokens_and_ends() -> None:
    meter = FakeMeter()
    with engine_over(FakeRunner(counting(64)), meter=meter) as engine:
        got = read(ask(engine, "ABC", sampling=replace(GREEDY, max_tokens=4)))
    assert meter.steps == [(3, 1), (0, 1), (0, 1), (0, 1)]
    assert len(meter.firsts) == 1 and meter.firsts[0] > 0
    assert meter.ends == [("length", got.usage)]


def test_the_status_shows_who_runs_who_waits_and_how_full_the_cache_is() -> None:
    gate = threading.Semaphore(0)
    runner = FakeRunner(scripted(64, [40], 1), slots=2, gate=gate, pages=100)
    with engine_over(runner) as engine:
        before = engine.status()
        answers = [ask(engine, "ABCDE") for _ in range(5)]
        gate.release(1)  # the first step may have begun when only the first was there
        eventually(lambda: engine.status().running == 2)
        eventually(lambda: engine.status().waiting == 3)
        status = engine.status()
        gate.release(1000)
        [read(answer) for answer in answers]
        eventually(lambda: engine.status().running == 0)
        after = engine.status()
    assert (before.model, before.kind, before.slots, before.context_length) == ("fake", "text", 2, 256)
    assert (before.running, before.pages, before.pages_used, before.last_token_at) == (0, 100, 0, None)
    assert (status.pages_used, status.fingerprint) == (4, "fp")
    assert (after.waiting, after.pages_used) == (0, 0)
    assert after.last_token_at is not None


def test_prompts_are_read_in_the_clients_thread() -> None:
    seen: list[str] = []

    class Watched(FakeTokenizer):
        def encode(self, text: str, /, special: bool) -> list[int]:
            seen.append(threading.current_thread().name)
            return super().encode(text, special)

    with engine_over(FakeRunner(counting(64)), tokenizer=Watched(eos=frozenset())) as engine:
        read(ask(engine, "AB"))
        names = [thread.name for thread in threading.enumerate()]
    assert seen == [threading.current_thread().name]
    assert "engine fake" in names
