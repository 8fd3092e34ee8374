"""Plans asked at any node of a stack: whole nodes over real links, and what a follower makes of its leader's answer."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from answering_stack import AnsweringNode, AnsweringStack
from fake_models import FakeLoader
from sparse_checkpoint import write_sparse
from touching_stack import until

from agent.api import schema_cluster
from agent.api.render_plan import plan_object
from agent.cluster import placement_wire as wire
from agent.cluster.link.frames import LinkError
from agent.cluster.membership.epoch import Verdict
from agent.cluster.placement import Need, Room, whole_on
from agent.cluster.placement_wire import Asked, Forecast
from agent.cluster.plans import NEED, PLAN, Plans
from agent.cluster.report.values import MemberReport, NodeReport, PowerState, StackReport
from agent.cluster.state import Cluster, Node
from agent.errors import NoRoomError, NotFoundError, RequestError, UnavailableError
from agent.models.host import ModelHost
from agent.models.lease import HostedModel
from agent.models.store import ModelStore
from hal.base import BoardFacts

GIB = 1 << 30
BIG = "big-7b"  # 6.05 GiB: int4, and a cache for four contexts of 8,192 tokens
FREE = 5 * GIB // 2


class PlanningNode(AnsweringNode):
    """The second module alone has the big model; each has 2.5 GiB for models."""

    def shipped(self) -> dict[str, Path]:
        big = {BIG: write_sparse(self.state_dir / "shipped-big")} if self.name == "module-2" else {}
        return {"small": write_sparse(self.state_dir / "shipped-small", num_hidden_layers=2), **big}

    def available(self) -> int:
        return FREE

    def prepared(self) -> None:
        self.stack.documents.tell_also(self.service.manifest.tell)

    def plan(self, model: str) -> dict[str, Any]:
        cluster, forecast = self.service.plans.forecast(model)
        body = plan_object(forecast, cluster, self.id, "simulated")
        jsonschema.validate(body, schema_cluster.PLAN)
        return body


class PlanningStack(AnsweringStack):
    """``planning`` are its nodes, typed as what they are."""

    module = PlanningNode

    @property
    def planning(self) -> list[PlanningNode]:
        return [node for node in self.nodes if isinstance(node, PlanningNode)]


@contextlib.contextmanager
def planning_stack(folder: Path, size: int) -> Iterator[PlanningStack]:
    stack = PlanningStack(folder, size)
    try:
        yield stack
    finally:
        stack.close()


def test_any_node_tells_how_the_stack_would_carry_a_model_that_one_of_them_has(tmp_path: Path) -> None:
    with planning_stack(tmp_path, 3) as stack:
        first, second, third = stack.planning
        cluster = stack.together()
        assert cluster.leader_id == first.id
        until(lambda: all(node.service.manifest.nodes_with(BIG) == (second.id,) for node in stack.planning))
        until(lambda: len(first.service.manifest.nodes_with("small")) == 3)

        answers = [node.plan(BIG) for node in stack.planning]
        assert [answer.pop("node") for answer in answers] == [first.id, second.id, third.id]
        assert answers[0] == answers[1] == answers[2]
        told = answers[0]
        assert (told["leader"], told["epoch"], told["state"]) == (first.id, cluster.epoch, "forecast")
        assert "serves every model on one node" in told["note"]
        assert [stage["node"] for stage in told["stages"]] == [first.id, second.id, third.id]
        assert [(stage["first_layer"], stage["last_layer"]) for stage in told["stages"]] == [
            (0, 10),
            (11, 21),
            (22, 31),
        ]
        assert all(0 < stage["needed_bytes"] <= stage["free_bytes"] == FREE for stage in told["stages"])
        assert [(node["id"], node["has_files"]) for node in told["nodes"]] == [
            (first.id, False),
            (second.id, True),
            (third.id, False),
        ]

        # What one node has room for goes to one: the leader, and once it is loaded somewhere it stays there.
        small = third.plan("small")
        assert (small["state"], [stage["node"] for stage in small["stages"]]) == ("possible", [first.id])
        third.host.load("small")
        until(lambda: second.plan("small")["state"] == "serving")
        assert [stage["node"] for stage in second.plan("small")["stages"]] == [third.id]

        with pytest.raises(NotFoundError, match="no-such-model"):
            third.plan("no-such-model")
        for purpose in (PLAN, NEED):
            for token, why in (("1.node-x.0", "an epoch that is over"), (f"{2**52}.node-x.0", "not in")):
                with pytest.raises(UnavailableError, match=why):
                    second.stack.peers.ask(first.id, purpose, {"model": BIG, "token": token})
        with pytest.raises(UnavailableError, match="does not lead"):
            third.stack.peers.ask(second.id, NEED, {"model": BIG, "token": cluster.token})

        # The two that are left lack the room of the third, and say so in the same words at either.
        stack.world.unstack("module-2")
        stack.together(second, third)
        refused = [_refused(node, BIG) for node in (second, third)]
        assert refused[0] == refused[1] and "the 2 nodes that are reached have" in refused[0]["error"]["message"]


def _refused(node: PlanningNode, model: str) -> Any:  # noqa: ANN401  JSON
    with pytest.raises(NoRoomError) as refused:
        node.plan(model)
    return refused.value.to_json()


# --- a follower and its leader, without links -------------------------------------------------------------------------


class OneAnswer:
    """Links on which every question gets the same answer, or none. ``serve``d is what the plans of this node answer."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] | None = None
        self.asked: list[tuple[str, str, object]] = []
        self.served: dict[str, Callable[[str, object], dict[str, Any]]] = {}

    def serve(self, purpose: str, answer: Callable[[str, object], dict[str, Any]]) -> None:
        self.served[purpose] = answer

    def ask(self, node: str, purpose: str, body: object, timeout_s: float) -> dict[str, Any]:
        self.asked.append((node, purpose, body))
        if self.answer is None:
            raise LinkError(f"{node} is not to be heard")
        return self.answer


