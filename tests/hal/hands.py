"""What a test does to the hardware under it: by program where that can be, else by a person (such tests skip)."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from hal.base import Face, Hardware, TagRecord
from hal.open import open_hardware
from hal.sim import MODULE, SimLink
from hal.world_client import WorldClient
from hal.world_state import tag_to_json

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Hands(Protocol):
    """A bench of one module with a neighbour that can be put on each of its faces. What a bench cannot do, it skips."""

    def contact(self, face: Face, closed: bool) -> None:
        """Put the neighbour on that face, or take it off. It stands on one face at most."""
        ...

    def tag(self, record: TagRecord | None) -> None:
        """What the neighbour's tag holds; None: it is empty."""
        ...

    def busy(self, share: float) -> None:
        """Make the module work, 0 to 1."""
        ...

    def pull_alert(self, pulled: bool) -> None:
        """Let the neighbour pull the alert line."""
        ...

    def send(self, datagram: bytes) -> None:
        """Let the neighbour send over the link."""
        ...

    def received(self, timeout: float) -> bytes | None:
        """The next datagram that the neighbour got."""
        ...

    def plug(self, plugged: bool) -> None:
        """The module's own supply."""
        ...

    def close(self) -> None:
        """After each test: the bench is as it was before."""
        ...


class Person:
    """A real bench: nobody is there to do it while tests run."""

    def _nobody(self) -> None:
        pytest.skip("this needs a person at the bench")

    def contact(self, face: Face, closed: bool) -> None:
        self._nobody()

    def tag(self, record: TagRecord | None) -> None:
        self._nobody()

    def busy(self, share: float) -> None:
        self._nobody()

    def pull_alert(self, pulled: bool) -> None:
        self._nobody()

    def send(self, datagram: bytes) -> None:
        self._nobody()

    def received(self, timeout: float) -> bytes | None:
        self._nobody()
        return None

    def plug(self, plugged: bool) -> None:
        self._nobody()

    def close(self) -> None:
        """Nobody is there."""


class WorldHands:
    """In a simulated World: the neighbour is a module of its own, with a port of its own."""

    def __init__(self, path: Path, module: str) -> None:
        self._path, self._module = path, module
        self._world = WorldClient(path)
        self._world.hand("add", name="neighbour")
        self._neighbour = WorldClient(path, "neighbour")
        self._link = SimLink(self._neighbour)

    def contact(self, face: Face, closed: bool) -> None:
        lower, upper = (self._module, "neighbour") if face == "top" else ("neighbour", self._module)
        if closed:
            self._world.hand("stack", lower=lower, upper=upper)
        else:
            self._world.hand("unstack", name=upper)

    def tag(self, record: TagRecord | None) -> None:
        self._world.hand("write_tag", name="neighbour", record=tag_to_json(record))

    def busy(self, share: float) -> None:
        self._world.hand("load", name=self._module, share=share)

    def pull_alert(self, pulled: bool) -> None:
        self._neighbour.tell("pull", pulled)

    def send(self, datagram: bytes) -> None:
        self._link.send(datagram)

    def received(self, timeout: float) -> bytes | None:
        arrived = self._link.receive(timeout)
        return None if arrived is None else arrived[0]

    def plug(self, plugged: bool) -> None:
        self._world.hand("plug" if plugged else "unplug", name=self._module)

    def close(self) -> None:
        self._neighbour.close()
        self._world.hand("remove", name="neighbour")
        self._world.close()
        module, end = WorldClient(self._path, self._module), time.monotonic() + 5.0
        while any(module.look().closed.values()) and time.monotonic() < end:
            time.sleep(0.01)  # its lines are debounced, and an edge that is late would be the next test's
        module.close()


@dataclass(frozen=True)
class Bench:
    """What a contract test gets."""

    hardware: Hardware
    hands: Hands


def bench_of(file: Path) -> Bench:
    """The real bench, or another program's, that a ``stack.toml`` describes::

    mode = "auto"                  # and world, module, [wiring]: as under [hardware] of the configuration
    hands = "person"               # or "world": those of that World; or "module:Class", called with the Hardware

    A module that Python finds lies beside the file, or on the path of the tests.
    """
    said = tomllib.loads(file.read_text())
    wiring: Mapping[str, str] = said.get("wiring", {})
    world = Path(said["world"]) if said.get("world") else None
    hardware = open_hardware(
        said.get("mode", "auto"), Path(said.get("root", "/")), world=world, module=said.get("module", ""), wiring=wiring
    )
    with ExitStack() as opened:
        opened.callback(hardware.close)  # where there are no such hands
        hands = _hands(str(said.get("hands", "person")), hardware, file.parent, world, said.get("module"))
        opened.pop_all()
    return Bench(hardware, hands)


def _hands(name: str, hardware: Hardware, folder: Path, world: Path | None, module: str | None) -> Hands:
    if name == "person":
        return Person()
    if name == "world" and world is not None:
        return WorldHands(world, module or MODULE)
    file, _, kind = name.partition(":")
    if not kind:
        raise pytest.UsageError(f'hands = {name!r}: "person", "world" with a world named, or "module:Class"')
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    hands: Hands = getattr(importlib.import_module(file), kind)(hardware)
    return hands
