"""What listeners are told of the stack: every change between two moments, and nobody who is slow is in the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from touching_stack import until

from agent.cluster.power.wire import Grant, Promise
from agent.cluster.report.changes import EpochChanged, Joined, LeaderChanged, Left
from agent.cluster.report.event_hub import MOST_LISTENERS, EventHub, Lost, Numbered, Snapshot
from agent.cluster.report.events import (
    AlertChanged,
    ContractChanged,
    MemberChanged,
    ModelChanged,
    StackEvent,
    StatusChanged,
    alert_of,
    contracts_of,
    happened,
    models_of,
)
from agent.cluster.report.values import MemberReport, NodeReport, PowerState, StackReport
from agent.cluster.state import Cluster, Node
from agent.errors import OverloadedError, UnavailableError
from agent.models.lease import HostedModel, State
from hal.base import BoardFacts

IDS = ("node-1", "node-2", "node-3")
POWER = PowerState(None, {}, None, 10.0, 40.0, None, None, None)


def node(name: str) -> Node:
    return Node(name, "10.0.0.1:5381", 16 << 30, 100.0, True, 80.0, "0.1.0")


def report(name: str, models: dict[str, State], alert: str, grants: tuple[Grant, ...]) -> NodeReport:
    return NodeReport(
        node=node(name),
        board="a board",
        cores=8,
        simulated=True,
        uptime_s=1.0,
        zones={},
        power=POWER,
        grants=grants,
        faces={},
        machine=BoardFacts("a machine", 1, 1.0, 1),
        memory_available=1,
        memory_free=1,
        models=tuple(HostedModel(model, state) for model, state in models.items()),
        active_model=None,
        kinds=frozenset(),
        versions={},
        checks={"power_alert": alert},
    )


def member(name: str, models: dict[str, State], alert: str = "ok", grants: tuple[Grant, ...] = ()) -> MemberReport:
    told = report(name, models, alert, grants)
    return MemberReport(node(name), told, 0.0, 0.0, "healthy" if told.healthy else "degraded", told.wrong)


@st.composite
def stacks(draw: st.DrawFn) -> StackReport:
    names = draw(st.lists(st.sampled_from(IDS), unique=True, min_size=1))
    epoch = draw(st.integers(1, 3))
    cluster = Cluster(
        "ms-cluster-x",
        epoch,
        tuple(node(name) for name in sorted(names)),
        leader_id=sorted(names)[0],
        settled=draw(st.booleans()),
        leader_reached=draw(st.booleans()),
        token=f"{epoch}.{'.'.join(sorted(names))}",
    )
    states = st.sampled_from(get_args(State)[1:])
    models = st.dictionaries(st.sampled_from("ab"), states, max_size=2)
    alerts = st.sampled_from(["ok", "pulled"])
    members = [member(name, draw(models), draw(alerts)) for name in sorted(names)]
    held = draw(st.dictionaries(st.sampled_from(["contract-1", "contract-2"]), st.sampled_from([10.0, 20.0])))
    grants = tuple(
        Grant(Promise(each, "node-2", 40.0, 0.0, "normal", 60.0), watts, 10.0, None, 65.0, "")
        for each, watts in held.items()
    )
    members[0] = member(members[0].node.id, draw(models), draw(alerts), grants)
    if draw(st.booleans()):
        members[0] = replace(members[0], status="silent", reason="no answer")
    return StackReport(cluster, tuple(members))


class Told:
    """What a client makes of a snapshot and the events after it."""

    def __init__(self, stack: StackReport) -> None:
        self.ids = {one.id for one in stack.cluster.nodes}
        self.leader, self.epoch = stack.cluster.leader_id, stack.cluster.epoch
        self.status = (stack.status, stack.reasons, stack.cluster.settled, stack.cluster.leader_reached)
        self.members = {one.node.id: (one.status, one.reason, alert_of(one)) for one in stack.members}
        self.contracts = {each: (owner, watts) for each, (owner, watts) in contracts_of(stack).items()}
        self.models = {(one.node.id, model): state for one in stack.members for model, state in models_of(one).items()}

    def hear(self, event: StackEvent) -> None:
        match event:
            case Joined(node=one):
                self.ids.add(one.id)
                self.members[one.id] = ("healthy", "", "")
            case Left(node_id=name):
                self.ids.remove(name)
                del self.members[name]
                self.models = {key: state for key, state in self.models.items() if key[0] != name}
            case LeaderChanged(leader=leader):
                self.leader = leader
            case EpochChanged(epoch=epoch):
                self.epoch = epoch
            case StatusChanged(status=status, reasons=reasons, settled=settled, leader_reached=reached):
                self.status = (status, reasons, settled, reached)
            case MemberChanged(node_id=name, status=now, reason=reason):
                self.members[name] = (now, reason, self.members[name][2])
            case AlertChanged(node_id=name, reason=reason):
                self.members[name] = (*self.members[name][:2], reason)
            case ContractChanged(contract_id=contract, granted_w=None):
                del self.contracts[contract]
            case ContractChanged(contract_id=contract, node_id=name, granted_w=watts) if watts is not None:
                self.contracts[contract] = (name, watts)
            case ModelChanged(node_id=name, model=model, state=state):
                self.models[name, model] = state
        self.models = {key: state for key, state in self.models.items() if state != "available"}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(stacks(), stacks())
def test_who_has_a_snapshot_and_hears_every_event_knows_what_the_next_snapshot_says(
    before: StackReport, after: StackReport
) -> None:
    if before.cluster.token != after.cluster.token and before.cluster.epoch == after.cluster.epoch:
        return  # no term has two epochs that one node is in
    told = Told(before)
    for event in happened(before, after):
        told.hear(event)
    assert vars(told) == vars(Told(after))
    assert happened(after, after) == ()


class Script:
    """A stack as a test says, and a hub that looks at it."""

    def __init__(self, most_waiting: int = 4) -> None:
        self.now = StackReport(Cluster("ms-cluster-x", 1, (node("node-1"),), token="1"), (member("node-1", {}),))
        self.looks = threading.Semaphore(0)
        self.listener: Callable[[Cluster], None] = lambda _cluster: None
        self.hub = EventHub(self.look, lambda: self.now.cluster, self.listen, most_waiting)

    def look(self) -> StackReport:
        self.looks.release()
        return self.now

    def listen(self, listener: Callable[[Cluster], None]) -> Callable[[], None]:
        self.listener = listener
        return lambda: None

    def turn(self, number: int) -> None:
        """Two events that membership tells of: an epoch, and another reason."""
        cluster = replace(self.now.cluster, epoch=number, token=str(number), settled=bool(number % 2))
        self.now = replace(self.now, cluster=cluster)
        self.listener(cluster)


@pytest.fixture
def script() -> Iterator[Script]:
    opened = Script()
    opened.hub.start()
    yield opened
    opened.hub.close()


def test_a_snapshot_comes_first_and_then_each_change_with_a_number_that_grows(script: Script) -> None:
    listening = script.hub.listen()
    first = listening.next(10)
    assert isinstance(first, Snapshot) and first.stack == script.now
    script.turn(2)
    events = [listening.next(10), listening.next(10)]
    assert [type(one.event) for one in events if isinstance(one, Numbered)] == [EpochChanged, StatusChanged]
    assert [one.number for one in events if one is not None] == [first.number + 1, first.number + 2]
    assert listening.next(0) is None


def test_what_members_say_is_looked_at_while_somebody_listens_and_only_then(script: Script) -> None:
    assert not script.looks.acquire(timeout=0.2)
    listening = script.hub.listen()
    assert isinstance(listening.next(10), Snapshot)
    script.now = replace(script.now, members=(member("node-1", {"a": "loaded"}),))
    told = listening.next(10)
    assert isinstance(told, Numbered) and told.event == ModelChanged("node-1", "a", "loaded")
    listening.close()
    until(lambda: not script.looks.acquire(timeout=1.5))


def test_who_left_is_no_reason_any_more_for_a_degraded_stack(script: Script) -> None:
    both = Cluster("ms-cluster-x", 1, (node("node-1"), node("node-2")), leader_id="node-1", token="1")
    silent = replace(member("node-2", {}), status="silent", reason="no answer")
    script.now = StackReport(both, (member("node-1", {}), silent))
    listening = script.hub.listen()
    first = listening.next(10)
    assert isinstance(first, Snapshot) and first.stack.status == "degraded"
    script.now = replace(script.now, cluster=replace(both, epoch=2, nodes=both.nodes[:1], token="2"))
    script.listener(script.now.cluster)  # membership knows it before anybody was asked again
    events = [listening.next(10) for _ in range(3)]
    assert [one.event for one in events if isinstance(one, Numbered)] == [
        Left("node-2", 2),
        EpochChanged(2, "2", ("node-1",)),
        StatusChanged("healthy", (), settled=True, leader_reached=True),
    ]


def test_who_does_not_keep_up_is_told_how_much_it_lost_and_what_is_true_now(script: Script) -> None:
    slow, quick = script.hub.listen(), script.hub.listen()
    assert isinstance(slow.next(10), Snapshot) and isinstance(quick.next(10), Snapshot)
    heard = 0
    for number in range(2, 12):
        script.turn(number)
        heard += sum(isinstance(quick.next(10), Numbered) for _ in range(2))
    assert heard == 20 and len(slow.waiting) <= 4
    lost, snapshot = slow.next(10), slow.next(10)
    assert isinstance(lost, Lost) and lost.count == 20
    assert isinstance(snapshot, Snapshot) and snapshot.stack.cluster.epoch == 11
    script.turn(12)
    told = slow.next(10)
    assert isinstance(told, Numbered) and told.number == snapshot.number + 1


def test_only_so_many_may_listen_and_who_leaves_makes_room(script: Script) -> None:
    listeners = [script.hub.listen() for _ in range(MOST_LISTENERS)]
    with pytest.raises(OverloadedError) as refused:
        script.hub.listen()
    assert refused.value.hint and refused.value.headers()["Retry-After"]
    listeners[3].close()
    listeners[3].close()
    script.hub.listen()


def test_whoever_waits_is_woken_when_the_node_stops() -> None:
    script = Script()
    script.hub.start()
    listening = script.hub.listen()
    assert isinstance(listening.next(10), Snapshot)
    told: list[object] = []
    waiter = threading.Thread(target=lambda: told.append(listening.next(60)))
    waiter.start()
    script.hub.close()
    waiter.join(10)
    assert not waiter.is_alive() and told == [None]
    with pytest.raises(UnavailableError):
        script.hub.listen()
