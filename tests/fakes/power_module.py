"""What a world of the power contract is made of: modules, the paths between them, and the code that runs on them."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.cluster.power.allocator import Allocator
from agent.cluster.power.messages import Message
from agent.cluster.power.node import PowerNode, Want
from agent.cluster.power.rules import Member
from agent.cluster.power.timing import Timing


@dataclass
class Path:
    """One direction between two modules."""

    cut: bool = False
    held: bool = False  # messages wait until they are let go
    loss: float = 0.0
    twice: float = 0.0
    slowest_s: float = 0.01
    waiting: list[Message] = field(default_factory=list)


@dataclass
class Rules:
    """The code under test: the real one, or one with a rule switched off."""

    node: type[PowerNode] = PowerNode
    allocator: type[Allocator] = Allocator
    timing: Timing = field(default_factory=Timing)
    keeps_term: bool = True


@dataclass
class Module:
    """A device: its clock, what it keeps over a restart, and what runs on it."""

    index: int
    member: Member
    steps: tuple[float, ...]
    rate: float
    offset: float
    want: Want
    node: PowerNode
    number: int = 0  # of its newest term
    allocators: list[Allocator] = field(default_factory=list)  # the last is the one in office; others are not aware yet
    at: list[int] = field(default_factory=list)  # where each allocator's supply was read last: 1, or 0 for not any more

    def step(self, allowed_w: float) -> float:
        """Worst W of the highest step that never draws more than what is allowed; of the lowest where all draw more."""
        return max((step for step in self.steps if step <= allowed_w), default=min(self.steps))
