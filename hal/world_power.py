"""The physics of a World: what modules draw, who feeds them, what the supply's voltage does, how heat flows.

* Power: ``idle + load * (worst(step) - idle)``. A module that is fed through its contact, with its load switch off,
  takes ``STANDBY_W`` at most from the stack and the rest from its battery; without one it makes do with that.
* Supply: 20 V falling by 5 % up to its rated watts; beyond them the current is constant, so the voltage falls as the
  load rises (``19 V * rated / load``). Below 18 V the alert line is pulled; below 16 V for 50 ms the
  supply switches off for a second. In a stack with several supplies the lowest feeds it.
* Battery: gives what the supply does not; it is not charged.
* Heat: one RC element a zone, ``dT/dt = (ambient + R * P - T) / tau``, integrated exactly while P stands.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from hal.world_state import (
    BATTERY_W,
    IDLE_W,
    LADDER_W,
    STANDBY_W,
    TAU_S,
    ZONES_K_PER_W,
    Source,
    WorldState,
)

NOMINAL_V = 20.0
LOW_V = 18.0  # under it the alert line is pulled
FINE_V = 18.5  # from here on it is let go
BROWN_V = 16.0
BROWN_S = 0.05
HICCUP_S = 1.0


def feeder(state: WorldState, name: str, now: float) -> str | None:
    """The module whose supply feeds this one; None when nothing does."""
    for each in state.stack_of(name):
        if each in state.sources:
            return each if now >= state.sources[each].off_until else None
    return None


def draw(state: WorldState, name: str, now: float) -> tuple[float, float]:
    """W that a module takes from (the supply, its battery)."""
    module = state.modules[name]
    source = feeder(state, name, now)
    if not module.powered or (source is None and not module.charge_wh > 0):
        return 0.0, 0.0
    wanted = IDLE_W + module.load * (LADDER_W[module.step] - IDLE_W)
    if source is None:
        return 0.0, wanted
    if source == name or module.load_switch:
        return wanted, 0.0
    taken = min(wanted, STANDBY_W)
    return taken, wanted - taken if module.charge_wh > 0 else 0.0


def available(state: WorldState, name: str, now: float) -> float:
    """W that the supply plugged into this module can give, else its battery."""
    source = state.sources.get(name)
    if source is not None and now >= source.off_until:
        return source.watts
    return BATTERY_W if state.modules[name].charge_wh > 0 else 0.0


def supplied(state: WorldState, name: str, now: float) -> float:
    """W that are taken from the supply plugged into this module."""
    if feeder(state, name, now) != name:
        return 0.0
    return sum(draw(state, each, now)[0] for each in state.stack_of(name))


def volts(source: Source, watts: float, now: float) -> float:
    if now < source.off_until:
        return 0.0
    if watts <= source.watts:
        return NOMINAL_V * (1 - 0.05 * watts / source.watts)
    return 0.95 * NOMINAL_V * source.watts / watts


def contacts(state: WorldState, now: float) -> Iterator[tuple[str, str, float]]:
    """(lower, upper, W through it) of each contact."""
    for stack in state.stacks:
        source = feeder(state, stack[0], now)
        taken = [draw(state, name, now)[0] for name in stack]
        place = stack.index(source) if source is not None else 0
        for upper in range(1, len(stack)):
            through = sum(taken[upper:]) if place < upper else sum(taken[:upper])
            yield stack[upper - 1], stack[upper], through


def pass_time(state: WorldState, begin: float, end: float) -> None:
    """Heat and batteries, ``end - begin`` seconds on, at the watts that are drawn now."""
    seconds = max(0.0, end - begin)
    kept = math.exp(-seconds / TAU_S)
    for name, module in state.modules.items():
        from_supply, from_battery = draw(state, name, begin)
        for zone, resistance in ZONES_K_PER_W.items():
            settled = module.ambient + resistance * (from_supply + from_battery)
            module.celsius[zone] = settled + (module.celsius[zone] - settled) * kept
        module.charge_wh = max(0.0, module.charge_wh - from_battery * seconds / 3600)
