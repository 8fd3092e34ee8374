"""jetson-stats as a meter, behind a client that says what its own says (shapes of version 7.2.2)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

from hal.base import MissingPartError
from hal.jetson_stats import FRESH_S, JetsonStats, open_jetson_stats


class FakeJtop:
    """Says something when it is started, and when it is told to."""

    def __init__(self) -> None:
        self.power: dict[str, Any] = {
            "rail": {
                "VDD_CPU_GPU_CV": {"volt": 5032, "curr": 600, "power": 3019, "avg": 3000, "online": True},
                "VDD_SOC": {"power": 2500, "online": False},
            },
            "tot": {"name": "VDD_IN", "volt": 5040, "curr": 1800, "power": 9072, "avg": 9000, "online": True},
        }
        self.temperature: dict[str, Any] = {
            "cpu": {"temp": 45.5, "online": True},
            "cv0": {"temp": -256, "online": False},
        }
        self.closed = False
        self._observer: Callable[[Any], None] = lambda _: None

    def attach(self, observer: Callable[[Any], None]) -> None:
        self._observer = observer

    def start(self) -> None:
        self.say()

    def say(self) -> None:
        self._observer(self)

    def close(self) -> None:
        self.closed = True


def test_what_the_service_says_is_in_watts_and_degrees_and_goes_stale_when_it_falls_silent() -> None:
    now, jtop = [10.0], FakeJtop()
    stats = JetsonStats(jtop, clock=lambda: now[0])
    assert stats.total().value == pytest.approx(9.072) and stats.total().source == "jetson-stats:total"
    assert stats.rails()["VDD_CPU_GPU_CV"].value == pytest.approx(3.019)
    assert stats.zones()["cpu"].value == 45.5
    now[0] += FRESH_S + 1
    readings = [stats.total(), *stats.rails().values(), *stats.zones().values()]
    assert {(reading.quality, reading.value) for reading in readings} == {("stale", None)}
    jtop.say()
    assert stats.total().quality == "ok"
    stats.close()
    assert jtop.closed


def test_a_sensor_that_is_off_or_says_nonsense_is_a_fault() -> None:
    jtop = FakeJtop()
    stats = JetsonStats(jtop)
    assert stats.rails()["VDD_SOC"].quality == stats.zones()["cv0"].quality == "fault"
    for nonsense in ("much", None, 10**9, float("nan")):
        jtop.power["tot"]["power"] = nonsense
        assert (stats.total().quality, stats.total().value) == ("fault", None)


@pytest.mark.skipif(importlib.util.find_spec("jtop") is not None, reason="jetson-stats is installed here")
def test_without_jetson_stats_the_hint_names_its_licence() -> None:
    with pytest.raises(MissingPartError, match="not installed") as missing:
        open_jetson_stats()
    assert "AGPL" in missing.value.hint
