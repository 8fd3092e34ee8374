"""The sampler against a slow reference in float64, and the promises that clients rely on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.engine.base import Floats, Sampling
from agent.engine.sampler import Sampler, largest, survivors
from agent.errors import EngineError

VOCAB = 40
PLAIN = Sampling()


def row_of(seed: int, size: int = VOCAB) -> Floats:
    return (np.random.default_rng(seed).standard_normal(size) * 2).astype(np.float32)


def sampler(
    sampling: Sampling = PLAIN, *, seed: int = 0, choice: int = 0, vocab: int = VOCAB, prompt: tuple[int, ...] = ()
) -> Sampler:
    return Sampler(sampling, vocab_size=vocab, seed=seed, choice=choice, prompt=prompt)


def assert_fits(counts: NDArray[np.int64], expected: NDArray[np.float64]) -> None:
    """Pearson's chi-square at one in a thousand; its critical value by Wilson and Hilferty (1931)."""
    often = expected >= 5
    seen, due = np.append(counts[often], counts[~often].sum()), np.append(expected[often], expected[~often].sum())
    if due[-1] == 0:
        assert seen[-1] == 0
        seen, due = seen[:-1], due[:-1]
    freedom = len(due) - 1
    spread = 2 / (9 * freedom)
    assert ((seen - due) ** 2 / due).sum() < freedom * (1 - spread + 3.09 * math.sqrt(spread)) ** 3


def reference(
    row: Floats,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    logit_bias: Mapping[int, float] | None = None,
    counts: Mapping[int, int] | None = None,
    presence_penalty: float = 0.0,
    frequency_penalty: float = 0.0,
    repetition_penalty: float = 1.0,
) -> NDArray[np.float64]:
    """The probabilities that the parameters describe, straight from their definitions."""
    logits = [float(value) for value in row]
    for token, bias in (logit_bias or {}).items():
        logits[token] += bias
    for token, count in (counts or {}).items():
        value = logits[token]
        value = value / repetition_penalty if value > 0 else value * repetition_penalty
        logits[token] = value - count * frequency_penalty - presence_penalty * (count > 0)
    high = max(logits)
    weights = {token: math.exp((value - high) / temperature) for token, value in enumerate(logits)}
    weights = {token: weight for token, weight in weights.items() if weight >= min_p}
    order = sorted(weights, key=lambda token: (-weights[token], token))[: top_k or None]
    total, mass = sum(weights[token] for token in order), 0.0
    kept: list[int] = []
    for token in order:
        if mass >= top_p * total and kept:
            break
        kept.append(token)
        mass += weights[token]
    probabilities = np.zeros(len(row))
    for token in kept:
        probabilities[token] = weights[token] / mass
    return probabilities


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.6},
        {"temperature": 1.7, "top_k": 7},
        {"top_p": 0.8},
        {"min_p": 0.05},
        {"temperature": 1.3, "top_k": 12, "top_p": 0.9, "min_p": 0.02},
        {"logit_bias": {3: 2.5, 8: -3.0}, "temperature": 0.9},
    ],
    ids=str,
)
def test_draws_follow_the_distribution_that_the_parameters_describe(options: dict[str, Any]) -> None:
    row, draws = row_of(1), 4000
    expected = reference(row, **options) * draws
    chooser = sampler(Sampling(**options), seed=11)
    counts = np.bincount([chooser.choose(row).token for _ in range(draws)], minlength=VOCAB)
    assert not counts[expected == 0].any(), "a token that was cut off was drawn"
    assert_fits(counts, expected)


def test_draws_over_a_large_vocabulary_follow_its_softmax() -> None:
    """Drawn by the sums of blocks: the ends of blocks must not matter."""
    row = np.full(2000, -4.0, dtype=np.float32)
    peaks = [0, 511, 512, 1023, 1024, 1999]
    row[peaks] = [4.0, 3.5, 4.2, 3.0, 4.1, 3.9]
    chooser, draws = sampler(seed=5, vocab=2000), 3000
    counts = np.bincount([chooser.choose(row).token for _ in range(draws)], minlength=2000)
    expected = reference(row) * draws
    assert_fits(counts, expected)


