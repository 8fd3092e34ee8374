"""Every form of the decoder on the CPU passes the same tests. The oracle is transformers, with float32 weights.

For packed weights the oracle gets the very weights that the packed ones stand for, so what is left is the arithmetic of
the form: activations rounded to int8 by block, half-precision scales, an 8-bit cache in OpenVINO.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from checkpoints import FAMILIES, assert_close, prompt_tokens, random_checkpoint
from packed_oracle import packed_oracle
from stage_forms import FORMS, open_form, read_spec

from agent.engine.base import Chunk, Floats
from agent.engine.quantise import Quantisation
from agent.engine.staged import StagedRunner
from agent.errors import ModelError

REFUSED = {("openvino", "gemma2")}
SERVED = [(form, name) for form in FORMS for name in FAMILIES if (form, name) not in REFUSED]
form_and_family = pytest.mark.parametrize(("form", "family"), SERVED)


def append(
    runner: StagedRunner, slot: int, start: int, tokens: list[int], logits: Literal["last", "all"] = "last"
) -> Floats:
    """One chunk alone."""
    return runner.forward([Chunk(slot, start, tokens, logits)]).copy()


def opened(runner: StagedRunner, slot: int, tokens: list[int]) -> int:
    held = runner.begin(slot, tokens)
    assert runner.reserve(slot, len(tokens))
    return held


def greedy(runner: StagedRunner, slot: int, prompt: list[int], count: int) -> list[int]:
    held = runner.begin(slot, prompt)
    assert runner.reserve(slot, len(prompt) + count)
    tokens = [int(append(runner, slot, held, prompt[held:])[-1].argmax())]
    while len(tokens) < count:
        at = len(prompt) + len(tokens) - 1
        tokens.append(int(append(runner, slot, at, tokens[-1:])[-1].argmax()))
    runner.release(slot)
    return tokens


@form_and_family
def test_logits_of_prompt_chunks_and_single_tokens_equal_those_of_transformers(form: str, family: str) -> None:
    checkpoint = random_checkpoint(family)
    tokens = prompt_tokens(70, seed=1)
    runner = open_form(form, checkpoint.folder)
    opened(runner, 2, tokens)
    parts = [append(runner, 2, 0, tokens[:41], "all"), append(runner, 2, 41, tokens[41:64], "all")]
    parts += [append(runner, 2, at, tokens[at : at + 1]) for at in range(64, 70)]
    assert_close(np.concatenate(parts), checkpoint.logits(tokens))
    runner.close()


def some(*families: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("form", "family"), [pair for pair in SERVED if pair[1] in families])


@some("llama", "qwen2", "qwen3", "mistral-window", "ministral3", "gemma2", "gemma3", "phi3")
def test_one_step_may_decode_some_slots_and_read_the_prompts_of_others(form: str, family: str) -> None:
    checkpoint = random_checkpoint(family)
    runner = open_form(form, checkpoint.folder, slots=8)
    texts = {slot: prompt_tokens(30 + slot, seed=slot) for slot in (0, 3, 4, 6, 7)}
    for slot, tokens in texts.items():
        opened(runner, slot, tokens)
        if slot != 4:
            runner.forward([Chunk(slot, 0, tokens[:-1], "none")])
    # Slot 4 reads its prompt between the others' single tokens; slot 3 wants nothing, slot 4 everything.
    chunks = [
        Chunk(6, len(texts[6]) - 1, texts[6][-1:], "last"),
        Chunk(3, len(texts[3]) - 1, texts[3][-1:], "none"),
        Chunk(4, 0, texts[4], "all"),
        Chunk(0, len(texts[0]) - 1, texts[0][-1:], "last"),
        Chunk(7, len(texts[7]) - 1, texts[7][-1:], "last"),
    ]
    logits = runner.forward(chunks)
    expected = {slot: checkpoint.logits(tokens) for slot, tokens in texts.items()}
    assert_close(logits, np.concatenate([expected[6][-1:], expected[4], expected[0][-1:], expected[7][-1:]]))
    # And nobody's cache was touched by the company: slot 3 goes on.
    assert runner.reserve(3, len(texts[3]) + 1)
    assert_close(append(runner, 3, len(texts[3]), [5]), checkpoint.logits([*texts[3], 5])[-1:])
    runner.close()


@form_and_family
def test_a_model_cut_in_stages_gives_the_tokens_of_the_whole(form: str, family: str) -> None:
    checkpoint = random_checkpoint(family)
    ends = list(range(read_spec(checkpoint.folder).layers + 1))  # a stage for each layer
    ranges = [range(start, stop) for start, stop in itertools.pairwise(ends)]
    runner = open_form(form, checkpoint.folder, cuts=ranges)
    prompt = prompt_tokens(20, seed=2)
    assert greedy(runner, 0, prompt, 5) == checkpoint.greedy(prompt, 5)
    runner.close()


@pytest.mark.parametrize("form", FORMS)
def test_a_beginning_that_the_cache_holds_is_not_computed_again_and_changes_nothing(form: str) -> None:
    checkpoint = random_checkpoint("qwen3")
    runner = open_form(form, checkpoint.folder)
    shared = prompt_tokens(64, seed=3)
    first, second, third = [[*shared, *prompt_tokens(9, seed=seed)] for seed in (4, 5, 6)]
    assert opened(runner, 0, first) == 0
    runner.forward([Chunk(0, 0, first, "none")])
    held = opened(runner, 1, second)  # slot 0 is still open
    assert held >= 32
    assert_close(append(runner, 1, held, second[held:], "all"), checkpoint.logits(second)[held:])
    runner.reserve(0, len(first) + 1)
    assert_close(append(runner, 0, len(first), [7]), checkpoint.logits([*first, 7])[-1:])
    runner.release(0)
    runner.release(1)
    held = opened(runner, 2, third)
    assert held >= 32
    assert_close(append(runner, 2, held, third[held:], "all"), checkpoint.logits(third)[held:])
    runner.close()


# Of the range of the logits, against the same weights in float32. Measured on these random checkpoints, which amplify
# errors far more than trained ones: 4.0e-2 (ONNX Runtime) and 3.2e-2 (OpenVINO) at most. Twice that is the bound;
# nibbles in the wrong order or a scale of the wrong group give 3e-1 and more.
ARITHMETIC = 8e-2


@some("llama", "llama-biased", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "granite")
@pytest.mark.parametrize("quantisation", ["int8", "int4", "int4-g32"])
def test_packed_weights_compute_what_they_stand_for(form: str, family: str, quantisation: Quantisation) -> None:
    checkpoint = random_checkpoint(family)
    tokens = prompt_tokens(40, seed=8)
    runner = open_form(form, checkpoint.folder, quantisation)
    opened(runner, 0, tokens)
    parts = [append(runner, 0, 0, tokens[:32], "all")]
    parts += [append(runner, 0, at, tokens[at : at + 1]) for at in range(32, 40)]
    assert_close(np.concatenate(parts), packed_oracle(checkpoint.folder, quantisation).logits(tokens), ARITHMETIC)
    runner.close()


@pytest.mark.parametrize(("form", "family"), REFUSED & {(form, name) for form in FORMS for name in FAMILIES})
def test_a_family_that_a_form_cannot_compute_is_refused_with_what_to_do(form: str, family: str) -> None:
    with pytest.raises(ModelError) as caught:
        open_form(form, random_checkpoint(family).folder)
    assert caught.value.hint is not None and "onnxruntime" in caught.value.hint


@pytest.mark.parametrize("form", FORMS)
def test_longrope_is_settled_for_the_context_that_is_opened(form: str) -> None:
    """Beyond the original 64 tokens: the long divisors, as above. Within them: the short ones."""
    checkpoint = random_checkpoint("phi3")
    tokens = prompt_tokens(60, seed=12)
    runner = open_form(form, checkpoint.folder, context_length=64)
    opened(runner, 0, tokens)
    short = checkpoint.logits(tokens, context=64)
    assert_close(append(runner, 0, 0, tokens, "all"), short)
    assert np.abs(short - checkpoint.logits(tokens)).max() > 1
    runner.close()


@pytest.mark.parametrize("form", FORMS)
def test_packed_weights_are_found_again_on_disk(form: str, tmp_path: Path) -> None:
    folder = random_checkpoint("qwen2").folder
    prompt = prompt_tokens(12, seed=9)
    runner = open_form(form, folder, "int4", cache=tmp_path)
    tokens = greedy(runner, 0, prompt, 8)
    runner.close()
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    again = open_form(form, folder, "int4", cache=tmp_path)
    assert file.stat().st_mtime_ns == written
    assert greedy(again, 0, prompt, 8) == tokens
    again.close()


@pytest.mark.parametrize("form", FORMS)
def test_a_full_context_is_reached_to_its_last_token(form: str) -> None:
    checkpoint = random_checkpoint("mistral-window")
    tokens = prompt_tokens(256, seed=10)
    runner = open_form(form, checkpoint.folder, slots=2)
    opened(runner, 0, tokens)
    runner.forward([Chunk(0, 0, tokens[:255], "none")])
    other = prompt_tokens(20, seed=11)
    opened(runner, 1, other)
    runner.forward([Chunk(1, 0, other[:-1], "none")])
    chunks = [Chunk(0, 255, tokens[255:]), Chunk(1, 19, other[19:])]
    expected = np.stack([checkpoint.logits(tokens)[-1], checkpoint.logits(other)[-1]])
    assert_close(runner.forward(chunks), expected)
    # Slot 0 is full and has nothing to compute; its neighbour goes on beside it.
    assert runner.reserve(1, 21)
    assert_close(append(runner, 1, 20, [9]), checkpoint.logits([*other, 9])[-1:])
    runner.close()
