"""What a device can sense and do, in terms that need no driver: values, Protocols and the errors of the hardware.

* HardwareError          base of all; the agent decides what a client is told
  x MissingPartError     the board should have it, and it does not answer
  x NoNeighbourError     nothing is stacked on that face
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

T = TypeVar("T")

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
class PartState:
    """How one part of the hardware fares, for /v1/health and ``thox hw``."""

    part: str  # nfc-reader-top, nfc-tag, stack-lines, power-meter ...
    state: Literal["ok", "fault", "missing", "restarting"]
    detail: str = ""  # why, for a person; empty when ok


@dataclass(frozen=True, slots=True)
class Edge:
    """A stack-detect line changed: a neighbour came (closed) or went (open)."""

    face: Face
    closed: bool
    at: float  # time.monotonic(), from the kernel's time stamp where there is one


class StackLines(Protocol):
    """The Hall switches of both faces, debounced."""

    def closed(self) -> Mapping[Face, bool]: ...

    def wait(self, timeout: float) -> Edge | None:
        """The next edge; None when the time is up."""
        ...


class AlertLine(Protocol):
    """PWR_ALERT#: one open-drain line through the whole stack. Any module pulls it; all drop to their floor in ms."""

    def raised(self) -> bool: ...

    def wait(self, timeout: float) -> bool | None:
        """The level after its next change; None when the time is up. Not debounced."""
        ...

    def pull(self, pulled: bool) -> None:
        """Pull the line, or let it go. It stays raised while any other module pulls it."""
        ...


class LoadSwitch(Protocol):
    """Load enable: the switch that lets the module draw more than its standby. Off until somebody switches it on."""

    def enabled(self) -> bool: ...

    def enable(self, on: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class TagRecord:
    """What a module's NFC tag says about it. A fingerprint is no secret: it only names the key that must answer."""

    device_id: str  # UUID
    fingerprint: str  # SHA-256 of the public key, 64 hex digits
    face: Face  # of the device that wears the tag
    firmware: str
    ram_bytes: int
    tops: float
    floor_w: float
    peak_w: float
    addresses: tuple[str, ...]  # of the link between modules
    boot_nonce: str  # 32 hex digits, new at every start and after every touch: a copy of a tag is of no use later
    cluster_id: str = ""  # empty: in no cluster


@dataclass(frozen=True, slots=True)
class Sighting:
    """A neighbour's tag came into the reader's field, or went (``record`` is None)."""

    record: TagRecord | None
    at: float  # time.monotonic()


class TagReader(Protocol):
    """The NFC reader of one face, which reads the neighbour's tag."""

    @property
    def face(self) -> Face: ...

    def seen(self) -> TagRecord | None:
        """The neighbour there now."""
        ...

    def wait(self, timeout: float) -> Sighting | None:
        """The next change; None when the time is up."""
        ...

    def state(self) -> PartState: ...


class OwnTag(Protocol):
    """The module's own tag, which the neighbour's reader reads, with or without power."""

    @property
    def face(self) -> Face: ...

    def publish(self, record: TagRecord) -> None:
        """Write it so that no reader ever takes a torn one for whole. Raises HardwareError."""
        ...

    def state(self) -> PartState: ...


class StackLink(Protocol):
    """The data link between modules: datagrams to whoever is on it. What arrives is hostile until checked."""

    def send(self, datagram: bytes) -> None:
        """To every module that the link reaches; at most 1,200 bytes. Lost ones are not reported."""
        ...

    def receive(self, timeout: float) -> tuple[bytes, str] | None:
        """The next datagram with its sender's address; None when the time is up."""
        ...

    def address(self) -> str:
        """Where other modules reach this one: an IP address."""
        ...

    def carrier(self) -> bool | None:
        """Whether the link has a partner; None where the driver cannot tell."""
        ...

    def gigabits(self) -> float | None:
        """Its speed, Gb/s; None where the driver cannot tell."""
        ...

    def close(self) -> None: ...


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

    @property
    def steps_w(self) -> tuple[float, ...]:
        """The worst watts of every step, from floor to peak."""
        ...

    def apply(self, watts: float) -> float:
        """Take the highest step that never draws more than ``watts``, the lowest step where all draw more.

        Returns the worst watts of the step that is in force then, read back: after a failed switch that may be more.
        """
        ...

    def applied(self) -> float: ...

    def feed(self, ttl_s: float) -> None:
        """Keep what is applied for ``ttl_s`` more seconds; once they are over, the cap drops to its floor by itself."""
        ...


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
    alert: AlertLine
    load_switch: LoadSwitch
    readers: Mapping[Face, TagReader]  # of the faces that have one
    tag: OwnTag | None  # None: this machine has none
    link: StackLink
    power: PowerMeter
    cap: PowerCap
    thermal: Thermometers
    supply: Supply
    close: Callable[[], None] = lambda: None  # gives lines, processes and sockets back; nothing may be used after it


class HardwareError(Exception):
    """Base of all errors of the hardware; ``hint`` says what a person can do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class MissingPartError(HardwareError):
    """The board should have this part, and it does not answer."""


class NoNeighbourError(HardwareError):
    """Nothing is stacked on that face."""


def answer_of(ask: Callable[[], T]) -> T | None:
    """What a part of the hardware says; None when it does not answer."""
    try:
        return ask()
    except HardwareError:
        return None
