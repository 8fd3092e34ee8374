"""How long things last in the power contract. Seconds, each on the clock of whoever measures it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """The same on every module of a stack. A lease outlasts several beats, so that a lost message costs no watts."""

    lease_s: float = 3.0  # how long a grant lasts, from when the node asked for it
    beat_s: float = 0.5  # between a node's requests
    drift: float = 0.02  # a clock runs between 1 - drift and 1 + drift times as fast as time
    way_s: float = 3.0  # how long a request may have been on its way before what it says is taken for something else
    reading_s: float = 0.5  # an allocator grants for so long after it last saw its supply plugged in
    pulse_s: float = 0.1  # how long a pulled alert line needs until every module has surely seen it

    def surely(self, seconds: float) -> float:
        """What to wait on one's own clock until ``seconds`` have passed on any other: s * (1 + d) / (1 - d)."""
        return seconds * (1 + self.drift) / (1 - self.drift)

    @property
    def hold_s(self) -> float:
        """How long an allocator counts a grant after it made it."""
        return self.surely(self.lease_s)

    @property
    def silence_s(self) -> float:
        """How long an earlier allocator, cut off from its supply and not aware of it yet, may still grant."""
        return self.surely(self.reading_s)
