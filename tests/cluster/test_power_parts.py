"""The parts of the power contract that worlds do not show: alarms, steps, derating, admission, the book."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from agent.cluster.power.allocator import Allocator, Stack
from agent.cluster.power.derate import FIRST_WAIT_S, FORGIVEN_S, MOST, STEP, Derating
from agent.cluster.power.messages import Exposure, Handover, PowerGrant, PowerRequest, Takeover, Term
from agent.cluster.power.node import SETTLE_S, Alarm, PowerNode, Want, tolerated
from agent.cluster.power.rules import Contract, Limit, Member
from agent.cluster.power.store import Kept, PowerFile
from agent.cluster.power.timing import Timing
from agent.cluster.state import Link
from agent.errors import NotFoundError, RequestError, UnavailableError

TIMING = Timing()
MEMBERS = tuple(Member(f"node-{i}", 10.0, 40.0) for i in range(3))
TERM = Term(1, "node-0", "a" * 16)


def settled(supply_w: float = 100.0, stack: Stack | None = None) -> tuple[Allocator, float]:
    """An allocator with a complete, empty book, and the time."""
    allocator = Allocator(TERM, stack or Stack(MEMBERS, margin=0.0), supply_w, 0.0, supply_w)
    now = TIMING.silence_s + TIMING.hold_s + 2 * TIMING.beat_s
    allocator.supply(supply_w, now)
    return allocator, now


def ask(
    allocator: Allocator, node: PowerNode, now: float, want: float = 40.0, measured: float | None = None
) -> PowerGrant | None:
    """A heartbeat and its answer."""
    grant = allocator.request(node.request(Want(want), measured, now), now)
    if grant is not None:
        node.receive(grant, now)
    return grant


def test_a_node_is_dark_until_it_is_admitted_and_then_never_below_its_floor() -> None:
    allocator, now = settled()
    node = PowerNode(MEMBERS[1], "b" * 16)
    assert node.allowed(now) == 0.0
    hello = ask(allocator, node, now)
    assert hello is not None and hello.watts is None and node.allowed(now) == 0.0 and node.term == TERM
    ask(allocator, node, now)
    assert node.loaded and node.allowed(now) == 40.0 and node.ends(now) == now + TIMING.lease_s
    assert node.allowed(now + TIMING.lease_s) == 10.0 and node.ends(now + TIMING.lease_s) is None


def test_drawing_more_than_granted_raises_an_alarm_once_the_cap_had_time_to_take_hold() -> None:
    node = PowerNode(MEMBERS[1], "b" * 16, loaded=True)
    assert node.watch(tolerated(10.0), 0.0) is None
    assert node.watch(15.0, 1.0) is None
    assert node.watch(15.0, 1.0 + SETTLE_S) == Alarm(15.0, 10.0)
    assert node.watch(10.2, 2.0) is None and node.watch(15.0, 2.1) is None, "it starts anew"
    assert node.watch(None, 9.0) is None, "a meter that does not answer says nothing"


def test_a_node_that_draws_more_than_it_was_granted_counts_with_what_it_draws() -> None:
    allocator, now = settled(60.0)
    wild, tame = PowerNode(MEMBERS[1], "b" * 16), PowerNode(MEMBERS[2], "c" * 16)
    for _ in range(2):
        ask(allocator, wild, now, 10.0)
        ask(allocator, tame, now, 10.0)
    ask(allocator, wild, now, 10.0, measured=25.0)
    grant = ask(allocator, tame, now, 40.0)
    assert grant is not None and grant.watts == 60.0 - 10.0 - 25.0
    ask(allocator, wild, now, 10.0, measured=9999.0)
    wild_row = next(one for one in allocator.holdings(now) if one.node_id == "node-1")
    assert wild_row.counted_w == 40.0, "a broken meter takes no more than the node's peak"


def test_each_alert_takes_a_step_and_steps_come_back_ever_more_slowly() -> None:
    derating = Derating()
    for i in range(1, MOST + 3):
        derating.alert()
        assert derating.factor == pytest.approx(1 - STEP * min(i, MOST))
        assert derating.wait_s == FIRST_WAIT_S * 2 ** (i - 1)
    wait, steps = derating.wait_s, derating.factor
    derating.look(True, 0.0)
    derating.look(True, wait - 0.1)
    derating.look(False, wait - 0.05)  # the voltage dips: the waiting begins anew
    derating.look(True, wait)
    derating.look(True, 2 * wait - 0.1)
    assert derating.factor == steps
    now = 2 * wait
    for _ in range(MOST):
        before = derating.factor
        derating.look(True, now)
        assert derating.factor == pytest.approx(before + STEP), "one step at a time"
        derating.look(True, now + wait - 0.1)
        assert derating.factor == pytest.approx(before + STEP)
        now += wait
    derating.look(True, now + FORGIVEN_S)
    derating.alert()
    assert derating.wait_s == FIRST_WAIT_S


def test_a_foreign_alert_derates_the_supply_and_ones_own_does_not() -> None:
    allocator, now = settled()
    allocator.alert(True, now)
    allocator.alert(True, now + 1)
    assert allocator.derating.factor == pytest.approx(1 - STEP)
    allocator.alert(False, now + 2)
    unsure = Allocator(TERM, Stack(MEMBERS), 100.0, 0.0)
    assert unsure.pulls(0.0)
    unsure.alert(True, 0.0)
    assert unsure.derating.factor == 1.0
    unsure.alert(True, TIMING.silence_s + TIMING.hold_s)
    unsure.alert(True, TIMING.silence_s + TIMING.hold_s + 2 * TIMING.pulse_s)
    assert unsure.derating.factor < 1.0, "somebody else still pulls"


def test_a_pull_of_its_own_that_it_hears_late_derates_nothing() -> None:
    allocator, now = settled()
    allocator.alert(True, now, own=True)
    allocator.alert(True, now + TIMING.pulse_s / 2)
    allocator.alert(False, now + TIMING.pulse_s)
    assert allocator.derating.factor == 1.0
    allocator.alert(True, now + 10.0)
    assert allocator.derating.factor == 1 - STEP


def test_derating_never_takes_the_floors() -> None:
    allocator, now = settled(32.0)
    allocator.alert(True, now)
    assert allocator.usable_w(now) == 30.0


@pytest.mark.parametrize(
    ("stack", "supply", "admitted"),
    [
        (Stack(MEMBERS, margin=0.0, dark=frozenset({"node-1", "node-2"})), 25.0, {"node-0", "node-1"}),
        (Stack(MEMBERS, margin=0.2, dark=frozenset({"node-1", "node-2"})), 25.0, {"node-0", "node-1"}),
        (Stack(MEMBERS, margin=0.21, dark=frozenset({"node-1", "node-2"})), 25.0, {"node-0"}),
        (
            Stack(MEMBERS, (Limit(15.0, frozenset({"node-1", "node-2"})),), 0.0, frozenset({"node-1", "node-2"})),
            100.0,
            {"node-0", "node-1"},
        ),
    ],
)
def test_a_module_whose_floor_does_not_fit_stays_dark(stack: Stack, supply: float, admitted: set[str]) -> None:
    allocator, now = settled(supply, stack)
    on = PowerNode(MEMBERS[0], "a" * 16, loaded=True)
    nodes = [on, PowerNode(MEMBERS[1], "b" * 16), PowerNode(MEMBERS[2], "c" * 16)]
    for _ in range(4):
        for node in nodes:
            ask(allocator, node, now)
    assert {node.member.node_id for node in nodes if node.loaded} == admitted == allocator.carried(now)


def test_a_supply_too_weak_for_the_floors_switches_the_least_important_off() -> None:
    allocator, now = settled(100.0)
    nodes = [PowerNode(member, "b" * 16) for member in MEMBERS]
    ranks = {"node-0": "low", "node-1": "high", "node-2": "normal"}

    def beat() -> None:
        for node in nodes:
            want = Want(40.0, ranks[node.member.node_id])  # type: ignore[arg-type]
            grant = allocator.request(node.request(want, None, now), now)
            if grant is not None:
                node.receive(grant, now)

    beat()
    beat()
    assert all(node.loaded for node in nodes)
    allocator.supply(25.0, now)
    assert allocator.pulls(now), "the line drops all to their floors at once"
    beat()
    assert [node.loaded for node in nodes] == [False, True, True]


def test_contracts_of_clients_are_inputs_of_the_plan() -> None:
    allocator, now = settled(60.0)
    nodes = [PowerNode(member, "b" * 16) for member in MEMBERS]
    for _ in range(2):
        for node in nodes:
            ask(allocator, node, now)
    assert allocator.plan(now) == {"node-0": 20.0, "node-1": 20.0, "node-2": 20.0}
    allocator.ask(Contract("c1", "node-2", 35.0, 30.0, "high", now + 60), now)
    assert allocator.plan(now) == {"node-0": 12.5, "node-1": 12.5, "node-2": 35.0}
    with pytest.raises(UnavailableError):
        allocator.ask(Contract("c2", "node-1", 35.0, 30.0, "high", now + 60), now)
    with pytest.raises(RequestError):
        allocator.ask(Contract("c2", "node-1", 99.0, 99.0, "high", now + 60), now)
    with pytest.raises(NotFoundError):
        allocator.ask(Contract("c2", "node-9", 35.0, 30.0, "high", now + 60), now)
    assert allocator.plan(now + 61) == {"node-0": 10.0, "node-1": 10.0, "node-2": 10.0}, "and nobody is heard any more"
    allocator.cancel("c1")
    assert allocator.plan(now)["node-2"] == 20.0
    with pytest.raises(NotFoundError):
        allocator.cancel("c1")


def test_the_book_is_handed_to_the_one_who_asks_once_it_was_told_to_let_go() -> None:
    allocator, now = settled(60.0)
    node = PowerNode(MEMBERS[1], "b" * 16)
    ask(allocator, node, now)
    ask(allocator, node, now)
    new = Term(2, "node-2", "c" * 16)
    assert allocator.takeover(Takeover(new), now) is None and not allocator.retired
    allocator.release()
    assert allocator.has_authority(now), "until somebody asks, it goes on"
    book = allocator.takeover(Takeover(new), now)
    assert book is not None and book.birth == new.birth and allocator.retired
    assert allocator.takeover(Takeover(new), now) == book, "the answer may have been lost"
    assert allocator.takeover(Takeover(Term(3, "node-1", "d" * 16)), now) is None, "there is one successor"
    assert ask(allocator, node, now) is None
    assert {one.node_id: one.watts for one in book.exposures} == {"node-0": 10.0, "node-1": 40.0, "node-2": 10.0}

    successor = Allocator(new, Stack(MEMBERS, margin=0.0), 60.0, 500.0)
    assert not successor.handover(Handover(TERM, "e" * 16, book.exposures), 500.0), "of another birth"
    assert successor.handover(book, 500.0) and not successor.pulls(500.0) and not successor.is_quiet(500.0)
    assert not successor.handover(book, 500.0), "once is enough"
    counted = {one.node_id: one.counted_w for one in successor.holdings(500.0)}
    assert counted == {"node-0": 10.0, "node-1": 40.0, "node-2": 10.0}


def test_a_handover_to_a_weaker_supply_pulls_the_alert_line() -> None:
    new = Term(1, "node-2", "c" * 16)
    successor = Allocator(new, Stack(MEMBERS, margin=0.0), 60.0, 500.0)
    assert successor.handover(
        Handover(Term(7, "node-0", "a" * 16), new.birth, (Exposure("node-1", 45.0, 2.0, True),)), 500.0
    )
    assert successor.pulls(500.0) and successor.term.number == 8


def test_one_that_does_not_see_its_supply_grants_nothing() -> None:
    allocator, now = settled()
    node = PowerNode(MEMBERS[1], "b" * 16)
    assert ask(allocator, node, now + TIMING.reading_s) is None
    allocator.supply(None, now)
    assert ask(allocator, node, now) is None and allocator.retired


def test_a_node_that_left_counts_until_its_grants_have_ended() -> None:
    allocator, now = settled(60.0)
    node = PowerNode(MEMBERS[1], "b" * 16)
    ask(allocator, node, now)
    ask(allocator, node, now)
    allocator.set_stack(Stack((MEMBERS[0], MEMBERS[2]), margin=0.0), now)
    assert allocator.ledger.exposure("node-1", now) == 40.0 and allocator.budget(now).supply_w == 20.0
    later = now + TIMING.hold_s
    assert allocator.ledger.exposure("node-1", later) == 0.0 and allocator.budget(later).supply_w == 60.0


def test_a_book_counts_who_is_in_it_before_and_after_that_one_is_seen() -> None:
    allocator = Allocator(TERM, Stack(MEMBERS[:1], margin=0.0), 100.0, 0.0)
    book = Handover(Term(1, "node-9", "e" * 16), TERM.birth, (Exposure("node-1", 35.0, 2.0, True),))
    assert allocator.handover(book, 0.0) and allocator.ledger.exposure("node-1", 1.0) == 35.0
    allocator.set_stack(Stack(MEMBERS[:2], margin=0.0), 1.0)
    assert allocator.ledger.exposure("node-1", 1.5) == 35.0
    assert allocator.ledger.exposure("node-1", 3.0) == 10.0


def test_a_node_that_lives_on_a_grant_of_nobodys_book_makes_the_allocator_begin_anew() -> None:
    allocator, now = settled()
    node = PowerNode(MEMBERS[1], "b" * 16, loaded=True)
    earlier = PowerGrant("node-1", "b" * 16, Term(0, "node-9", "e" * 16), 1, 1, 35.0)
    node.request(Want(35.0), None, now)
    assert node.receive(earlier, now) and node.allowed(now) == 35.0
    ask(allocator, node, now)  # a nonce, no more
    assert not allocator.pulls(now)
    assert ask(allocator, node, now) is None
    assert allocator.is_quiet(now) and allocator.pulls(now)


def test_a_contact_that_gets_weaker_while_nobody_knows_what_is_out_pulls_the_alert_line() -> None:
    both = frozenset({"node-1", "node-2"})
    allocator = Allocator(TERM, Stack(MEMBERS, (Limit(60.0, both),)), 100.0, 0.0, 100.0)
    more = (*MEMBERS, Member("node-3", 10.0, 40.0))
    allocator.set_stack(Stack(more, (Limit(60.0, both | {"node-3"}),), dark=frozenset({"node-3"})), 0.1)
    assert not allocator.pulls(0.1), "a dark module on top changes nothing for the others"
    allocator.set_stack(Stack(more, (Limit(50.0, both | {"node-3"}),)), 0.2)
    assert allocator.pulls(0.2)


def test_a_stranger_gets_no_answer() -> None:
    allocator, now = settled()
    request = PowerRequest("stranger", "b" * 16, None, 0, 1, False, 0.0, 40.0, "critical", None)
    assert allocator.request(request, now) is None


def test_a_want_that_is_noisy_moves_no_caps() -> None:
    allocator, now = settled(60.0)
    nodes = [PowerNode(member, "b" * 16) for member in MEMBERS]
    grants = set()
    for beat in range(120):
        now += TIMING.beat_s
        allocator.supply(60.0, now)
        for node in nodes:
            grant = ask(allocator, node, now, 15.0 + 0.2 * (-1) ** beat)
            grants.add(grant and grant.watts)
    assert len(grants - {None}) == 1


def late(allocator: Allocator, node: PowerNode, sent: float, arrives: float) -> PowerGrant | None:
    """A heartbeat that is long on its way."""
    allocator.supply(100.0, arrives)
    return allocator.request(node.request(Want(40.0), None, sent), arrives)


def test_a_grant_that_ended_while_word_of_it_was_on_its_way_alarms_nobody_and_counts_once_more() -> None:
    allocator, now = settled()
    node = PowerNode(MEMBERS[1], "b" * 16)
    ask(allocator, node, now)
    ask(allocator, node, now)
    grant = late(allocator, node, now + 2.9, now + TIMING.hold_s + 0.2)
    assert grant is not None and grant.watts == 40.0
    assert not allocator.is_quiet(now + TIMING.hold_s + 0.2)
    assert allocator.ledger.exposure("node-1", now + TIMING.hold_s + 0.2) == 40.0


def test_a_claim_to_more_than_was_granted_is_another_allocator_s_and_so_is_one_that_does_not_end() -> None:
    for held, arrives in ((40.1, TIMING.hold_s + 0.2), (40.0, TIMING.hold_s + TIMING.way_s + 0.1)):
        allocator, now = settled()
        node = PowerNode(MEMBERS[1], "b" * 16)
        ask(allocator, node, now)
        ask(allocator, node, now)
        allocator.supply(100.0, now + arrives)
        claim = replace(node.request(Want(40.0), None, now + arrives), held_w=held)
        assert allocator.request(claim, now + arrives) is None and allocator.is_quiet(now + arrives)


def test_a_flood_of_requests_fills_no_memory() -> None:
    allocator, now = settled(60.0)
    node = PowerNode(MEMBERS[1], "b" * 16)
    for i in range(500):
        ask(allocator, node, now + i / 10_000, 10.0 + i % 30)
    assert len(allocator.ledger.entries["node-1"].grants) <= 31


def test_a_term_from_far_ahead_is_not_believed_so_nobody_uses_the_numbers_up() -> None:
    allocator, now = settled()
    for number, outdone in ((2**52, False), (40, True)):
        request = PowerRequest("node-1", "b" * 16, Term(number, "x", "c" * 16), 1, 1, True, 10.0, 40.0, "normal", None)
        assert allocator.request(request, now) is None
        assert (allocator.term.number == number + 1) is outdone


def test_a_meter_that_lies_switches_no_other_module_off() -> None:
    allocator, now = settled(32.0)
    nodes = [PowerNode(member, "b" * 16) for member in MEMBERS]
    for measured in (None, None, 40.0, 40.0):
        for node in nodes:
            ask(allocator, node, now, 10.0, measured if node is nodes[0] else None)
    assert all(node.loaded for node in nodes)


def test_waits_allow_for_clocks_that_drift_apart() -> None:
    timing = Timing(lease_s=3.0, drift=0.02)
    assert timing.hold_s == pytest.approx(3.0 * 1.02 / 0.98)
    assert timing.hold_s / 1.02 >= timing.lease_s / 0.98 - 1e-12, "the fastest waits as long as the slowest takes"
    assert math.isclose(Timing(drift=0.0).hold_s, 3.0)


def test_what_another_version_kept_over_a_restart_is_not_lost(tmp_path: Path) -> None:
    node, other = Member("node-1", 10.0, 40.0, (10.0, 17.0, 40.0)), Member("node-2", 10.0, 25.0)
    kept = Kept(Term(3, "node-1", "ab" * 8), 3, 50.0, 40.0, (node, other), (Link("node-1", "node-2", None, 2.5),))
    PowerFile(tmp_path).keep(kept)
    assert PowerFile(tmp_path).kept == kept
    file = tmp_path / "power.json"
    body = json.loads(file.read_text())
    del body["members"][0]["steps_w"]
    file.write_text(json.dumps({**body, "later": 1, "contacts": [{**each, "later": 1} for each in body["contacts"]]}))
    assert PowerFile(tmp_path).kept == replace(kept, members=(replace(node, steps_w=()), other))
