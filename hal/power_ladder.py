"""The ladder of power steps: what each step caps, and the worst watts that the module draws on it. Pure.

A name of NVIDIA's power modes is a set of clock caps, not of watts: on an Orin NX 16 GB the mode "25W" was measured at
16.9 W and "40W" at 27.6 W under a full load of processors and GPU. So a step carries what was measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from hal.base import HardwareError
from hal.power_modes import PowerMode

# What a measurement over seconds does not see: samples of other modules, a warm room, peaks of milliseconds.
MARGIN = 1.15

MOST_STEPS = 64  # nodes tell one another of them

# W that a module may draw with no cap at all, where nobody measured: the highest that NVIDIA names for it.
UNCAPPED_W: Mapping[str, float] = {"Orin NX": 40.0, "Orin Nano": 25.0, "AGX Orin": 60.0, "Thor": 140.0}


@dataclass(frozen=True, slots=True)
class Step:
    """One step. None is no cap, or for ``mode`` whichever is set. ``measured``: the watts are a measurement with its
    margin; otherwise NVIDIA's budget for the mode, which is more than it draws."""

    worst_w: float
    gpu_hz: int | None = None
    cpu_khz: int | None = None
    mode: int | None = None
    measured: bool = False

    def covers(self, gpu_hz: int | None, cpu_khz: int | None) -> bool:
        """Whether caps that stand so draw no more than this step."""
        return _within(gpu_hz, self.gpu_hz) and _within(cpu_khz, self.cpu_khz)


@dataclass(frozen=True, slots=True)
class Ladder:
    """Steps, the lowest first; the last one covers a module whose caps are unknown."""

    steps: tuple[Step, ...]

    @property
    def floor(self) -> Step:
        return self.steps[0]

    @property
    def top(self) -> Step:
        return self.steps[-1]

    def at(self, watts: float) -> Step:
        """The highest step that never draws more than ``watts``; the lowest where all draw more."""
        return max((step for step in self.steps if step.worst_w <= watts), key=_watts, default=self.floor)

    def standing(self, gpu_hz: int | None, cpu_khz: int | None) -> Step:
        """The step that is in force where sysfs reads these caps (None: unreadable, or none)."""
        return next((step for step in self.steps if step.covers(gpu_hz, cpu_khz)), self.top)


def ladder(steps: Iterable[Step]) -> Ladder:
    """In order, and without a step that another makes needless: one with looser caps and no more watts. Raises
    HardwareError without a step that has no caps, for then nobody knows what an uncapped module draws."""
    ordered = sorted(steps, key=lambda step: (step.worst_w, not step.measured))
    kept: list[Step] = []
    for i, step in enumerate(ordered):
        looser = [other.covers(step.gpu_hz, step.cpu_khz) and other.worst_w <= step.worst_w for other in ordered]
        same = [step.covers(other.gpu_hz, other.cpu_khz) for other in ordered]
        if not any(looser[j] and (not same[j] or j < i) for j in range(len(ordered)) if j != i):
            kept.append(step)
    if len(kept) > MOST_STEPS:
        raise HardwareError(f"the ladder has {len(kept)} steps", f"{MOST_STEPS} are enough for every module")
    if not kept or not kept[-1].covers(None, None):
        raise HardwareError(
            "the ladder has no step without caps", "measure what the module draws when nothing holds it"
        )
    return Ladder(tuple(kept))


def from_modes(board: str, live: Iterable[PowerMode]) -> Ladder:
    """A ladder of the modes that need no reboot, each with the watts of its name, until it is measured."""
    uncapped = next((watts for words, watts in UNCAPPED_W.items() if words in board), max(UNCAPPED_W.values()))
    steps = [Step(uncapped)]
    for mode in live:
        watts = min(mode.budget_w or uncapped, uncapped)
        known = (MEASURED_W if "Orin NX 16GB" in board else {}).get((mode.gpu_hz, mode.cpu_khz))
        worst = round(known * MARGIN, 1) if known else watts
        steps.append(Step(worst, mode.gpu_hz, mode.cpu_khz, mode.id, measured=known is not None))
    return ladder(steps)


# Orin NX 16 GB, all processors and an FP16 matrix product at once, at VDD_IN: by caps of GPU (Hz) and processors (kHz).
# Published by the maker of a carrier (ARK Electronics, power.md); nobody here has seen the module.
MEASURED_W: Mapping[tuple[int | None, int | None], float] = {
    (408_000_000, 1_497_600): 16.9,
    (1_173_000_000, 1_497_600): 27.6,
    (None, None): 30.3,
}


def dumps(steps: Iterable[Step]) -> str:
    """As /etc/thox/ladder.json holds them."""
    return json.dumps({"steps": [asdict(step) for step in steps]}, indent=1) + "\n"


def loads(text: str) -> Ladder:
    """Raises HardwareError for anything but a ladder."""
    try:
        raw = json.loads(text)["steps"]
        steps = [Step(**step) for step in raw]
    except (ValueError, KeyError, TypeError) as error:
        raise HardwareError(f"the ladder cannot be read: {error}", "write it anew from a measurement") from error
    for step in steps:
        caps = [step.gpu_hz, step.cpu_khz, step.mode]
        if not isinstance(step.worst_w, int | float) or not 0 < step.worst_w < 1000:
            raise HardwareError(f"worst_w = {step.worst_w!r} is no power of a step", "it is in watts")
        if not all(cap is None or (type(cap) is int and cap >= 0) for cap in caps):
            raise HardwareError(f"{step} has a cap that is no number", "gpu_hz in Hz, cpu_khz in kHz")
    return ladder(steps)


def _watts(step: Step) -> float:
    return step.worst_w


def _within(cap: int | None, limit: int | None) -> bool:
    return limit is None or (cap is not None and cap <= limit)
