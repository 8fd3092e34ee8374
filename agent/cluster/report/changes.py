"""What happened between two moments of a stack, as the events that clients stream, and as lines of the log."""

from __future__ import annotations

from dataclasses import dataclass

from agent.cluster.state import Cluster, Node


@dataclass(frozen=True, slots=True)
class Joined:
    """A node is a member from this epoch on."""

    node: Node
    epoch: int

    def __str__(self) -> str:
        return f"{self.node.id} joined the stack"


@dataclass(frozen=True, slots=True)
class Left:
    """A node is no member from this epoch on."""

    node_id: str
    epoch: int

    def __str__(self) -> str:
        return f"{self.node_id} left the stack"


@dataclass(frozen=True, slots=True)
class LeaderChanged:
    """Another node leads, or this node is in another cluster than before."""

    leader: str
    epoch: int

    def __str__(self) -> str:
        return f"{self.leader} leads the stack"


@dataclass(frozen=True, slots=True)
class EpochChanged:
    """Last of the events of one change: whatever carries an older epoch is refused from now on."""

    epoch: int
    token: str
    members: tuple[str, ...]

    def __str__(self) -> str:
        return f"epoch {self.epoch} of the stack ({self.token}): {', '.join(self.members)}"


Change = Joined | Left | LeaderChanged | EpochChanged


def changes(before: Cluster, after: Cluster) -> tuple[Change, ...]:
    """Empty within one epoch, whatever else is different."""
    if before.token == after.token:
        return ()
    was = {node.id for node in before.nodes}
    now = {node.id for node in after.nodes}
    events: list[Change] = [Left(each, after.epoch) for each in sorted(was - now)]
    events += [Joined(node, after.epoch) for node in after.nodes if node.id not in was]
    if before.leader_id != after.leader_id:
        events.append(LeaderChanged(after.leader_id, after.epoch))
    events.append(EpochChanged(after.epoch, after.token, tuple(node.id for node in after.nodes)))
    return tuple(events)