def test_penalties_follow_the_formula_over_what_was_written() -> None:
    row, draws = row_of(2), 2000
    options: dict[str, Any] = {"presence_penalty": 0.7, "frequency_penalty": 0.4, "repetition_penalty": 1.2}
    only_four = np.arange(VOCAB) == 4
    counts = np.zeros(VOCAB, dtype=np.int64)
    for seed in range(draws):
        chooser = sampler(Sampling(**options), seed=seed)
        chooser.choose(row, only_four)
        chooser.choose(row, only_four)
        counts[chooser.choose(row).token] += 1
    expected = reference(row, counts={4: 2}, **options) * draws
    assert_fits(counts, expected)


def test_only_the_repetition_penalty_looks_at_the_prompt() -> None:
    row = np.zeros(VOCAB, dtype=np.float32)
    row[7], row[9] = 5.0, 4.0
    counted = Sampling(temperature=0.0, presence_penalty=2.0, frequency_penalty=2.0)
    assert sampler(counted, prompt=(7,)).choose(row).token == 7
    assert sampler(Sampling(temperature=0.0, repetition_penalty=2.0), prompt=(7,)).choose(row).token == 9


def test_frequency_grows_with_every_use_and_presence_does_not() -> None:
    row = np.zeros(VOCAB, dtype=np.float32)
    row[7], row[9] = 5.0, 4.0
    frequency = sampler(Sampling(temperature=0.0, frequency_penalty=0.4))
    assert [frequency.choose(row).token for _ in range(4)] == [7, 7, 7, 9]  # 4.2 after two, 3.8 after three
    presence = sampler(Sampling(temperature=0.0, presence_penalty=0.4))
    assert [presence.choose(row).token for _ in range(4)] == [7, 7, 7, 7]


def test_a_temperature_of_zero_takes_the_likeliest_whatever_the_rest_says() -> None:
    row = row_of(3)
    for sampling in (Sampling(), Sampling(top_p=0.01), Sampling(top_k=5), Sampling(min_p=0.3)):
        assert sampler(replace(sampling, temperature=0.0)).choose(row).token == int(row.argmax())


def test_a_tiny_temperature_neither_overflows_nor_divides_by_zero() -> None:
    row = row_of(3) * 1e30
    for temperature in (1e-5, 1e-30, 1e-310):
        assert sampler(Sampling(temperature=temperature)).choose(row).token == int(row.argmax())


def test_a_bias_of_minus_hundred_forbids_and_of_hundred_forces() -> None:
    row = row_of(4) * 100  # so far apart that adding a hundred would not be enough
    best, worst = int(row.argmax()), int(row.argmin())
    assert sampler(Sampling(temperature=0.0, logit_bias={best: -100})).choose(row).token != best
    assert sampler(Sampling(temperature=1.0, logit_bias={worst: 100})).choose(row).token == worst


def test_a_grammar_wins_over_a_bias_that_forbids_all_it_allows() -> None:
    mask = np.zeros(VOCAB, dtype=np.bool_)
    mask[[5, 6]] = True
    chosen = sampler(Sampling(temperature=0.0, logit_bias={5: -100, 6: -100})).choose(row_of(4), mask)
    assert chosen.token in (5, 6)
    assert sampler(Sampling(temperature=0.0, logit_bias={8: 100})).choose(row_of(4), mask).token in (5, 6)


def test_a_grammar_that_allows_nothing_is_an_error() -> None:
    with pytest.raises(EngineError, match="no token"):
        sampler().choose(row_of(4), np.zeros(VOCAB, dtype=np.bool_))


