"""How the stack would carry a model: asked at any node, decided by its leader, who asks all members what they have.

A question carries the token of the asker's epoch, and whoever is not in that epoch refuses it; so does the asker with
an answer. What a model takes is said by a node that has it, as a load there would have it. This release serves every
model on one node, so a plan of several is a forecast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NoReturn

from agent.cluster import placement_wire as wire
from agent.cluster.documents.manifest import KeptModel
from agent.cluster.fields import read
from agent.cluster.link.frames import Json, LinkError
from agent.cluster.link.peers import Links
from agent.cluster.membership.epoch import Verdict
from agent.cluster.placement import Need, Room, plan, stack_order, whole_on
from agent.cluster.placement_wire import Asked, Forecast, NoRoom
from agent.cluster.report.values import MemberReport, StackReport
from agent.cluster.state import Cluster
from agent.cluster.trust.identity import TrustError
from agent.errors import NoRoomError, NotFoundError, RequestError, ThoxError, UnavailableError
from agent.models.checkpoint import check_usable
from agent.models.host import ModelHost
from agent.models.parts import need_of
from agent.models.pull_name import spelling
from agent.models.store import ModelStore, check_name

PLAN: Final = "plan"
NEED: Final = "plan-need"
FORWARD_S: Final = 5.0  # the leader itself asks all for their reports, and perhaps somebody for the model
NEED_S: Final = 2.0
RETRY_S: Final = 2.0
_SLOWEST: Final = 1.0  # TOPS of a machine that has no accelerator that we know of


class Plans:
    """Thread-safe."""

    def __init__(
        self,
        node_id: str,
        cluster: Callable[[], Cluster],
        admits: Callable[[str], Verdict],
        reports: Callable[[], StackReport],
        links: Links,
        host: ModelHost,
        store: ModelStore,
        models_of: Callable[[str], tuple[KeptModel, ...]],
    ) -> None:
        """``admits``: membership's verdict on the token of an order. ``models_of``: those that a node of
        the stack told it has."""
        self._node_id, self._cluster, self._admits = node_id, cluster, admits
        self._reports, self._links, self._models_of = reports, links, models_of
        self._host, self._store = host, store
        links.serve(PLAN, self._answer)
        links.serve(NEED, self._answer_need)

    def forecast(self, model: str) -> tuple[Cluster, Forecast]:
        """With the cluster that it is of.

        Raises NoRoomError where the stack cannot carry it, NotFoundError and RequestError for the name, ModelError for
        its files, UnavailableError where the leader is not reached or the epoch changed meanwhile.
        """
        check_name(model)
        cluster = self._cluster()
        if self._leads(cluster):
            return cluster, self._decide(model, cluster)
        leader = cluster.leader_id
        answer = self._ask(leader, PLAN, Asked(model, cluster.token), FORWARD_S)
        try:
            if "no_room" in answer:
                raise read(wire.NO_ROOM, answer["no_room"]).error()
            return cluster, read(wire.forecast, answer.get("forecast"))
        except RequestError as error:
            _not_understood(leader, error)

    # --- asked by a node ---------------------------------------------------------------------------------------------

    def _answer(self, _node: str, body: object) -> Json:
        """What a follower asks for a client, whose key it has checked. It is forwarded no further."""
        asked = read(wire.ASKED, body)
        cluster = self._current(asked.token)
        if not self._leads(cluster):
            raise UnavailableError(
                f"{self._node_id} does not lead any more",
                retry_after=RETRY_S,
                hint="ask again: a leader was chosen anew",
            )
        try:
            told: Json = {"forecast": wire.to_json(self._decide(asked.model, cluster))}
        except NoRoomError as error:
            told = {"no_room": wire.to_json(NoRoom.of(error))}
        return {"token": cluster.token, **told}

    def _answer_need(self, node: str, body: object) -> Json:
        asked = read(wire.ASKED, body)
        cluster = self._current(asked.token)
        if node != cluster.leader_id:
            raise UnavailableError(f"{node} does not lead {self._node_id}", retry_after=RETRY_S)
        return {"token": cluster.token, "need": wire.to_json(self._own_need(asked.model))}

    def _current(self, token: str) -> Cluster:
        """The cluster whose epoch this is. Raises UnavailableError for a token of any other."""
        verdict, cluster = self._admits(token), self._cluster()
        if verdict != "current" or cluster.token != token:
            old = "that is over" if verdict == "older" else f"that {self._node_id} is not in"
            raise UnavailableError(
                f"the question comes from an epoch {old}",
                retry_after=RETRY_S,
                hint="ask again: the stack is changing its members",
            )
        return cluster

    # --- asking a node -----------------------------------------------------------------------------------------------

    def _ask(self, node: str, purpose: str, asked: Asked, timeout_s: float) -> Json:
        """The answer of that node, if it is in the epoch that the question is of, and this one is still."""
        try:
            answer = self._links.ask(node, purpose, wire.to_json(asked), timeout_s)
        except (LinkError, TrustError) as error:
            leads = ", which leads," if purpose == PLAN else f", which has {asked.model},"
            raise UnavailableError(
                f"{node}{leads} cannot be reached: {error.message}",
                retry_after=RETRY_S,
                hint="GET /v1/topology shows who is there; plans are made by the leader alone",
            ) from error
        try:
            token = read(wire.TOKEN, answer.get("token"))
        except RequestError as error:
            _not_understood(node, error)
        if token != asked.token or self._admits(token) != "current":
            raise _moved()
        return answer

    # --- deciding, at the leader -------------------------------------------------------------------------------------

    def _leads(self, cluster: Cluster) -> bool:
        return cluster.leader_id in ("", self._node_id)

    def _decide(self, name: str, cluster: Cluster) -> Forecast:
        need = self._need(name, cluster)
        stack = self._reports()
        if stack.cluster.token != cluster.token:
            raise _moved()
        order = stack_order(stack.cluster)
        members = sorted(stack.members, key=lambda one: order.index(one.node.id))
        running = min(
            (one.node.id for one in members if _has_loaded(one, need.model)),
            key=lambda node: (node != self._node_id, node),
            default="",
        )
        rooms = tuple(_room(one, need) for one in members)
        current = whole_on(need, running) if running else None
        found = plan(current, need, rooms, order, self._node_id, cluster.token)
        holders = tuple(node for node in order if need.model in self._names_on(node))
        return Forecast(need, found, rooms, found.nodes == (running,), holders)

    def _need(self, name: str, cluster: Cluster) -> Need:
        """Said by this node if it has the model, else by the first that has it and answers."""
        try:
            return self._own_need(name)
        except NotFoundError as error:
            nobody = f"No node of the stack has it: {error.message}" if len(cluster.nodes) > 1 else error.message
            refused: ThoxError = NotFoundError(nobody, hint=error.hint, param=error.param)
        for node, model in self._elsewhere(name, cluster):
            try:
                return self._told_need(node, Asked(model, cluster.token))
            except NotFoundError:  # it was removed there
                continue
            except UnavailableError as error:
                refused = error
        raise refused

    def _elsewhere(self, name: str, cluster: Cluster) -> Iterator[tuple[str, str]]:
        """Members that told they have the model which a name means, and how it is called there."""
        meant = spelling(self._store.aliases().get(name, name))
        for node in cluster.nodes:
            if node.id != self._node_id:
                yield from ((node.id, model) for model in self._names_on(node.id) if spelling(model) == meant)

    def _told_need(self, node: str, asked: Asked) -> Need:
        answer = self._ask(node, NEED, asked, NEED_S)
        try:
            return read(wire.need, answer.get("need"))
        except RequestError as error:
            _not_understood(node, error)

    def _own_need(self, name: str) -> Need:
        model = self._store.find(name)
        if model.kind == "adapter":  # it goes with its base
            model = self._store.base(model)
        check_usable(model)
        return need_of(model, self._host.needed(model))

    def _names_on(self, node: str) -> tuple[str, ...]:
        """What others have is known within seconds."""
        models = self._store.models() if node == self._node_id else self._models_of(node)
        return tuple(model.name for model in models)


def _has_loaded(member: MemberReport, model: str) -> bool:
    hosted = () if member.report is None or member.status == "silent" else member.report.models
    return any((one.name, one.state) == (model, "loaded") for one in hosted)


def _room(member: MemberReport, need: Need) -> Room:
    """As the member's last report has it. A silent one has none that counts."""
    free = 0 if member.report is None else member.report.memory_free
    if _has_loaded(member, need.model):
        free += need.whole
    reachable = member.report is not None and member.status != "silent"
    return Room(member.node.id, free, member.node.tops or _SLOWEST, reachable)


def _moved() -> UnavailableError:
    return UnavailableError(
        "the stack changed its members while it was asked", retry_after=RETRY_S, hint="ask again in a moment"
    )


def _not_understood(node: str, error: RequestError) -> NoReturn:
    raise UnavailableError(f"{node} says what is {error.message}", retry_after=RETRY_S, hint=error.hint) from error
