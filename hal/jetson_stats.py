"""Watts and degrees from the service of jetson-stats, for an owner who runs it anyway: ``meter = "jetson-stats"``.

Never the default. jetson-stats is AGPL-3.0, and whoever may open its socket can become root (it speaks pickle, with a
key that everybody knows); what it shows it reads from the files that hal.power and hal.thermal read themselves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from hal.base import MissingPartError, Reading
from hal.sysfs import Unit

FRESH_S = 5.0  # it sends once a second
FIRST_S = 5.0


class JtopClient(Protocol):
    """What we use of jtop.jtop: ``power`` in mW and ``temperature`` in degC, new before each call of an observer."""

    @property
    def power(self) -> Mapping[str, Any]: ...

    @property
    def temperature(self) -> Mapping[str, Any]: ...

    def attach(self, observer: Callable[[Any], None]) -> object: ...

    def start(self) -> None: ...

    def close(self) -> None: ...


class JetsonStats:
    """A PowerMeter and Thermometers. What was said more than FRESH_S ago is stale. ``start`` of the client, which runs
    here, raises what it likes when there is no service."""

    def __init__(self, client: JtopClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._clock = client, clock
        self._said: tuple[float, Mapping[str, Any], Mapping[str, Any]] = (clock(), {}, {})
        self._first = threading.Event()
        client.attach(self._take)
        client.start()
        self._first.wait(FIRST_S)

    def total(self) -> Reading:
        _, power, _ = self._said
        return self._reading("W", "total", power.get("tot", {}), "power", 1e3, 0.2, 400.0)

    def rails(self) -> Mapping[str, Reading]:
        _, power, _ = self._said
        rails = power.get("rail", {}).items()
        return {name: self._reading("W", name, rail, "power", 1e3, 0.0, 400.0) for name, rail in rails}

    def zones(self) -> Mapping[str, Reading]:
        _, _, temperature = self._said
        return {
            name: self._reading("degC", name, zone, "temp", 1.0, -40.0, 150.0)  # it says -256 of a zone that sleeps
            for name, zone in temperature.items()
        }

    def close(self) -> None:
        self._client.close()

    def _take(self, client: JtopClient) -> None:
        self._said = (self._clock(), client.power, client.temperature)
        self._first.set()

    def _reading(
        self, unit: Unit, name: str, said: Mapping[str, Any], key: str, scale: float, low: float, high: float
    ) -> Reading:
        at, source, value = self._said[0], f"jetson-stats:{name}", said.get(key)
        if self._clock() - at > FRESH_S:
            return Reading(None, unit, "stale", at, source)
        if isinstance(value, int | float) and said.get("online", True) and low <= value / scale <= high:
            return Reading(value / scale, unit, "ok", at, source)
        return Reading(None, unit, "fault", at, source)


def open_jetson_stats() -> JetsonStats:
    """Raises MissingPartError when its client is not installed, or its service does not run."""
    try:
        from jtop import JtopException, jtop
    except ImportError as error:
        raise MissingPartError(
            "jetson-stats is not installed", "pip install jetson-stats (AGPL-3.0), or name a chip as meter"
        ) from error
    try:
        return JetsonStats(jtop(interval=1.0))
    except (JtopException, OSError) as error:
        raise MissingPartError(f"jetson-stats does not answer: {error}", "systemctl status jtop") from error
