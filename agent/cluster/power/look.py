"""One look at all of this module's hardware that the power contract decides by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hal.base import Face, Hardware, Reading, answer_of


@dataclass(frozen=True, slots=True)
class Look:
    """None: the part does not say."""

    at: float  # when it began
    faces: Mapping[Face, bool] | None
    external: bool | None
    supply_w: float | None
    battery: bool  # there is one that can carry the module for a while
    switch_on: bool
    measured_w: float | None
    applied_w: float | None
    owner_w: float | None  # where the module's owner would have its cap


def look(hardware: Hardware, clock: Callable[[], float], owner_w: float | None) -> Look:
    at = clock()
    supply = available(hardware)
    battery, total = answer_of(hardware.supply.battery), answer_of(hardware.power.total)
    return Look(
        at=at,
        faces=answer_of(hardware.lines.closed),
        external=answer_of(hardware.supply.external),
        supply_w=None if supply is None else supply.value,
        battery=battery is not None and bool(battery.value),
        switch_on=bool(answer_of(hardware.load_switch.enabled)),
        measured_w=None if total is None else total.value,
        applied_w=answer_of(hardware.cap.applied),
        owner_w=owner_w,
    )


def available(hardware: Hardware) -> Reading | None:
    """W that the supply gives; None when it does not answer at all."""
    return answer_of(hardware.supply.available)