@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.0}, {"top_k": 3}, {"logprobs": 2}], ids=str)
def test_logits_that_are_no_numbers_are_an_error(poison: float, options: dict[str, Any]) -> None:
    row = row_of(5)
    row[17] = poison
    with pytest.raises(EngineError, match="number"):
        sampler(Sampling(**options)).choose(row)
    with pytest.raises(EngineError, match="number"):
        sampler(Sampling(**options)).choose(np.full(VOCAB, -np.inf, dtype=np.float32))


def test_tokens_that_the_model_itself_rules_out_are_never_drawn() -> None:
    row = row_of(6)
    row[10:] = -np.inf
    chooser = sampler(Sampling(temperature=50.0), seed=2)
    assert max(chooser.choose(row).token for _ in range(500)) < 10


def test_the_same_seed_gives_the_same_tokens_and_another_choice_others() -> None:
    rows = [row_of(seed) for seed in range(30)]

    def run(seed: int, choice: int) -> list[int]:
        chooser = sampler(Sampling(temperature=1.5), seed=seed, choice=choice)
        return [chooser.choose(row).token for row in rows]

    assert run(7, 0) == run(7, 0)
    assert len({tuple(run(seed, choice)) for seed in (7, 8, -1, 2**64 + 9) for choice in (0, 1, 2)}) == 12


def test_the_row_is_left_as_it_was() -> None:
    row = row_of(8)
    before = row.copy()
    mask = np.ones(VOCAB, dtype=np.bool_)
    sampling = Sampling(logit_bias={1: 5}, presence_penalty=1, repetition_penalty=1.5, logprobs=3)
    sampler(sampling, prompt=(3,)).choose(row, mask)
    assert np.array_equal(row, before)


def test_logprobs_are_of_the_models_own_distribution_best_first() -> None:
    row = row_of(9)
    chosen = sampler(Sampling(temperature=0.2, logit_bias={2: 100}, logprobs=5)).choose(row)
    log_softmax = row.astype(np.float64) - math.log(np.exp(row.astype(np.float64)).sum())
    assert chosen.token == 2
    assert chosen.logprob == pytest.approx(log_softmax[2], abs=1e-5)
    assert [token for token, _ in chosen.top] == np.argsort(-row)[:5].tolist()
    assert [value for _, value in chosen.top] == pytest.approx(np.sort(log_softmax)[::-1][:5].tolist(), abs=1e-5)
    assert sampler(Sampling(logprobs=0)).choose(row).top == ()


# Few distinct values, so that ties at every edge are common.
rows = st.lists(
    st.one_of(st.integers(-6, 0).map(lambda i: i / 2), st.floats(-30, 0, width=32), st.just(-math.inf)),
    min_size=1,
    max_size=60,
).map(lambda values: np.array([0.0, *values], dtype=np.float32))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(rows, st.integers(0, 70), st.integers(0, 100), st.floats(0.0, 1.0), st.integers(1, 20))
def test_cutting_preselected_candidates_equals_sorting_everything(
    row: Floats, top_k: int, percent: int, min_p: float, candidates: int
) -> None:
    fast = survivors(row, top_k=top_k, top_p=percent / 100, min_p=min_p, candidates=candidates)
    weights, kept = np.exp(row), np.argsort(-row, kind="stable")
    kept = kept[: min(top_k or len(row), np.count_nonzero(row >= (math.log(min_p) if min_p else -math.inf)))]
    sums = np.cumsum(weights[kept], dtype=np.float64)
    mass = percent / 100 * float(weights[np.sort(kept)].sum(dtype=np.float64))
    assume(percent == 100 or np.abs(sums - mass).min() > 1e-9)  # there, the order of the additions decides
    slow = kept[: int(np.searchsorted(sums, mass)) + 1] if percent < 100 else kept
    assert sorted(fast.tolist()) == sorted(slow.tolist())