NODES = tuple(Node(name, "a:5381", 1, 1.0, False, None, "0") for name in ("node-a", "node-b"))
TOKEN = "7.node-a.digest"
CLUSTER = Cluster("ms-cluster-x", 7, NODES, leader_id="node-a", token=TOKEN)
NEEDED = Need("m", (10, 10), embedding=1, head=2, cache=1, tokens=4, stage=5)
FORECAST = Forecast(
    NEEDED, whole_on(NEEDED, "node-b", TOKEN), (Room("node-a", 7, 2.0), Room("node-b", 99, 2.0)), False, ("node-b",)
)


class Follower:
    """node-b, which node-a leads."""

    def __init__(self, state_dir: Path) -> None:
        self.links, self.verdict = OneAnswer(), "current"
        store = ModelStore(state_dir, {}, {})
        self.host = ModelHost(store, FakeLoader())
        self.plans = Plans(
            "node-b",
            lambda: CLUSTER,
            self._admits,
            lambda: StackReport(CLUSTER, ()),
            self.links,
            self.host,
            store,
            lambda _node: (),
        )

    def _admits(self, _token: str) -> Verdict:
        verdicts: dict[str, Verdict] = {"current": "current", "older": "older"}
        return verdicts[self.verdict]


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[Follower]:
    follower = Follower(tmp_path)
    yield follower
    follower.host.close()


def test_a_follower_passes_the_question_on_with_its_epochs_token_and_believes_an_answer_of_that_epoch(
    follower: Follower,
) -> None:
    follower.links.answer = {"token": TOKEN, "forecast": wire.to_json(FORECAST)}
    follower.links.answer = _as_it_arrives(follower.links.answer)
    assert follower.plans.forecast("m") == (CLUSTER, FORECAST)
    assert follower.links.asked == [("node-a", PLAN, {"model": "m", "token": TOKEN})]


def test_a_follower_that_cannot_reach_its_leader_says_so(follower: Follower) -> None:
    with pytest.raises(UnavailableError, match="node-a, which leads, cannot be reached") as refused:
        follower.plans.forecast("m")
    assert refused.value.hint and refused.value.status == 503


def test_what_is_no_name_goes_no_further(follower: Follower) -> None:
    with pytest.raises(RequestError, match="is not a model name"):
        follower.plans.forecast("\0")
    assert not follower.links.asked


def test_an_answer_of_another_epoch_is_not_believed(follower: Follower) -> None:
    told = _as_it_arrives({"token": TOKEN, "forecast": wire.to_json(FORECAST)})
    follower.links.answer = {**told, "token": "6.node-a.digest"}
    with pytest.raises(UnavailableError, match="changed its members"):
        follower.plans.forecast("m")
    follower.links.answer, follower.verdict = told, "older"  # of the epoch that was asked in, which ended meanwhile
    with pytest.raises(UnavailableError, match="changed its members"):
        follower.plans.forecast("m")


@pytest.mark.parametrize(
    "changes",
    [
        {"plan": {"model": "m", "stages": [], "token": TOKEN}},
        {"plan": {"model": "m", "stages": [{"node": "node-x", "first": 0, "last": 1}], "token": TOKEN}},
        {"plan": {"model": "m", "stages": [{"node": "node-b", "first": 0, "last": 2}], "token": TOKEN}},
        {"need": {}},
        {"rooms": [{"node": "node-b", "free": 99, "speed": 0, "reachable": True}]},
        {"holders": ["\x1b[2J"]},
        {"more": 1},
    ],
)
def test_an_answer_that_is_no_plan_is_not_passed_on(follower: Follower, changes: dict[str, object]) -> None:
    follower.links.answer = _as_it_arrives({"token": TOKEN, "forecast": {**wire.to_json(FORECAST), **changes}})
    with pytest.raises(UnavailableError, match="node-a says what is not understood"):
        follower.plans.forecast("m")


