"""Files of /sys and /proc under a root that may be a copied tree: numbers, and readings that say when they are bad."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from hal.base import Reading

Unit = Literal["W", "V", "A", "degC", "%"]

# What a driver answers when it is well but has no value yet, or its sensor sleeps.
_NOT_NOW = {errno.EAGAIN, errno.ENODATA}


class Sysfs:
    """Access to attributes by their absolute names. ``root`` stands for /, so that tests bring a tree of their own."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def text(self, name: str) -> str:
        """Raises OSError, also when the driver behind the attribute fails."""
        return self.path(name).read_text(errors="replace").strip()

    def number(self, name: str) -> int:
        """Raises OSError, and ValueError for what is no number."""
        return int(self.text(name))

    def text_or(self, name: str, otherwise: str = "") -> str:
        try:
            return self.text(name)
        except OSError:
            return otherwise

    def write(self, name: str, value: str) -> None:
        """Raises OSError, also when the driver refuses the value. Never creates a file."""
        file = os.open(self.path(name), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(file, value.encode())
        finally:
            os.close(file)

    def exists(self, name: str) -> bool:
        return self.path(name).exists()

    def names(self, pattern: str) -> list[str]:
        """Absolute names that a glob matches, in order: ``thermal_zone2`` before ``thermal_zone10``."""
        found = self.root.glob(pattern.lstrip("/"))
        return sorted(("/" + path.relative_to(self.root).as_posix() for path in found), key=lambda n: (len(n), n))

    def target(self, name: str) -> str:
        """Last part of what a link leads to: of ``hwmon3/device`` the chip's place on its bus, as ``1-0040``."""
        return self.path(name).resolve().name

    def chips(self, driver: str) -> list[str]:
        """Folders of the hwmon chips that call themselves ``driver``; the number in hwmonN means nothing."""
        return [n for n in self.names("sys/class/hwmon/hwmon*") if self.text_or(f"{n}/name") == driver]


def measure(unit: Unit, source: str, read: Callable[[], float], low: float, high: float) -> Reading:
    """A reading of what ``read`` returns: a fault where it raises or lies outside of [low, high], stale where the
    driver says that it has nothing new."""
    value: float | None = None
    quality: Literal["ok", "stale", "fault"] = "fault"
    try:
        value = read()
    except OSError as error:
        quality = "stale" if error.errno in _NOT_NOW else "fault"
    except ValueError:
        pass
    if value is not None and math.isfinite(value) and low <= value <= high:
        return Reading(value, unit, "ok", time.monotonic(), source)
    return Reading(None, unit, quality, time.monotonic(), source)
