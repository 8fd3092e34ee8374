"""Which layers of a model go to which node of the stack. Pure: whoever sees the same decides the same.

``place`` chooses, by these rules, the first that tells two plans apart:

1. As few nodes as carry it, one if one has the room: each further one costs a round trip for every token.
2. Stages follow the stack, upwards or downwards, and lie as close to one another as they can: neighbours talk to
   neighbours, and what goes further passes modules that have no part in it.
3. The slowest stage takes the least time, as far as memory allows: when several answers are on their way, that is what
   tokens wait for. A stage's time is the weights that it reads for a token over the speed of its node.
4. The leader's own node has a stage, and if it can be the first one; then the lowest ids.

``plan`` keeps the plan that is running while its nodes are there and it fits: a newcomer never moves what serves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from math import inf

from agent.cluster.power.topology import chain
from agent.cluster.state import Cluster
from agent.errors import NoRoomError


@dataclass(frozen=True, slots=True)
class Need:
    """What a model takes, in bytes. One that cannot be divided has one layer."""

    model: str
    layers: tuple[int, ...]  # the weights of each, and its part of the compiled graph
    embedding: int  # the first stage has it besides, and the tokenizer
    head: int  # the last stage has it besides
    cache: int  # of the key-value cache, for a token and a layer
    tokens: int  # that the cache holds
    stage: int  # of every stage: the runtime, what a step makes

    @property
    def whole(self) -> int:
        """On one node."""
        return self.takes(0, len(self.layers) - 1)

    def takes(self, first: int, last: int) -> int:
        """A stage of these layers, the last of them included."""
        embedding = self.embedding if first == 0 else 0
        return self.stage + embedding + self.reads(first, last) + (last + 1 - first) * self.cache * self.tokens

    def reads(self, first: int, last: int) -> int:
        """What such a stage reads for each token that is computed alone. Of the embedding that is one row."""
        return sum(self.layers[first : last + 1]) + (self.head if last == len(self.layers) - 1 else 0)


@dataclass(frozen=True, slots=True)
class Room:
    """What a node has for a model."""

    node: str
    free: int  # bytes; what it holds of the model already counts as free
    speed: float  # above 0, in any unit that is the same for all
    reachable: bool = True


@dataclass(frozen=True, slots=True)
class Stage:
    """Layers on one node, from 0; ``last`` is one of them."""

    node: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Every layer in one stage, in their order. ``token``: of the epoch of the cluster that it was made for."""

    model: str
    stages: tuple[Stage, ...]
    token: str = ""

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(stage.node for stage in self.stages)

    def divides(self, need: Need) -> bool:
        """Whether the stages are of this model as it is now: files may have changed."""
        starts = [0, *(stage.last + 1 for stage in self.stages)]
        return self.model == need.model and starts == [*(stage.first for stage in self.stages), len(need.layers)]


def stack_order(cluster: Cluster) -> tuple[str, ...]:
    """Every member, the lowest of a pile first. Piles that no tag joins follow one another by their lowest ids."""
    order: list[str] = []
    for node in sorted(node.id for node in cluster.nodes):
        order += [each for each in chain(cluster.links, node) if each not in order]
    return tuple(order)


def whole_on(need: Need, node: str, token: str = "") -> Plan:
    """The plan of a model that one node has."""
    return Plan(need.model, (Stage(node, 0, len(need.layers) - 1),), token)


def place(need: Need, rooms: Iterable[Room], order: Sequence[str], leader: str = "", token: str = "") -> Plan:
    """``order``: the nodes as they stand upon one another; who is not in it stands behind it, by id.

    Raises NoRoomError, whose hint says how much is missing.
    """
    there = sorted((room for room in rooms if room.reachable), key=lambda room: room.node)
    named = [*order, *(room.node for room in there if room.node not in order)]
    place_of = {node: at for at, node in enumerate(named)}
    there.sort(key=lambda room: place_of[room.node])
    for count in range(1, min(len(there), len(need.layers)) + 1):
        ways = [way for nodes in combinations(there, count) for way in dict.fromkeys((nodes, nodes[::-1]))]
        ways = [way for way in ways if _filled(need, way) is not None]
        if ways:
            far = [sum(abs(place_of[a.node] - place_of[b.node]) for a, b in pairwise(way)) for way in ways]
            close = [way for way, distance in zip(ways, far, strict=True) if distance == min(far)]
            stages = min((_best(need, way) for way in close), key=lambda found: _rank(found, leader))[1]
            return Plan(need.model, stages, token)
    raise _refusal(need, there)


