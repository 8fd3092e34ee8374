"""What a World consists of: modules, stacks, supplies, and what can break. State alone; hal/world.py moves it.

A stack is a list of module names, lowest first. The tag is on a module's bottom face and the reader on its top face, so
that each module reads the one above.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from hal.base import BoardFacts, Face, HardwareError, TagRecord
from hal.boards import ORIN_NX_16

Json = dict[str, Any]
Channel = Literal["edge", "alert", "sighting", "datagram", "power"]

# The worst watts of each step of the ladder. The lowest is what the module may need whatever is asked of it.
LADDER_W = (10.0, 15.0, 20.0, 25.0, 30.0, 40.0)
IDLE_W = 4.6
STANDBY_W = 5.0  # what a module takes through its contact while its load switch is off
SUPPLY_W = 65.0
BATTERY_W = 45.0  # that a battery can give
BATTERY_WH = 50.0
CONTACT_W = 100.0  # that a contact of the stack carries
AMBIENT_C = 25.0
TAU_S = 90.0  # a heat sink of some 60 J/K
ZONES_K_PER_W = {"cpu-thermal": 1.10, "gpu-thermal": 1.15, "soc0-thermal": 1.0, "tj-thermal": 1.2}
RAILS = {"VDD_CPU_GPU_CV": 0.65, "VDD_SOC": 0.35}  # shares of VDD_IN, as an INA3221 on this module tells them apart
READER_FACE: Face = "top"
TAG_FACE: Face = "bottom"
FACES: tuple[Face, ...] = ("top", "bottom")

FAULTS: Mapping[str, str] = {
    "meter": "the power meter does not answer (EIO)",
    "meter-noise": "the power meter's readings jump by a fifth",
    "thermal": "no thermometer answers",
    "cap": "the power step is stuck where it is",
    "supply": "the supply's controller does not answer",
    "reader": "the NFC reader is dead",
    "tag": "the module's own tag does not answer on its bus",
    "torn-tag": "the module's own tag holds half a record, which readers refuse",
    "lines": "the stack-detect lines cannot be read (EIO)",
    "top-stuck": "the line of the top face stays as it is",
    "bottom-stuck": "the line of the bottom face stays as it is",
    "top-bounce": "the line of the top face bounces for 25 ms at each change",
    "bottom-bounce": "the line of the bottom face bounces for 25 ms at each change",
    "top-noise": "spikes of 5 ms on the line of the top face",
    "bottom-noise": "spikes of 5 ms on the line of the bottom face",
    "top-chatter": "a loose magnet: the line of the top face changes every 200 ms",
    "bottom-chatter": "a loose magnet: the line of the bottom face changes every 200 ms",
    "alert": "the module pulls the alert line and never lets go",
    "link": "the data link is dead",
}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a driver waits for. ``body`` by channel, JSON all of it.

    edge: face, closed · alert: raised · sighting: record (or null) · datagram: data (base64), sender · power: on
    """

    channel: Channel
    at: float
    body: Json


@dataclass(frozen=True, slots=True)
class View:
    """All that one module's sensors show at one moment."""

    at: float
    powered: bool
    closed: Mapping[Face, bool]  # after debouncing
    alert: bool
    load_switch: bool
    watts: float
    worst_w: float  # of the step in force
    celsius: Mapping[str, float]
    external: bool
    available_w: float
    battery_percent: float | None
    seen: TagRecord | None
    carrier: bool
    address: str
    faults: frozenset[str]

    def to_json(self) -> Json:
        body: Json = {each.name: getattr(self, each.name) for each in fields(self)}
        body["faults"] = sorted(self.faults)
        body["seen"] = tag_to_json(self.seen)
        return body

    @classmethod
    def from_json(cls, body: Json) -> View:
        """Raises HardwareError for a body of another version."""
        try:
            return cls(**{**body, "seen": tag_from_json(body["seen"]), "faults": frozenset(body["faults"])})
        except (KeyError, TypeError) as error:
            raise HardwareError(f"the World speaks another version: {error}", "run the same version on both") from error