@settings(max_examples=100, deadline=None, derandomize=True)
@given(rows, st.integers(0, 70), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_what_survives_is_what_the_definitions_say(row: Floats, top_k: int, top_p: float, min_p: float) -> None:
    kept = survivors(row, top_k=top_k, top_p=top_p, min_p=min_p, candidates=8).tolist()
    assert kept and len(set(kept)) == len(kept)
    assert int(row.argmax()) in kept
    if top_k:
        assert len(kept) <= top_k
    weights = np.exp(row.astype(np.float64))
    assert all(weights[token] >= min_p * (1 - 1e-6) for token in kept)
    left_out = np.delete(weights, kept)
    if top_k or top_p < 1.0 or min_p > 0:
        assert not len(left_out) or left_out.max() <= weights[kept].min() * (1 + 1e-6), "a better one was left out"
    pool = np.sort(weights[weights >= min_p * (1 + 1e-6)])[::-1][: top_k or None]
    assert weights[kept].sum() >= top_p * pool.sum() * (1 - 1e-6), "less than top_p is left"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rows, st.data())
def test_a_masked_token_is_never_chosen(row: Floats, data: st.DataObject) -> None:
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(row), max_size=len(row))))
    mask[0] = True
    sampling = data.draw(
        st.builds(
            Sampling,
            temperature=st.sampled_from([0.0, 0.5, 3.0]),
            top_p=st.sampled_from([0.3, 1.0]),
            top_k=st.sampled_from([0, 3]),
            presence_penalty=st.sampled_from([0.0, 2.0]),
        )
    )
    chooser = sampler(sampling, seed=data.draw(st.integers(0, 99)), vocab=len(row))
    assert all(mask[chooser.choose(row, mask).token] for _ in range(5))


def test_the_best_few_are_in_order_and_ties_go_to_the_lower_id() -> None:
    values = np.array([1, 3, 2, 3, 1, 3], dtype=np.float32)
    assert largest(values, 2).tolist() == [1, 3]
    assert largest(values, 5).tolist() == [1, 3, 5, 2, 0]
    assert largest(values, 0).tolist() == []
    assert largest(values, 99).tolist() == [1, 3, 5, 2, 0, 4]


@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.999])
def test_top_p_over_a_large_vocabulary_is_the_whole_sorts_however_flat_it_is(spread: float, top_p: float) -> None:
    row = (np.random.default_rng(0).standard_normal(30_000) * spread).astype(np.float32)
    row -= row.max()
    row[::7] = np.round(row[::7])  # and with many equals
    order = np.argsort(-row, kind="stable")
    weights = np.exp(row)
    length = (
        int(np.searchsorted(np.cumsum(weights[order], dtype=np.float64), top_p * weights.sum(dtype=np.float64))) + 1
    )
    kept = survivors(row, top_k=0, top_p=top_p, min_p=0.0)
    assert sorted(kept.tolist()) == sorted(order[:length].tolist())


def test_top_p_keeps_the_shortest_run_that_reaches_it() -> None:
    row = np.log(np.array([0.2, 0.5, 0.3], dtype=np.float32) / 0.5)
    kept = {top_p: set(survivors(row, top_k=0, top_p=top_p, min_p=0.0)) for top_p in (0.0, 0.49, 0.51, 0.79, 0.81)}
    assert kept == {0.0: {1}, 0.49: {1}, 0.51: {1, 2}, 0.79: {1, 2}, 0.81: {0, 1, 2}}
    # After top_k, shares are of what is left: 0.5 of 0.8 is more than 0.6.
    assert survivors(row, top_k=2, top_p=0.6, min_p=0.0).tolist() == [1]


def test_neighbouring_numbers_cannot_keep_the_search_for_top_p_going() -> None:
    row = np.zeros(3000, dtype=np.float32)
    row[1::2] = np.nextafter(np.float32(-1e-7), np.float32(-1))  # weights of 1 and of the float32 before it
    assert len(survivors(row, top_k=0, top_p=0.9, min_p=0.0)) in (2700, 2701)