def plan(
    current: Plan | None, need: Need, rooms: Iterable[Room], order: Sequence[str], leader: str = "", token: str = ""
) -> Plan:
    """``current`` while all its nodes are reached and have the room for it; else a new one on those that are there.

    Raises NoRoomError, which says who is gone where that is why.
    """
    known = {room.node: room for room in rooms if room.reachable}
    if current is None:
        return place(need, known.values(), order, leader, token)
    gone = [node for node in current.nodes if node not in known]
    if not gone and current.divides(need) and all(_carries(known[stage.node], need, stage) for stage in current.stages):
        return replace(current, token=token)
    try:
        return place(need, known.values(), order, leader, token)
    except NoRoomError as error:
        if not gone:
            raise
        raise NoRoomError(
            f"{', '.join(gone)} had a part of it and cannot be reached: {error.message}",
            hint=error.hint,
            param=error.param,
            **error.details,
        ) from error


def _carries(room: Room, need: Need, stage: Stage) -> bool:
    return need.takes(stage.first, stage.last) <= room.free


def _filled(need: Need, rooms: Sequence[Room], below: float = inf) -> tuple[Stage, ...] | None:
    """The layers over all these nodes in this order, each stage taking less time than ``below``: each node takes as
    many as it may. None where that does not work out.

    Where no plan of fewer of these nodes exists, it works out whenever any cut does. Let there be one, and compare node
    by node: none of our stages ends before the one there. For who starts no earlier than there reaches no less far,
    what is left of its stage there being a part of what it may take. It may start at or beyond the end of that stage,
    and be able to take nothing: but then those before it as we filled them, and the rest of that cut behind it, would
    be a plan of fewer.
    """
    stages: list[Stage] = []
    start, count = 0, len(need.layers)
    for room in rooms:
        end = _reach(need, room, start, below)
        if end == start:
            return None
        stages.append(Stage(room.node, start, end - 1))
        start = end
    return tuple(stages) if start == count else None


def _best(need: Need, rooms: Sequence[Room]) -> tuple[float, tuple[Stage, ...]]:
    """The time of the slowest stage and the stages, in a cut in which it is the least.

    Each cut that is found makes the bound of the next, until none is below it. One without a bound there is: else they
    would not be asked for.
    """
    found: tuple[Stage, ...] = ()
    slowest, better = inf, _filled(need, rooms)
    while better is not None:
        found = better
        slowest = max(_time(need, room, one.first, one.last) for room, one in zip(rooms, found, strict=True))
        better = _filled(need, rooms, slowest)
    return slowest, found


def _time(need: Need, room: Room, first: int, last: int) -> float:
    return need.reads(first, last) / room.speed


def _reach(need: Need, room: Room, start: int, below: float = inf) -> int:
    """The layer behind the last one that this node may take, from ``start`` on, in less time than ``below``."""
    low, high = start, len(need.layers)
    while low < high:  # where it may take some layers, it may take fewer
        middle = (low + high + 1) // 2
        if need.takes(start, middle - 1) <= room.free and _time(need, room, start, middle - 1) < below:
            low = middle
        else:
            high = middle - 1
    return low


def _rank(found: tuple[float, tuple[Stage, ...]], leader: str) -> tuple[float, bool, bool, tuple[str, ...]]:
    slowest, stages = found
    nodes = tuple(stage.node for stage in stages)
    return slowest, leader not in nodes, nodes[0] != leader, nodes


def _refusal(need: Need, there: Sequence[Room]) -> NoRoomError:
    free = sum(max(0, room.free) for room in there)
    missing = min(_missing(need, way) for way in (there, there[::-1]))
    have = "the node that is reached has" if len(there) == 1 else f"the {len(there)} nodes that are reached have"
    if len(need.layers) > 1:
        each = f", and {_mib(need.stage)} more for each further node"
        helps = [f"one more node with {_mib(missing)} free would carry it with them"]
    else:
        each, helps = "", [f"it cannot be divided: {_mib(missing)} must be free on one node"]
    cache = len(need.layers) * need.cache * need.tokens
    if cache:
        helps.append(f"{_mib(cache)} of it is a cache for {need.tokens} tokens: a shorter context takes less")
    return NoRoomError(
        f"{need.model} needs about {_mib(need.whole)}{each}, and {have} {free >> 20} MiB free",
        hint="; ".join([*helps, "unloading other models makes room"]),
        param="model",
        needed_bytes=need.whole,
        available_bytes=free,
        missing_bytes=missing,
    )


def _missing(need: Need, rooms: Sequence[Room]) -> int:
    """Bytes that one more node behind these would need, when all of them are filled."""
    start = 0
    for room in rooms:
        start = _reach(need, room, start)
    return need.takes(start, len(need.layers) - 1)


def _mib(count: int) -> str:
    return f"{-(-count >> 20)} MiB"
