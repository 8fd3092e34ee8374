"""The rules of the power contract hold for every stack, every set of contracts and every order of asking."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cluster.power.rules import (
    PRIORITIES,
    Budget,
    Contract,
    Limit,
    Member,
    Priority,
    admit,
    bearable,
    explain,
    in_force,
    share,
)
from agent.cluster.power.steps import whole_mw_up
from agent.errors import NotFoundError, RequestError, ThoxError, UnavailableError

NOW = 1000.0
SLACK = 1e-6  # of sums of floats, in W


@st.composite
def budgets(draw: st.DrawFn) -> Budget:
    members = []
    for i in range(draw(st.integers(1, 8))):
        floor = draw(st.floats(1, 20))
        members.append(Member(f"node-{i}", floor, floor + draw(st.floats(0, 60))))
    contacts = []
    for i in draw(st.lists(st.integers(1, len(members)), max_size=3)):  # a chain: the supply is at node-0
        behind = members[i:] or members[-1:]
        limit = sum(one.floor_w for one in behind) + draw(st.floats(0, 80))
        contacts.append(Limit(limit, frozenset(one.node_id for one in behind)))
    return Budget(sum(one.floor_w for one in members) + draw(st.floats(0, 200)), tuple(members), tuple(contacts))


def full(budget: Budget, watts: Mapping[str, float], node: str) -> list[Limit]:
    """The limits that keep a node from getting more."""
    return [
        limit
        for limit in budget.limits
        if node in limit.nodes and sum(watts[one] for one in limit.nodes) >= limit.watts - SLACK
    ]


@st.composite
def asks(draw: st.DrawFn) -> Contract:
    low, high = sorted((draw(st.floats(0, 80)), draw(st.floats(0, 80))))
    return Contract(
        "c",
        f"node-{draw(st.integers(0, 8))}",
        high,
        low,
        draw(st.sampled_from(PRIORITIES)),
        NOW + draw(st.floats(-5, 60)),
    )


def settle(budget: Budget, wanted: list[Contract], now: float = NOW) -> tuple[Contract, ...]:
    held: tuple[Contract, ...] = ()
    for ask in wanted:
        try:
            held = admit(budget, held, ask, now)
        except ThoxError as error:
            assert isinstance(error, (RequestError, UnavailableError, NotFoundError)) and error.hint
    return held


@settings(max_examples=120, deadline=None)
@given(budgets(), st.lists(asks(), max_size=12))
def test_no_order_of_asking_breaks_a_rule(budget: Budget, wanted: list[Contract]) -> None:
    held = settle(budget, wanted)
    watts = share(budget, held)
    assert set(watts) == {one.node_id for one in budget.members}
    for limit in budget.limits:
        assert sum(watts[node] for node in limit.nodes) <= limit.watts + SLACK
    contracts = {one.node_id: one for one in held}
    for member in budget.members:
        given_w, contract = watts[member.node_id], contracts.get(member.node_id)
        assert member.floor_w <= given_w <= member.peak_w + SLACK
        if contract is None:
            assert given_w == member.floor_w
        else:
            assert given_w >= min(contract.min_w, member.peak_w) - SLACK
            assert given_w <= max(contract.requested_w, member.floor_w) + SLACK


@settings(max_examples=120, deadline=None)
@given(budgets(), st.lists(asks(), max_size=12))
def test_a_lower_priority_rises_only_when_every_higher_one_has_what_it_asked_for(
    budget: Budget, wanted: list[Contract]
) -> None:
    held = settle(budget, wanted)
    watts = share(budget, held)
    members = {one.node_id: one for one in budget.members}
    for high in held:
        top = max(min(high.requested_w, members[high.node_id].peak_w), members[high.node_id].floor_w)
        if watts[high.node_id] >= top - SLACK:
            continue
        for low in held:
            if not all(low.node_id in limit.nodes for limit in full(budget, watts, high.node_id)):
                continue  # what it has would not reach the one in want: another contact is full
            promise = max(low.min_w, members[low.node_id].floor_w)
            if PRIORITIES.index(low.priority) < PRIORITIES.index(high.priority):
                assert watts[low.node_id] <= promise + SLACK
            elif low.priority == high.priority:  # evenly: nobody of the same rank is raised above the one in want
                assert watts[low.node_id] <= max(promise, watts[high.node_id]) + SLACK


@settings(max_examples=80, deadline=None)
@given(budgets(), st.lists(asks(), max_size=8), st.randoms())
def test_the_share_does_not_depend_on_the_order_of_the_contracts(
    budget: Budget, wanted: list[Contract], random: Random
) -> None:
    held = list(settle(budget, wanted))
    before = share(budget, held)
    random.shuffle(held)
    after = share(budget, held)
    assert all(after[node] == pytest.approx(before[node]) for node in before)


@settings(max_examples=80, deadline=None)
@given(budgets(), st.lists(asks(), max_size=8))
def test_watts_are_not_left_over_while_somebody_wants_them(budget: Budget, wanted: list[Contract]) -> None:
    held = settle(budget, wanted)
    watts = share(budget, held)
    members = {one.node_id: one for one in budget.members}
    hungry = [c for c in held if watts[c.node_id] < min(c.requested_w, members[c.node_id].peak_w) - SLACK]
    assert all(full(budget, watts, contract.node_id) for contract in hungry)


@settings(max_examples=80, deadline=None)
@given(budgets(), st.lists(asks(), max_size=8), st.floats(0, 1))
def test_a_supply_that_shrinks_never_leaves_more_promised_than_it_gives(
    budget: Budget, wanted: list[Contract], part: float
) -> None:
    held = settle(budget, wanted)
    floors = sum(one.floor_w for one in budget.members)
    weaker = replace(budget, supply_w=floors + part * (budget.supply_w - floors))
    kept = bearable(weaker, held)
    assert set(kept) <= set(held) and set(bearable(budget, held)) == set(held)
    assert sum(share(weaker, kept).values()) <= weaker.supply_w + SLACK
    for gone in (one for one in held if one not in kept):
        behind = [limit.nodes for limit in weaker.limits if gone.node_id in limit.nodes]
        rank = PRIORITIES.index(gone.priority)  # somewhere on its way nobody less important was kept
        assert any(all(rank <= PRIORITIES.index(one.priority) for one in kept if one.node_id in ids) for ids in behind)


STACK = Budget(65.0, (Member("a", 10.0, 40.0), Member("b", 10.0, 40.0)))


def ask(
    node: str, requested: float, least: float = 0.0, priority: Priority = "normal", until: float = NOW + 60
) -> Contract:
    return Contract(f"of-{node}", node, requested, least, priority, until)


def test_two_that_ask_for_everything_get_half_each_and_a_higher_priority_goes_first() -> None:
    assert share(STACK, (ask("a", 40), ask("b", 40))) == {"a": 32.5, "b": 32.5}
    assert share(STACK, (ask("a", 40), ask("b", 40, priority="high"))) == {"a": 25.0, "b": 40.0}
    assert share(STACK, (ask("a", 40, 30), ask("b", 40, priority="critical"))) == {"a": 30.0, "b": 35.0}
    assert share(STACK, (ask("a", 15), ask("b", 40))) == {"a": 15.0, "b": 40.0}


def test_what_a_contact_does_not_carry_goes_to_those_before_it() -> None:
    members = tuple(Member(name, 10.0, 40.0) for name in "abc")
    chain = Budget(100.0, members, (Limit(50.0, frozenset("bc")), Limit(20.0, frozenset("c"))))
    assert share(chain, [ask(name, 40) for name in "abc"]) == {"a": 40.0, "b": 30.0, "c": 20.0}
    assert share(chain, [ask("a", 40), ask("b", 20), ask("c", 40, priority="high")]) == {"a": 40, "b": 20, "c": 20}


def test_a_promise_that_a_contact_does_not_carry_is_refused_with_what_it_carries() -> None:
    members = tuple(Member(name, 10.0, 40.0) for name in "abc")
    chain = Budget(100.0, members, (Limit(45.0, frozenset("bc")),))
    with pytest.raises(RequestError, match="45 W") as never:
        admit(chain, (), ask("b", 40, 36), NOW)
    assert "35" in (never.value.hint or "")
    held = admit(chain, (), ask("c", 20, 20, until=NOW + 30), NOW)
    with pytest.raises(UnavailableError, match="45 W") as later:
        admit(chain, held, ask("b", 40, 26), NOW)
    assert later.value.retry_after == 30 and "25" in (later.value.hint or "")
    held = admit(chain, held, ask("b", 40, 25), NOW)
    assert bearable(replace(chain, contacts=(Limit(40.0, frozenset("bc")),)), held) != held
    assert "contact of 45 W" in explain(chain, ask("b", 40), 25.0)


def test_a_contract_that_ends_leaves_its_node_at_the_floor() -> None:
    held = admit(STACK, (), ask("a", 40, until=NOW + 5), NOW)
    assert share(STACK, in_force(held, NOW + 4)) == {"a": 40.0, "b": 10.0}
    assert share(STACK, in_force(held, NOW + 5)) == {"a": 10.0, "b": 10.0}


def test_what_was_promised_is_never_taken_back_and_the_refusal_says_when_to_ask_again() -> None:
    held = admit(STACK, (), ask("a", 40, 35, until=NOW + 30), NOW)
    with pytest.raises(UnavailableError) as caught:
        admit(STACK, held, ask("b", 40, 31, "critical"), NOW)
    assert caught.value.retry_after == 30 and "30" in (caught.value.hint or "")
    assert len(admit(STACK, held, ask("b", 40, 30, "critical"), NOW)) == 2
    assert len(admit(STACK, held, ask("b", 40, 31, "critical"), NOW + 31)) == 1


def test_a_new_contract_of_a_node_takes_the_place_of_its_old_one() -> None:
    held = admit(STACK, (), ask("a", 40, 40), NOW)
    held = admit(STACK, held, replace(ask("a", 20), id="newer"), NOW)
    assert [one.id for one in held] == ["newer"]


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (ask("a", 50, 41), RequestError),  # above what the node can draw
        (ask("c", 20), NotFoundError),
    ],
)
def test_what_can_never_be_granted_is_a_bad_request(wanted: Contract, error: type[ThoxError]) -> None:
    with pytest.raises(error) as caught:
        admit(STACK, (), wanted, NOW)
    assert caught.value.hint


def test_a_supply_that_does_not_carry_the_floors_grants_nothing_more() -> None:
    weak = replace(STACK, supply_w=15.0)
    with pytest.raises(RequestError, match="15 W"):
        admit(weak, (), ask("a", 10), NOW)
    assert share(weak, ()) == {"a": 10.0, "b": 10.0}


def test_the_reason_is_in_words() -> None:
    one = Budget(65.0, STACK.members[:1])
    for requested, granted, words in ((20, 20, "as requested"), (60, 40, "40 W"), (5, 10, "floor of 10 W")):
        contract = ask("a", requested)
        assert share(one, (contract,))["a"] == granted
        assert words in explain(one, contract, granted)
    assert "supply" in explain(STACK, ask("a", 40), 32.5)


LADDER_W = (10.0, 15.0, 20.0, 25.0, 30.0, 40.0)


def stepped(budget: Budget, ladders: list[tuple[float, ...]]) -> Budget:
    """The same with a ladder for each member, from its floor to its peak."""
    members = [
        replace(
            one, steps_w=(one.floor_w, *sorted(step for step in ladder if one.floor_w < step < one.peak_w), one.peak_w)
        )
        for one, ladder in zip(budget.members, ladders, strict=False)
    ]
    return replace(budget, members=tuple(members) + budget.members[len(members) :])


def test_what_an_even_share_leaves_between_two_steps_raises_whole_steps() -> None:
    stack = Budget(58.5, tuple(Member(name, 10.0, 40.0, LADDER_W) for name in "abc"))
    everybody = [ask(name, 40) for name in "abc"]
    assert share(stack, everybody) == {"a": 20.0, "b": 20.0, "c": 15.0}
    assert share(replace(stack, members=stack.members[::-1]), everybody) == {"a": 20.0, "b": 20.0, "c": 15.0}
    first = [ask("a", 40), ask("b", 40), ask("c", 40, priority="high")]
    assert share(stack, first) == {"a": 15.0, "b": 10.0, "c": 30.0}
    assert share(stack, [ask("a", 40), ask("b", 12), ask("c", 40)]) == {"a": 25.0, "b": 12.0, "c": 20.0}
    assert share(stack, [ask("a", 40, 21.5), ask("b", 40), ask("c", 40)]) == {"a": 21.5, "b": 20.0, "c": 15.0}


def test_coarse_ladders_of_a_real_module_are_used_as_far_as_the_supply_goes() -> None:
    orin = (19.4, 31.7, 34.8)  # an Orin NX, measured, with its margin
    stack = Budget(58.5, tuple(Member(name, 19.4, 34.8, orin) for name in "ab"))
    assert share(stack, [ask(name, 40) for name in "ab"]) == {"a": 34.8, "b": 19.4}


def test_who_has_no_steps_takes_what_steps_leave() -> None:
    stack = Budget(60.0, (Member("a", 10.0, 40.0, (10.0, 40.0)), Member("b", 10.0, 60.0)))
    assert share(stack, [ask("a", 40), ask("b", 60)]) == {"a": 10.0, "b": 50.0}


@given(
    budgets(),
    st.lists(asks(), max_size=10),
    st.lists(st.lists(st.floats(1, 80), max_size=5).map(tuple), max_size=8),
)
def test_on_steps_nothing_passes_a_limit_and_nobody_s_next_step_would_still_fit(
    budget: Budget, wanted: list[Contract], ladders: list[tuple[float, ...]]
) -> None:
    budget = stepped(budget, ladders)
    held: tuple[Contract, ...] = ()
    for new in wanted:
        with contextlib.suppress(ThoxError):
            held = admit(budget, held, new, NOW)
    watts, asked = share(budget, held), {one.node_id: one for one in held}
    for limit in budget.limits:
        assert sum(watts[node] for node in limit.nodes) <= limit.watts + SLACK
    for member in budget.members:
        contract = asked.get(member.node_id)
        least = max(member.floor_w, 0.0 if contract is None else min(contract.min_w, member.peak_w))
        most = max(least, min(contract.requested_w, member.peak_w)) if contract is not None else least
        got = watts[member.node_id]
        assert least <= got <= most
        if contract is None or not member.steps_w:
            continue
        assert got in (least, most, *member.steps_w)
        for step in member.steps_w:
            if got + SLACK < step <= most:
                around = [limit for limit in budget.limits if member.node_id in limit.nodes]
                assert any(sum(watts[one] for one in limit.nodes) + step - got > limit.watts for limit in around)


def test_what_a_module_tells_of_a_step_still_reaches_it_when_it_is_granted_in_whole_milliwatts() -> None:
    assert whole_mw_up(18.4567) == 18.457 and whole_mw_up(20.0) == 20.0 and whole_mw_up(0.1 + 0.2) == 0.3
