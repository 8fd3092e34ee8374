"""Modules of a World in this process that share power: whole nodes over real links, watched from outside."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from answering_stack import AnsweringNode, AnsweringStack, answering_stack

MARGIN = 0.1


class Watcher:
    """Looks at all caps at once, many times a second, and keeps the first moment at which they were too much."""

    def __init__(self, stack: AnsweringStack) -> None:
        self._world = stack.world
        self.looks, self.fault = 0, ""
        self.watts = 0.0  # of the supply; 0: anything goes
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def caps(self) -> list[float]:
        """W that each may draw from the supply, from below."""
        modules = self._world.status()["modules"].values()
        return [one["worst_w"] if one["load_switch"] or one["external"] else 0.0 for one in modules]

    def close(self) -> None:
        self._end.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        while not self._end.wait(0.02) and not self.fault:
            caps, most = self.caps(), self.watts * (1 - MARGIN)
            self.looks += 1
            if most and sum(caps) > most:
                self.fault = f"{caps} on {most:g} W"


@contextlib.contextmanager
def powered_stack(folder: Path, size: int) -> Iterator[tuple[list[AnsweringNode], Watcher]]:
    """Raises AssertionError where the caps together were more than the supply gives."""
    with answering_stack(folder, size) as stack:
        watcher = Watcher(stack)
        try:
            yield stack.members, watcher
        finally:
            watcher.close()
        assert not watcher.fault, watcher.fault
        assert watcher.looks > 0
