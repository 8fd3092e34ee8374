"""Physical signs: who may be gone, as this node felt it, or as others say that they felt it.

A sign is no proof: it only shortens the wait for one that is silent. So that a line that chatters, or a node that
lies, keeps no stack impatient, whoever was wrong three times in half a minute is not believed until that is over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from agent.cluster.membership.beacon import Touch
from agent.cluster.state import Side

SUSPICION_S = 1.5  # how long a sign counts
REST_S = 30.0  # how long a sign is held against its source unless it was right
MOST_WRONG = 3  # of one source, in that time


@dataclass(slots=True)
class Sign:
    """``gone``: of those that it is ``about``, whom an epoch has left out since. So it was right."""

    about: frozenset[str]
    at: float
    gone: frozenset[str] = frozenset()

    def counts(self, now: float) -> bool:
        return now - self.at <= SUSPICION_S

    def waits(self, now: float) -> frozenset[str]:
        """For whose word. Those that are gone stay suspected, but are no news any more, nor to one that is put back."""
        return self.about - self.gone if self.counts(now) else frozenset()


class Signs:
    """By source: the id of the node that felt them."""

    def __init__(self) -> None:
        self._signs: dict[str, list[Sign]] = {}

    def take(self, source: str, about: Collection[str], now: float) -> bool:
        """Whether this is a new sign, and one to believe: not one that says again what counts already."""
        self._signs = {
            each: kept for each, signs in self._signs.items() if (kept := [s for s in signs if now - s.at <= REST_S])
        }
        sign, known = Sign(frozenset(about), now), self._signs.get(source, [])
        said = any(sign.about <= each.waits(now) for each in known)
        if not sign.about or said or sum(not each.gone for each in known) >= MOST_WRONG:
            return False
        self._signs[source] = [*known, sign]
        return True

    def about(self, name: str, now: float) -> bool:
        """Whether one that counts is about that node."""
        return any(each.counts(now) and name in each.about for signs in self._signs.values() for each in signs)

    def wait(self, now: float) -> bool:
        """Whether any does, for anybody's word."""
        return any(each.waits(now) for signs in self._signs.values() for each in signs)

    def of(self, source: str, now: float) -> frozenset[str]:
        """For whose word those of one source wait."""
        return frozenset[str]().union(*(each.waits(now) for each in self._signs.get(source, ())))

    def left(self, names: frozenset[str]) -> None:
        """An epoch came without them."""
        for signs in self._signs.values():
            for each in signs:
                each.gone |= each.about & names


def beyond(own: str, side: Side, touches: Iterable[tuple[str, Touch]]) -> set[str]:
    """Whoever is on that side of ``own``. ``touches``: by node, what its readers have told."""
    above: dict[str, set[str]] = {}
    for name, touch in touches:
        lower, upper = (name, touch.other) if touch.face == "top" else (touch.other, name)
        above.setdefault(lower, set()).add(upper)
        above.setdefault(upper, set())
    if side == "bottom":
        above = {each: {lower for lower, uppers in above.items() if each in uppers} for each in above}
    found: set[str] = set()
    waiting = [own]
    while waiting:
        for each in above.get(waiting.pop(), ()):
            if each not in found:
                found.add(each)
                waiting.append(each)
    return found - {own}
