"""How each part of the hardware fares: asked, every time, and never guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from hal.base import Hardware, HardwareError, MissingPartError, PartState, Reading


def part_states(hardware: Hardware) -> tuple[PartState, ...]:
    """Of every part that this machine should have, the stack's first."""
    return (*stack_parts(hardware), *_sensors(hardware))


def stack_parts(hardware: Hardware) -> Iterator[PartState]:
    """Of the parts that make a stack of modules."""
    yield _asked("stack-lines", hardware.lines.closed)
    yield _asked("alert-line", hardware.alert.raised)
    yield _asked("load-switch", hardware.load_switch.enabled)
    for reader in hardware.readers.values():
        yield reader.state()
    if hardware.tag is not None:
        yield hardware.tag.state()
    yield _asked("link", hardware.link.carrier)


def _sensors(hardware: Hardware) -> Iterator[PartState]:
    yield _asked("power-meter", lambda: _sound([hardware.power.total()]))
    yield _asked("power-cap", hardware.cap.applied)
    yield _asked("thermometers", lambda: _sound(hardware.thermal.zones().values()))
    yield _asked("power-supply", lambda: _sound([hardware.supply.available()]))


def _sound(readings: Iterable[Reading]) -> None:
    bad = [reading for reading in readings if reading.quality != "ok"]
    if bad:
        raise HardwareError("; ".join(f"{reading.source}: {reading.quality}" for reading in bad))


def _asked(part: str, ask: Callable[[], object]) -> PartState:
    try:
        ask()
    except HardwareError as error:
        detail = f"{error} ({error.hint})" if error.hint else str(error)
        return PartState(part, "missing" if isinstance(error, MissingPartError) else "fault", detail)
    return PartState(part, "ok")
