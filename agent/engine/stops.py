"""Where an answer ends: stop strings in text that comes in pieces. Pure."""

from __future__ import annotations

from collections.abc import Sequence


class StopScanner:
    """Passes text on, up to the first stop string, and holds back what may be the beginning of one.

    How the text is cut into pieces makes no difference: the stop string that is complete first ends the text, and of
    several that are complete at the same character the one that began first.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """The text that is certain to belong to the answer. After ``stopped`` there is none."""
        if self.stopped:
            return ""
        if not self._stops:
            return text
        held = self._held + text
        hits = [(begin + len(stop), begin) for stop in self._stops if (begin := held.find(stop)) >= 0]
        if hits:
            self.stopped, self._held = True, ""
            return held[: min(hits)[1]]
        keep = max(_overlap(held, stop) for stop in self._stops)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """What is still held: no stop string came of it."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """The longest end of ``text`` that is a beginning of ``stop``, shorter than all of it."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
