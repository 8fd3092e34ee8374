"""Speculation in the engine: the same answers as without, in fewer steps, whatever a request asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from fakes_engine import GREEDY, Read, engine_over, eventually, read
from fakes_runner import FakeRunner, counting, hashed
from fakes_speculation import FreeTokens, stuttering
from fakes_text import FakeMeter, FakeTokenizer

from agent.engine.base import Chunk, Grammar, Request, Sampling
from agent.engine.batched_guesses import Guesses
from agent.engine.draft import Draft
from agent.errors import EngineError

VOCAB = 64
LONG = replace(GREEDY, max_tokens=60)


def by_lookup() -> Guesses:
    return Guesses(cost=FreeTokens())


def by_draft(runner: FakeRunner, vocab_size: int = VOCAB, prefill_tokens: int = 256) -> Guesses:
    return Guesses(Draft(runner, vocab_size=vocab_size, prefill_tokens=prefill_tokens), FreeTokens())


def answers(
    requests: list[Request], guesses: Guesses | None, *, pages: int = 1000, meter: FakeMeter | None = None
) -> tuple[list[Read], FakeRunner]:
    runner = FakeRunner(stuttering(VOCAB), vocab_size=VOCAB, pages=pages)
    with engine_over(runner, guesses=guesses, meter=meter, tokenizer=FakeTokenizer(eos=frozenset({5}))) as engine:
        going = [engine.generate(request) for request in requests]
        got = [read(answer) for answer in going]
        eventually(lambda: engine.status().pages_used == 0)
    return got, runner


REQUESTS: dict[str, Callable[[], list[Request]]] = {
    "greedy": lambda: [Request("r", ("HELLO WORLD",), LONG)],
    "sampled with a seed": lambda: [Request("r", ("HELLO WORLD",), Sampling(seed=s, max_tokens=50)) for s in range(6)],
    "nucleus": lambda: [Request("r", ("ABCABC",), Sampling(seed=1, top_p=0.8, top_k=9, min_p=0.01, max_tokens=50))],
    "several choices": lambda: [Request("r", ("ABCABC", "XYXY"), Sampling(seed=3, max_tokens=30), n=3)],
    "penalties": lambda: [
        Request(
            "r",
            ("ABCABC",),
            Sampling(seed=3, max_tokens=40, presence_penalty=0.4, frequency_penalty=0.2, repetition_penalty=1.1),
        )
    ],
    "a bias": lambda: [Request("r", ("ABCABC",), replace(LONG, logit_bias={35: 3.0, 34: -100.0}))],
    "log probabilities": lambda: [Request("r", ("ABCABC",), replace(LONG, logprobs=3), echo=True)],
    "a stop string": lambda: [Request("r", ("ABCDEABCDE",), replace(LONG, stop=("EAB", "ZZ")))],
    "a grammar": lambda: [Request("r", ("ABCABC",), LONG, Grammar("regex", "ABCABCABCABCABCABC"))],
    "the length": lambda: [Request("r", ("ABCABCABC",), replace(LONG, max_tokens=n)) for n in (1, 2, 3, 7, 40)],
    "a full context": lambda: [Request("r", ("AB" * 120,), replace(LONG, max_tokens=None))],
}


def steps(runner: FakeRunner) -> int:
    """Of all sequences, whatever others were computed beside them."""
    return sum(map(len, runner.calls))


def told(reads: list[Read]) -> list[object]:
    """All but what a prompt found in the cache, which the moment of its arrival decides."""
    return [(one.texts, one.finishes, one.logprobs, one.usage and replace(one.usage, cached=0)) for one in reads]


@pytest.mark.parametrize("asked", REQUESTS)
def test_an_answer_is_the_same_with_guesses_from_its_text_as_without(asked: str) -> None:
    meter = FakeMeter()
    plain, plainly = answers(REQUESTS[asked](), None)
    quick, quickly = answers(REQUESTS[asked](), by_lookup(), meter=meter)
    assert told(quick) == told(plain)
    if asked != "a stop string":
        assert sum(accepted for _, _, accepted in meter.guesses) > 0
        assert steps(quickly) < steps(plainly)


@pytest.mark.parametrize("asked", REQUESTS)
def test_an_answer_is_the_same_with_a_draft_model_as_without(asked: str) -> None:
    meter = FakeMeter()
    plain, plainly = answers(REQUESTS[asked](), None)
    draft = FakeRunner(stuttering(VOCAB, noise=1.3), vocab_size=VOCAB, context_length=250)
    quick, quickly = answers(REQUESTS[asked](), by_draft(draft), meter=meter)
    assert told(quick) == told(plain)
    assert draft.closed.is_set()
    if asked not in ("a stop string", "a full context"):
        assert steps(quickly) < steps(plainly)
        assert any(source == "draft" for source, _, _ in meter.guesses) or asked == "a grammar"


@pytest.fixture
def perfect() -> Iterator[FakeRunner]:
    """A draft that is the model itself."""
    yield FakeRunner(hashed(VOCAB), vocab_size=VOCAB)


def test_a_draft_draws_with_the_random_number_that_the_model_will_draw_with(perfect: FakeRunner) -> None:
    """So a draft as good as the model is right every time, at any temperature: nothing is left to chance."""
    meter = FakeMeter()
    sampling = Sampling(temperature=1.5, seed=4, max_tokens=40, frequency_penalty=0.3)
    with engine_over(FakeRunner(hashed(VOCAB)), guesses=by_draft(perfect), meter=meter) as engine:
        read(engine.generate(Request("r", ("HI",), sampling)))
    drafted = [(proposed, accepted) for source, proposed, accepted in meter.guesses if source == "draft"]
    assert drafted and all(proposed == accepted for proposed, accepted in drafted)


def test_the_distribution_is_that_of_the_model_where_guesses_come_from_a_bad_draft() -> None:
    """Chi-squared over the third token, which is guessed: against the probabilities that two rows of logits give."""
    vocab, count = 8, 1500

    def fixed(bias: float) -> Callable[[object], np.ndarray]:
        return lambda tokens: (np.arange(vocab) * bias).astype(np.float32)

    runner = FakeRunner(fixed(0.3), vocab_size=vocab, slots=8)
    draft = FakeRunner(fixed(-0.2), vocab_size=vocab, slots=8)
    seen = np.zeros(vocab)
    with engine_over(runner, guesses=by_draft(draft, vocab)) as engine:
        for request in range(count // 100):
            got = read(engine.generate(Request("r", ((1,),), Sampling(seed=request, max_tokens=3), n=100)))
            for text in got.texts.values():
                seen[ord(text[2]) - 32] += 1
    weights = np.exp(np.arange(vocab) * 0.3)
    expected = count * weights / weights.sum()
    assert ((seen - expected) ** 2 / expected).sum() < 24.3, "one in a thousand, with seven degrees of freedom"


def test_pages_that_run_out_are_never_taken_for_a_guess_and_change_no_answer() -> None:
    def asked() -> list[Request]:
        return [Request("r", (f"ABCABC{i}",), replace(LONG, max_tokens=40)) for i in range(4)]

    plain, _ = answers(asked(), None, pages=24)
    quick, runner = answers(asked(), by_lookup(), pages=24)
    assert told(quick) == told(plain)
    assert any(chunk.guessed for call in runner.calls for chunk in call)


def test_a_client_that_leaves_frees_the_slot_of_the_draft_too() -> None:
    draft = FakeRunner(stuttering(VOCAB, noise=2.0), vocab_size=VOCAB)
    runner = FakeRunner(stuttering(VOCAB), vocab_size=VOCAB)
    with engine_over(runner, guesses=by_draft(draft)) as engine:
        answer = engine.generate(Request("r", ("HELLO",), replace(GREEDY, max_tokens=200)))
        eventually(lambda: draft.cache_use().used > 0)
        answer.close()
        eventually(lambda: engine.status().running == 0 and draft.cache_use().used == 0)


def test_a_long_prompt_is_read_by_the_draft_in_slices_and_its_answer_does_not_wait() -> None:
    draft = FakeRunner(hashed(VOCAB), vocab_size=VOCAB)
    runner = FakeRunner(hashed(VOCAB), vocab_size=VOCAB)
    with engine_over(runner, guesses=by_draft(draft, prefill_tokens=16)) as engine:
        read(engine.generate(Request("r", (tuple(range(1, 61)),), replace(GREEDY, max_tokens=30))))
    assert max(len(chunk.tokens) for call in draft.calls for chunk in call) <= 16
    assert any(chunk.guessed for call in runner.calls for chunk in call)


def test_a_draft_that_breaks_is_not_asked_again_and_costs_no_answer() -> None:
    def broken(chunks: object) -> None:
        raise EngineError("no more")

    plain, _ = answers([Request("r", ("HELLO",), LONG)], None)
    draft = FakeRunner(counting(VOCAB), vocab_size=VOCAB, on_forward=broken)
    got, _ = answers([Request("r", ("HELLO",), LONG)], by_draft(draft))
    assert told(got) == told(plain)
    assert draft.closed.is_set() and len(draft.calls) == 1


def test_a_draft_with_fewer_or_more_columns_than_the_model_is_cut_to_fit() -> None:
    for columns in (VOCAB - 8, VOCAB + 8):
        plain, _ = answers([Request("r", ("HELLO",), Sampling(seed=1, max_tokens=60))], None)
        draft = FakeRunner(stuttering(columns), vocab_size=columns)
        got, _ = answers([Request("r", ("HELLO",), Sampling(seed=1, max_tokens=60))], by_draft(draft))
        assert told(got) == told(plain)


def test_guesses_are_not_made_beside_a_prompt() -> None:
    runner = FakeRunner(stuttering(VOCAB), vocab_size=VOCAB)
    with engine_over(runner, guesses=by_lookup(), prefill_tokens=8) as engine:
        first = engine.generate(Request("r", ("ABCABC",), replace(GREEDY, max_tokens=100)))
        second = engine.generate(Request("r", ("X" * 90,), GREEDY))
        read(first), read(second)

    def reads(chunk: Chunk) -> bool:
        return len(chunk.tokens) - chunk.guessed > 1

    assert not any(chunk.guessed for call in runner.calls if any(map(reads, call)) for chunk in call)


def test_what_the_meter_hears_is_what_was_guessed() -> None:
    meter = FakeMeter()
    with engine_over(FakeRunner(counting(10), vocab_size=10), guesses=by_lookup(), meter=meter) as engine:
        got = read(engine.generate(Request("r", ((1, 2),), replace(GREEDY, max_tokens=50))))
    assert got.usage is not None and got.usage.completion == 50 == sum(new for _, new in meter.steps)
    assert sum(prompt for prompt, _ in meter.steps) == 2, "guesses are no prompt"
    assert {source for source, _, _ in meter.guesses} == {"lookup"}
    assert sum(accepted for _, _, accepted in meter.guesses) >= 30
