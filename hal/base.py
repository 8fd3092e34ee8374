"""What a device can sense and do, in terms that need no driver: values, Protocols and the errors of the hardware.

* HardwareError          base of all; the agent decides what a client is told
  x MissingPartError     the board should have it, and it does not answer
  x NoNeighbourError     nothing is stacked on that face
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

Face = Literal["top", "bottom"]
Quality = Literal["ok", "stale", "fault"]


@dataclass(frozen=True, slots=True)
class Reading:
    """One measurement. ``value`` is None unless the quality is ok: a fault is a state, never a number."""

    value: float | None
    unit: Literal["W", "V", "A", "degC", "%"]
    quality: Quality
    at: float  # time.monotonic()
    source: str


@dataclass(frozen=True, slots=True)
class Edge:
    """A stack-detect line changed: a neighbour came (closed) or went (open)."""

    face: Face
    closed: bool
    at: float  # time.monotonic()


class StackLines(Protocol):
    """The Hall switches of both faces, debounced."""

    def closed(self) -> Mapping[Face, bool]: ...

    def wait(self, timeout: float) -> Edge | None:
        """The next edge; None when the time is up."""
        ...


class PowerMeter(Protocol):
    def total(self) -> Reading:
        """What the whole module draws now, in W."""
        ...

    def rails(self) -> Mapping[str, Reading]:
        """W by rail."""
        ...


class PowerCap(Protocol):
    """The ladder of power steps, each with the worst watts measured for it."""

    @property
    def floor_w(self) -> float:
        """What the module may need whatever is asked of it."""
        ...

    @property
    def peak_w(self) -> float: ...

    def apply(self, watts: float) -> float:
        """Take the highest step that never draws more than ``watts``, the lowest step where all draw more.

        Returns the worst watts of the step that is in force then, read back: after a failed switch that may be more.
        """
        ...

    def applied(self) -> float: ...


class Thermometers(Protocol):
    def zones(self) -> Mapping[str, Reading]:
        """degC by zone."""
        ...


class Supply(Protocol):
    """The power supply plugged into this module, if one is."""

    def external(self) -> bool: ...

    def available(self) -> Reading:
        """W that the supply can give."""
        ...

    def battery(self) -> Reading | None:
        """Charge in %; None where the module has no battery."""
        ...


@dataclass(frozen=True, slots=True)
class BoardFacts:
    """What never changes while the device runs."""

    name: str
    memory_bytes: int
    tops: float
    cores: int


@dataclass(frozen=True, slots=True)
class Hardware:
    """Everything the agent may touch, built once by the node."""

    board: BoardFacts
    machine: BoardFacts  # what the agent really runs on: the board itself, unless that is simulated
    simulated: bool
    lines: StackLines
    power: PowerMeter
    cap: PowerCap
    thermal: Thermometers
    supply: Supply


class HardwareError(Exception):
    """Base of all errors of the hardware; ``hint`` says what a person can do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class MissingPartError(HardwareError):
    """The board should have this part, and it does not answer."""


class NoNeighbourError(HardwareError):
    """Nothing is stacked on that face."""
