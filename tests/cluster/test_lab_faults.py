"""A stack of four real agents, pulled apart, killed, frozen and half deaf: what its nodes say of themselves stays true.

The tests share one lab, and each leaves it whole. What must be true of all epochs that were taken in all of them is
looked at in the end.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from running_lab import RunningLab, loopback, running, until

from agent.lab import LabAgent

SOAK = int(os.environ.get("THOX_SOAK_MOVES", "0"))
pytestmark = pytest.mark.timeout(0 if SOAK else 300)  # several processes start, on a machine that may be busy

ALL = ("module-1", "module-2", "module-3", "module-4")
LOWER, UPPER = ALL[:2], ALL[2:]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    """Its modules have touched: module-1 lies lowest, and has the supply."""
    with running(loopback(tmp_path_factory.mktemp("lab"), 4, apart=True)) as lab:
        for module in ALL:
            lab.together(module)
        for below, above in pairwise(ALL):
            lab.world.stack(below, above)
        lab.together()
        yield lab


@pytest.fixture
def whole(lab: RunningLab) -> Iterator[RunningLab]:
    lab.together()
    yield lab
    lab.together()


def _roster(agent: LabAgent) -> Any:  # noqa: ANN401  JSON
    return json.loads((agent.state_dir / "trust.json").read_bytes())["roster"]


def test_modules_that_touch_are_one_cluster_that_all_of_them_describe_alike(whole: RunningLab) -> None:
    topologies = [whole.topology(module) for module in ALL]
    ids = [whole.agents[module].node for module in ALL]
    first = topologies[0]
    assert [each["leader"] for each in topologies] == [ids[0]] * 4, "the one with the supply"
    assert len({(each["cluster_id"], each["epoch"], each["node_count"]) for each in topologies}) == 1
    assert sorted(node["id"] for node in first["nodes"]) == sorted(ids)
    assert {node["id"]: node["role"] for node in first["nodes"]} == {
        each: "leader" if each == ids[0] else "follower" for each in ids
    }

    def links(module: str) -> list[tuple[str, str]]:
        return sorted((link["lower"], link["upper"]) for link in whole.topology(module)["links"])

    until(lambda: all(links(module) == sorted(pairwise(ids)) for module in ALL))


def test_a_module_that_is_pulled_goes_on_alone_and_comes_back(whole: RunningLab) -> None:
    before = whole.together()
    whole.world.unstack("module-4")
    rest, alone = whole.together(*ALL[:3]), whole.together("module-4")
    assert min(rest.term, alone.term) > before.term and whole.leader("module-1") == "module-1"
    assert whole.leader("module-4") == "module-4"
    assert whole.topology("module-1")["cluster_id"] != whole.topology("module-4")["cluster_id"]
    whole.world.stack("module-3", "module-4")
    assert whole.together().term > max(rest.term, alone.term)


def test_halves_of_a_stack_are_clusters_of_their_own_and_merge_under_the_one_with_the_supply(whole: RunningLab) -> None:
    whole.world.unstack("module-3")
    lower, upper = whole.together(*LOWER), whole.together(*UPPER)
    assert whole.leader("module-1") == "module-1" and whole.leader("module-3") in UPPER
    whole.world.stack("module-2", "module-3")
    merged = whole.together()
    assert merged.term > max(lower.term, upper.term) and whole.leader("module-4") == "module-1"


def test_a_killed_follower_leaves_and_is_the_same_device_when_it_is_back(whole: RunningLab) -> None:
    follower = whole.agents["module-3"]
    trusted = _roster(follower)
    before = whole.together()
    follower.kill()
    rest = whole.together("module-1", "module-2", "module-4")
    assert rest.term > before.term and whole.leader("module-2") == "module-1"
    follower.start()
    assert whole.together().term > rest.term, "what it had heard of before it was killed is no way back"
    assert (follower.state_dir / "device.id").read_text().strip() == follower.device
    assert _roster(follower) == trusted


def test_a_killed_leader_is_replaced_and_comes_back_to_a_later_epoch(whole: RunningLab) -> None:
    before = whole.together()
    whole.agents["module-1"].kill()
    rest = whole.together(*ALL[1:])
    assert rest.term > before.term and whole.leader("module-2") in ALL[1:]
    whole.agents["module-1"].start()
    after = whole.together()
    assert after.term > rest.term
    assert all(taken.token != before.token for taken in whole.epochs("module-1")[-1:])


def test_a_frozen_leader_that_thaws_leads_nobody_by_its_old_epoch(whole: RunningLab) -> None:
    old = whole.together()
    leader = whole.leader("module-2")
    others = tuple(module for module in ALL if module != leader)
    whole.agents[leader].signal(signal.SIGSTOP)
    try:
        rest = whole.together(*others)
    finally:
        whole.agents[leader].signal(signal.SIGCONT)
    new = whole.together()
    assert new.term > rest.term > old.term
    for module in others:
        since = [taken for taken in whole.epochs(module) if taken.term >= rest.term]
        assert all(taken.token != old.token for taken in since)


def test_a_link_that_is_cut_one_way_divides_the_stack_there(whole: RunningLab) -> None:
    before = whole.together()
    whole.world.cut("module-2", "module-3")
    try:
        lower, upper = whole.together(*LOWER), whole.together(*UPPER)
        assert min(lower.term, upper.term) > before.term
    finally:
        whole.world.join("module-2", "module-3")
    assert whole.together().term > max(lower.term, upper.term)


def test_of_two_that_cannot_hear_each_other_one_way_one_is_left_out_and_no_two_lead_the_rest(whole: RunningLab) -> None:
    whole.world.cut("module-1", "module-4")
    try:
        whole.together(*ALL[:3])
        whole.together("module-4")
    finally:
        whole.world.join("module-1", "module-4")


class Moves:
    """Any hand, again and again, what it did undone by the next of its kind there; and which clusters there must be."""

    def __init__(self, lab: RunningLab) -> None:
        self._lab, self._made = lab, list[str]()
        self._open, self._cut = set[int](), set[int]()  # contacts, each counted by the module below it
        self._down, self._frozen = set[str](), set[str]()

    def make(self, random: Random) -> None:
        contact, module = random.randrange(len(ALL) - 1), random.choice(ALL)
        move = random.choice((self._part, self._part, self._silence, self._kill, self._freeze))
        where: Any = contact if move in (self._part, self._silence) else module
        self._made.append(f"{move.__name__} {where}")
        move(where)

    def mend(self) -> None:
        for contact in sorted(self._open):
            self._part(contact)
        for contact in sorted(self._cut):
            self._silence(contact)
        for module in sorted(self._frozen):
            self._freeze(module)
        for module in sorted(self._down):
            self._kill(module)

    def _part(self, contact: int) -> None:
        if contact in self._open:
            self._lab.world.stack(ALL[contact], ALL[contact + 1])
        else:
            self._lab.world.unstack(ALL[contact + 1])
        self._open ^= {contact}

    def _silence(self, contact: int) -> None:
        """What is said upwards is lost there."""
        (self._lab.world.join if contact in self._cut else self._lab.world.cut)(ALL[contact], ALL[contact + 1])
        self._cut ^= {contact}

    def _kill(self, module: str) -> None:
        if module in self._down:
            self._lab.agents[module].start()
        else:
            self._lab.agents[module].kill()
            self._frozen.discard(module)
        self._down ^= {module}

    def _freeze(self, module: str) -> None:
        if module not in self._down:
            self._lab.agents[module].signal(signal.SIGCONT if module in self._frozen else signal.SIGSTOP)
            self._frozen ^= {module}

    def check(self) -> None:
        try:
            for cluster in self._clusters():
                self._lab.together(*cluster)
        except AssertionError as error:
            raise AssertionError(f"after {', '.join(self._made)}: {error}") from error

    def _clusters(self) -> list[tuple[str, ...]]:
        parts: list[list[str]] = [[]]
        for number, module in enumerate(ALL):
            if module not in self._down | self._frozen:
                parts[-1].append(module)
            if number in self._open | self._cut:
                parts.append([])
        return [tuple(part) for part in parts if part]


def test_after_any_moves_the_clusters_are_those_that_can_be(whole: RunningLab) -> None:
    moves, random = Moves(whole), Random()
    try:
        for _ in range(SOAK or 3):
            moves.make(random)
            moves.check()
    finally:
        moves.mend()
    moves.check()