def test_that_there_is_no_room_reads_the_same_at_a_follower(follower: Follower) -> None:
    error = NoRoomError(
        "m needs more", hint="buy some", param="model", needed_bytes=3, available_bytes=1, missing_bytes=2
    )
    follower.links.answer = _as_it_arrives({"token": TOKEN, "no_room": wire.to_json(wire.NoRoom.of(error))})
    with pytest.raises(NoRoomError) as refused:
        follower.plans.forecast("m")
    assert refused.value.to_json() == error.to_json()


def test_who_does_not_lead_makes_no_plan_and_nonsense_is_refused(follower: Follower) -> None:
    with pytest.raises(UnavailableError, match="node-b does not lead any more"):
        follower.links.served[PLAN]("node-a", wire.to_json(Asked("m", TOKEN)))
    for body in (None, {}, {"model": 1, "token": TOKEN}, {"model": "m", "token": TOKEN, "also": 1}):
        with pytest.raises(RequestError, match="not understood"):
            follower.links.served[PLAN]("node-a", body)


# --- a leader, without links -----------------------------------------------------------------------------------------


def reported(node: Node, free: int, *loaded: str) -> MemberReport:
    report = NodeReport(
        node=node,
        board="a board",
        cores=8,
        simulated=True,
        uptime_s=1.0,
        zones={},
        power=PowerState(None, {}, None, 10.0, 40.0, None, None, None),
        grants=(),
        faces={},
        machine=BoardFacts("a machine", 1, 1.0, 1),
        memory_available=free,
        memory_free=free,
        models=tuple(HostedModel(model, "loaded") for model in loaded),
        active_model=None,
        kinds=frozenset(),
        versions={},
        checks={},
    )
    return MemberReport(node, report, 0.0, 0.0, "healthy", "")


class Leader:
    """node-b, which leads node-a and has the model; ``stack`` is what the members report."""

    def __init__(self, state_dir: Path) -> None:
        self.cluster = replace(CLUSTER, leader_id="node-b")
        self.stack = StackReport(self.cluster, tuple(reported(node, FREE) for node in NODES))
        store = ModelStore(state_dir, {"m": write_sparse(state_dir / "m", num_hidden_layers=2)}, {})
        self.host = ModelHost(store, FakeLoader())
        self.plans = Plans(
            "node-b",
            lambda: self.cluster,
            lambda _token: "current",
            lambda: self.stack,
            OneAnswer(),
            self.host,
            store,
            lambda _node: (),
        )


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[Leader]:
    leader = Leader(tmp_path)
    yield leader
    leader.host.close()


def test_what_is_loaded_on_several_nodes_runs_on_the_leader_else_on_the_lowest_id(leader: Leader) -> None:
    assert _placed(leader) == (("node-b",), False)
    leader.stack = replace(leader.stack, members=(reported(NODES[0], FREE, "m"), reported(NODES[1], FREE)))
    assert _placed(leader) == (("node-a",), True)
    leader.stack = replace(leader.stack, members=tuple(reported(node, FREE, "m") for node in NODES))
    assert _placed(leader) == (("node-b",), True)


def test_the_room_that_a_loaded_model_takes_is_room_for_it(leader: Leader) -> None:
    leader.stack = replace(leader.stack, members=(reported(NODES[0], 0, "m"), reported(NODES[1], FREE)))
    assert _placed(leader) == (("node-a",), True)
    leader.stack = replace(leader.stack, members=(reported(NODES[0], 0, "other"), reported(NODES[1], FREE)))
    assert _placed(leader) == (("node-b",), False)


def test_a_member_that_is_silent_has_no_part_in_a_plan_whatever_it_told_before(leader: Leader) -> None:
    silent = replace(reported(NODES[0], FREE, "m"), status="silent")
    leader.stack = replace(leader.stack, members=(silent, reported(NODES[1], FREE)))
    assert _placed(leader) == (("node-b",), False)


def test_reports_of_another_epoch_make_no_plan(leader: Leader) -> None:
    leader.stack = replace(leader.stack, cluster=replace(leader.cluster, token="8.node-b.digest"))
    with pytest.raises(UnavailableError, match="changed its members"):
        leader.plans.forecast("m")


def _placed(leader: Leader) -> tuple[tuple[str, ...], bool]:
    _, forecast = leader.plans.forecast("m")
    return forecast.plan.nodes, forecast.serving


def _as_it_arrives(body: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(json.dumps(body))
    return told
