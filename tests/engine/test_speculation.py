"""What is guessed, how often it holds, what a step costs, and how many guesses pay: pure values."""

from __future__ import annotations

import pytest

from agent.engine.speculation import (
    LONGEST,
    MOST_TOKENS,
    Acceptance,
    Lookup,
    StepCost,
    best_count,
    continued,
)


def test_what_followed_the_same_tokens_last_time_is_found_and_the_longest_match_wins() -> None:
    tokens = [1, 2, 3, 4, 50, 9, 3, 4, 60, 9, 1, 2, 3, 4]
    assert Lookup().find(tokens) == (4, 4)
    assert Lookup().find([9, 3, 4, 60, 8, 7, 3, 4]) == (2, 3)
    assert Lookup().find([1, 2, 3]) is None
    assert Lookup().find([5]) is None


def test_a_lookup_grows_with_its_text_and_takes_the_latest_of_equals() -> None:
    lookup, tokens = Lookup(), [1, 2, 30, 1, 2]
    assert lookup.find(tokens) == (2, 2)
    tokens += [31, 1, 2]
    assert lookup.find(tokens) == (2, 5)
    assert lookup.find(tokens) == (2, 5), "asking again changes nothing"


def test_a_text_goes_on_with_itself_where_it_ends() -> None:
    assert continued([1, 2, 3, 4], 1, 2) == [2, 3]
    assert continued([7, 8, 9], 1, 5) == [8, 9, 8, 9, 8]


def test_acceptance_follows_what_happens_and_forgets() -> None:
    good, bad = Acceptance(), Acceptance()
    for _ in range(20):
        good.settled(4, 4)
        bad.settled(4, 0)
    assert good.rate > 0.9 > 0.3 > bad.rate
    assert good.gain(3) == pytest.approx(good.rate + good.rate**2 + good.rate**3)
    for _ in range(200):
        bad.passed()
    assert bad.rate == pytest.approx(Acceptance().rate, abs=0.01), "what did not pay is tried again some day"


def test_the_cost_of_a_step_lies_between_those_that_were_measured() -> None:
    cost = StepCost()
    assert cost.stale(1)
    cost.measured(1, 0.010)
    cost.measured(9, 0.018)
    assert not cost.stale(1)
    assert cost.seconds(5) == pytest.approx(0.014)
    assert cost.seconds(20) == pytest.approx(0.018), "what is not known is hoped to be cheap"


def test_one_disturbed_step_does_not_decide() -> None:
    cost = StepCost()
    for seconds in (0.010, 0.010, 5.0):
        cost.measured(1, seconds)
    assert cost.seconds(1) <= 0.0151


def test_costs_grow_stale_and_the_dear_ones_are_forgotten() -> None:
    cost = StepCost()
    cost.measured(1, 0.010)
    cost.measured(9, 1.0)
    for _ in range(1100):
        cost.measured(2, 0.010)
    assert cost.stale(1)
    assert cost.seconds(9) == pytest.approx(0.010), "worth another try"


def test_as_many_guesses_as_bring_the_most_tokens_a_second() -> None:
    cheap, dear = StepCost(), StepCost()
    for count in range(1, 60):
        cheap.measured(count, 0.010 + 0.0001 * count)  # bound by reading the weights: further tokens cost little
        dear.measured(count, 0.010 * count)  # bound by arithmetic: they cost what they bring
    sure, doubtful = Acceptance(), Acceptance()
    for _ in range(30):
        sure.settled(8, 8)
        doubtful.settled(8, 0)
    assert best_count(cheap, 1, 1.0, sure.gain, LONGEST) == LONGEST
    assert 0 < best_count(cheap, 1, 1.0, Acceptance().gain, LONGEST) < LONGEST
    assert best_count(dear, 1, 1.0, sure.gain, LONGEST) == 0
    assert best_count(dear, 1, 1.0, doubtful.gain, LONGEST) == 0
    assert best_count(cheap, 1, 1.0, sure.gain, 3) == 3
    assert best_count(cheap, MOST_TOKENS - 2, 46.0, sure.gain, LONGEST) <= 2
    assert best_count(cheap, 1, 1.0, sure.gain, LONGEST, further_s=0.02) == 0, "a draft that is slower than the model"
