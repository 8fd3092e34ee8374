"""Speculation over real forward passes: what was wrong leaves no trace, and greedy tokens are those of transformers.

Tokens are compared one for one with float weights: between the logits of one token a pass and of several there are
1e-6 of their range, and the checkpoints' two best logits are further apart than that. With packed weights the step's
company changes the rounding of activations, with and without speculation; there it is the logits that are compared.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from checkpoints import assert_close, prompt_tokens, random_checkpoint
from fakes_engine import read
from fakes_speculation import FreeTokens
from fakes_text import FakeMeter, FakeTokenizer
from stage_forms import FORMS, open_form

from agent.engine.base import Chunk, Floats, Request, Sampling
from agent.engine.batched import BatchedEngine
from agent.engine.batched_guesses import Guesses
from agent.engine.draft import Draft
from agent.engine.quantise import Quantisation
from agent.engine.staged import StagedRunner

VOCAB = 331
FAMILIES = ("llama", "qwen3", "mistral-window", "gemma3")
forms_and_families = pytest.mark.parametrize(("form", "family"), [(form, one) for form in FORMS for one in FAMILIES])


def opened(runner: StagedRunner, slot: int, tokens: list[int], room: int = 64) -> None:
    assert runner.begin(slot, tokens) == 0
    assert runner.reserve(slot, len(tokens) + room)
    runner.forward([Chunk(slot, 0, tokens, "none")])


def after_wrong_guesses(runner: StagedRunner, slot: int, tokens: list[int], wrong: list[int]) -> None:
    """The last of ``tokens`` is computed with guesses after it, of which none is kept."""
    runner.forward([Chunk(slot, len(tokens) - 1, [tokens[-1], *wrong], "all", len(wrong))])
    runner.settle(slot, len(tokens))


@forms_and_families
def test_every_row_after_guesses_is_that_of_transformers_and_wrong_ones_leave_no_trace(form: str, family: str) -> None:
    checkpoint = random_checkpoint(family)
    runner = open_form(form, checkpoint.folder)
    tokens, other = prompt_tokens(60, seed=21), prompt_tokens(45, seed=22)
    opened(runner, 0, tokens[:58])
    opened(runner, 1, other[:44])
    # Two right and six wrong, across the end of a page, beside a neighbour that guesses nothing.
    guessed = [*tokens[58:], 3, 4, 5, 6, 7, 8]
    chunks = [Chunk(0, 58, [tokens[58]], "last"), Chunk(1, 44, other[44:], "last")]
    chunks[0] = Chunk(0, 58, guessed, "all", len(guessed) - 1)
    rows = runner.forward(chunks).copy()
    assert_close(rows[:-1], checkpoint.logits([*tokens[:58], *guessed])[58:])
    assert_close(rows[-1:], checkpoint.logits(other)[-1:])
    runner.settle(0, 60)
    further = prompt_tokens(9, seed=23)
    assert_close(runner.forward([Chunk(0, 60, further, "all")]), checkpoint.logits([*tokens, *further])[60:])
    # Who begins with the dropped tokens finds none of them in the cache.
    dropped = [*tokens[:58], *guessed, *range(20, 60)]
    assert runner.begin(2, dropped) <= 60
    runner.close()


@pytest.mark.parametrize("form", FORMS)
def test_wrong_guesses_beyond_the_rounding_of_an_8_bit_cache_leave_no_trace(form: str) -> None:
    """OpenVINO keeps keys by channel of a page, so what was dropped may have widened a page's scale."""
    checkpoint = random_checkpoint("llama")
    tokens, wrong = prompt_tokens(50, seed=24), prompt_tokens(8, seed=25)
    rows: list[Floats] = []
    quantisation: Quantisation = "int8"
    for guesses in ([], wrong):
        runner = open_form(form, checkpoint.folder, quantisation)
        opened(runner, 0, tokens[:40])
        for length in range(41, 50):
            if guesses:
                after_wrong_guesses(runner, 0, tokens[:length], guesses)
            else:
                runner.forward([Chunk(0, length - 1, tokens[length - 1 : length])])
        rows.append(runner.forward([Chunk(0, 49, tokens[49:])]).copy())
        runner.close()
    assert_close(rows[1], rows[0], 2e-2)


def answered(runner: StagedRunner, prompts: list[list[int]], guesses: Guesses | None, meter: FakeMeter) -> list[str]:
    words = {token: chr(0x4E00 + token).encode() for token in range(VOCAB)}
    tokenizer = FakeTokenizer(words, eos=frozenset())
    engine = BatchedEngine("real", runner, tokenizer, None, None, meter, guesses=guesses)
    sampling = Sampling(temperature=0.0, max_tokens=40)
    seeded = replace(sampling, temperature=0.8, seed=3)
    try:
        answers = [engine.generate(Request("r", (tuple(p),), s)) for p in prompts for s in (sampling, seeded)]
        return [read(answer).text for answer in answers]
    finally:
        engine.close()


@pytest.mark.parametrize("source", ["lookup", "draft"])
@pytest.mark.parametrize(("form", "family"), [(form, one) for form in FORMS for one in ("llama", "mistral-window")])
def test_answers_are_token_for_token_those_without_speculation(form: str, family: str, source: str) -> None:
    checkpoint = random_checkpoint(family)
    phrase = prompt_tokens(12, seed=26)
    prompts = [phrase * 4, prompt_tokens(30, seed=27)]
    plain = answered(open_form(form, checkpoint.folder), prompts, None, FakeMeter())
    assert [ord(char) - 0x4E00 for char in plain[0]] == checkpoint.greedy(prompts[0], 40)
    draft = None
    if source == "draft":  # the model itself, rounded: right often, not always
        draft = Draft(open_form(form, checkpoint.folder, "int8"), vocab_size=VOCAB, prefill_tokens=64)
    meter = FakeMeter()
    quick = answered(open_form(form, checkpoint.folder), prompts, Guesses(draft, FreeTokens()), meter)
    assert quick == plain
    tried = [(proposed, accepted) for one, proposed, accepted in meter.guesses if one == source]
    if source == "draft":
        assert sum(accepted for _, accepted in tried) > 8
        assert np.mean([accepted / proposed for proposed, accepted in tried]) < 1.0
