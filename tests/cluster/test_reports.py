"""Any node answers for the whole stack: several services over real links, one of them silent, lying or cut off."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from answering_stack import AnsweringNode, AnsweringStack, answering_stack
from touching_stack import until

from agent.cluster.report.event_hub import Numbered
from agent.cluster.report.events import StatusChanged
from agent.cluster.report.gathering import GATHER_S


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnsweringStack]:
    """Three modules that stay together."""
    with answering_stack(tmp_path_factory.mktemp("stack"), 3) as three:
        three.together()
        yield three


def healthy(node: AnsweringNode) -> bool:
    return bool(node.status()["status"] == "healthy")


def _taken(node: AnsweringNode, at_once: int) -> list[float]:
    """Seconds that each of so many had to wait for the members that ``node`` tells of."""
    taken: list[float] = []

    def ask() -> None:
        began = time.monotonic()
        node.members()
        taken.append(time.monotonic() - began)

    askers = [threading.Thread(target=ask) for _ in range(at_once)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(30)
    assert len(taken) == at_once
    return taken


def test_every_node_tells_the_same_of_the_whole_stack(stack: AnsweringStack) -> None:
    for node in stack.members:
        until(lambda asked=node: healthy(asked))  # type: ignore[misc]
    told = [node.status() for node in stack.members]
    assert [one.pop("node") for one in told] == [node.id for node in stack.members]
    assert told[0] == told[1] == told[2]
    assert (told[0]["total_ram_gb"], told[0]["total_tops"], told[0]["node_count"]) == (48, 300, 3)
    assert (told[0]["leader"], told[0]["reasons"], told[0]["settled"]) == (stack.nodes[0].id, [], True)
    assert told[0]["capabilities"]["text_generation"] and not told[0]["capabilities"]["data_parallel"]


def test_the_topology_has_roles_faces_and_addresses_for_clients(stack: AnsweringStack) -> None:
    first, second, third = stack.members
    topology = third.topology()
    assert [(one["id"], one["role"]) for one in topology["nodes"]] == [
        (first.id, "leader"),
        (second.id, "follower"),
        (third.id, "follower"),
    ]
    faces = [tuple(one[part] for part in ("lower", "lower_face", "upper", "upper_face")) for one in topology["links"]]
    assert faces == [(first.id, "top", second.id, "bottom"), (second.id, "top", third.id, "bottom")]
    assert {link["gigabits"] for link in topology["links"]} == {10.0}
    assert topology["nodes"][1]["address"] == f"{second.hardware.link.address()}:5381"


def test_a_node_tells_the_heat_power_and_models_of_the_others_as_they_are_now(stack: AnsweringStack) -> None:
    first, second, third = stack.members
    stack.world.fail("meter", second.name)
    second.host.load("a")
    until(lambda: third.members()[second.id]["status"] == "degraded")
    shown, own = third.members()[second.id], second.members()[second.id]
    assert shown["power"]["measured"]["quality"] == "fault" and shown["power"]["measured"]["value"] is None
    assert "power_meter: fault" in shown["reason"] and shown["checks"] == own["checks"]
    assert shown["thermal_zones"].keys() == own["thermal_zones"].keys() and shown["machine"] == own["machine"]
    assert [(one["model"], one["state"], one["context_length"]) for one in shown["models"]] == [("a", "loaded", 512)]
    assert first.status()["active_model"] == third.status()["active_model"] == "a"  # the leader has none
    assert first.status()["status"] == "degraded" and second.id in first.status()["reasons"][0]
    stack.world.mend("meter", second.name)
    second.host.unload("a")
    until(lambda: healthy(first))


def test_a_member_that_does_not_answer_is_told_with_what_was_last_known(stack: AnsweringStack) -> None:
    first, second, third = stack.members
    before = first.members()[third.id]
    third.hush()
    try:
        until(lambda: first.members()[third.id]["status"] == "silent")
        shown = first.members()[third.id]
        assert shown["age_s"] < 2 and shown["report_age_s"] >= 0.5  # it is heard, and tells nothing
        assert shown["reason"] and shown["versions"] == before["versions"] and shown["cores"] == before["cores"]
        assert max(_taken(first, at_once=8)) < 4 * GATHER_S  # one after the other it would be eight
        assert first.status()["status"] == "degraded"
        assert first.members()[second.id]["status"] == "healthy"
    finally:
        third.speak()
    until(lambda: healthy(first))


@pytest.mark.parametrize(
    "lie", [{"uptime_s": -1, "board": "a palace"}, {"checks": {"x\x1b[2J": "ok"}}], ids=lambda lie: ",".join(lie)
)
def test_a_member_that_answers_nonsense_is_told_as_degraded_and_none_of_it_is_shown(
    stack: AnsweringStack, lie: dict[str, object]
) -> None:
    first, second = stack.members[:2]
    until(lambda: healthy(first))
    second.speak(**lie)
    try:
        until(lambda: first.members()[second.id]["status"] == "degraded")
        shown = first.members()[second.id]
        assert "no report" in shown["reason"] and shown["board"] == first.members()[first.id]["board"]
        assert shown["reason"].isprintable() and shown["uptime_seconds"] >= 0
    finally:
        second.speak()
    until(lambda: healthy(first))


def test_a_member_that_never_told_anything_is_shown_as_far_as_it_is_heard(tmp_path: Path) -> None:
    with answering_stack(tmp_path, 2) as pair:
        first, second = pair.members
        second.speak(v=0)  # a version of the future, or the past
        pair.together()
        shown = first.members()[second.id]
        assert shown["status"] == "degraded" and "version" in shown["reason"]
        assert (shown["ram_gb"], shown["role"]) == (16, "follower")
        assert shown["power"] is None and shown["report_age_s"] is None and shown["age_s"] < 5
        assert first.status()["total_ram_gb"] == 32


def test_a_follower_that_loses_its_leader_says_so_until_there_is_another(tmp_path: Path) -> None:
    with answering_stack(tmp_path, 2) as pair:
        pair.together()
        leader, follower = pair.members
        until(lambda: healthy(follower))
        listening = follower.service.events.listen()
        leader.stop()
        seen: list[StatusChanged] = []

        def told() -> StatusChanged:
            item = listening.next(30.0)
            assert item is not None, seen
            if isinstance(item, Numbered) and isinstance(item.event, StatusChanged):
                seen.append(item.event)
            return seen[-1] if seen else StatusChanged("healthy", (), settled=True, leader_reached=True)

        until(lambda: not told().leader_reached)
        assert seen[-1].status == "degraded"
        assert any("the leader" in reason and leader.id in reason for reason in seen[-1].reasons)
        until(lambda: told().leader_reached and seen[-1].settled)
        assert (follower.status()["leader"], follower.status()["node_count"]) == (follower.id, 1)
        # Whose watts the dead leader shared out is at its floor until that is back, and says so; led it is.
        until(lambda: not any("the leader" in reason for reason in follower.status()["reasons"]))
        leader.start()