@dataclass(slots=True)
class Module:
    """One module. ``told_load`` is how busy its agent is; a hand may set another load, ``set_load``."""

    name: str
    address: str
    ask_load: Callable[[], float] | None  # None: its agent is in another process, and tells
    capacity_wh: float  # of its battery; 0: it has none
    charge_wh: float
    board: BoardFacts = ORIN_NX_16
    told_load: float = 0.0
    set_load: float | None = None
    step: int = len(LADDER_W) - 1
    kept_until: float = math.inf  # the cap's dead man's switch; infinite until it was fed once
    celsius: dict[str, float] = field(default_factory=lambda: dict.fromkeys(ZONES_K_PER_W, AMBIENT_C))
    ambient: float = AMBIENT_C
    powered: bool = False
    boots: int = 0
    pulls: bool = False
    alert: bool = False  # the level that it was told last
    load_switch: bool = False
    tag: TagRecord | None = None
    seen: TagRecord | None = None
    raw: dict[Face, bool] = field(default_factory=lambda: dict.fromkeys(FACES, False))
    level: dict[Face, bool] = field(default_factory=lambda: dict.fromkeys(FACES, False))  # raw, debounced
    raw_since: dict[Face, float] = field(default_factory=lambda: dict.fromkeys(FACES, -math.inf))
    faults: set[str] = field(default_factory=set)

    @property
    def load(self) -> float:
        """0 to 1."""
        share = self.told_load if self.set_load is None else self.set_load
        return min(1.0, max(0.0, share))


@dataclass(slots=True)
class Source:
    """A power supply. One that is overloaded goes into hiccup: it switches off for a second and tries again."""

    watts: float
    low: bool = False  # its voltage is below what the stack's alert tolerates
    brown_since: float | None = None
    off_until: float = -math.inf


@dataclass(slots=True)
class WorldState:
    """Everything. ``cuts`` are directed pairs of modules whose datagrams are lost."""

    modules: dict[str, Module] = field(default_factory=dict)
    stacks: list[list[str]] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)
    cuts: set[tuple[str, str]] = field(default_factory=set)
    contact_w: float = CONTACT_W
    loss: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0

    def module(self, name: str) -> Module:
        """Raises HardwareError for a name that is not there."""
        module = self.modules.get(name)
        if module is None:
            raise HardwareError(f"there is no module {name!r}", "there are: " + (", ".join(self.modules) or "none"))
        return module

    def known(self, *names: str) -> None:
        for name in names:
            self.module(name)

    def stack_of(self, name: str) -> list[str]:
        return next(stack for stack in self.stacks if name in stack)

    def neighbour(self, name: str, face: Face) -> str | None:
        stack = self.stack_of(name)
        place = stack.index(name) + (1 if face == "top" else -1)
        return stack[place] if 0 <= place < len(stack) else None

    def reaches(self, source: str, target: str) -> bool:
        """Whether a datagram of ``source`` gets to ``target``: along the contacts between, none of them cut."""
        stack = self.stack_of(source)
        if target not in stack or (source, target) in self.cuts:
            return False
        here, there = stack.index(source), stack.index(target)
        way = stack[here : there + 1] if here <= there else stack[there : here + 1][::-1]
        ends = (self.modules[source], self.modules[target])
        if any("link" in module.faults or not module.powered for module in ends):
            return False
        return not any(hop in self.cuts for hop in itertools.pairwise(way))


def tag_to_json(record: TagRecord | None) -> Json | None:
    return None if record is None else {**asdict(record), "addresses": list(record.addresses)}


def tag_from_json(body: object) -> TagRecord | None:
    """Raises HardwareError when it is no record."""
    if body is None:
        return None
    kinds: dict[str, tuple[type, ...]] = {"ram_bytes": (int,), "addresses": (list,)}
    kinds |= dict.fromkeys(("tops", "floor_w", "peak_w"), (int, float))
    if not isinstance(body, dict) or {each.name for each in fields(TagRecord)} != set(body):
        raise HardwareError("this is no record of a tag", "a record has exactly the fields of TagRecord")
    for name, value in body.items():
        if not isinstance(value, kinds.get(name, (str,))) or isinstance(value, bool):
            raise HardwareError(f"{name} of the tag's record cannot be {value!r}")
    return TagRecord(**{**body, "addresses": tuple(str(address) for address in body["addresses"])})
