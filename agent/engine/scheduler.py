"""Who is next, and who computes how much in a step. Pure: numbers in, decisions out."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")

RECENT = 32  # answers that the estimate of the waiting time looks back on
UNKNOWN_WAIT_S = 5.0  # told before anything has been answered
LONGEST_WAIT_S = 60.0


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in the line: lower goes first. Whoever has one keeps it, also when it is sent back into the line."""

    turn: float
    request: int  # the number of the request, in order of arrival
    choice: int


@dataclass(slots=True)
class Line(Generic[Item]):
    """The waiting line: first come first served over requests, fair over their choices.

    The first choice of a request takes the present turn, its second one a turn later, and so on: a request with many
    choices lets newcomers in between them. Each admission moves the turn on by a ``slots``-th, so that newcomers, in
    turn, cannot keep the remaining choices out for ever. (Start-time fair queueing, Goyal, Vin and Cheng 1996, with a
    clock that moves for flows of one packet, too.)
    """

    slots: int
    _turn: float = 0.0
    _requests: int = 0
    _waiting: list[tuple[Place, Item]] = field(default_factory=list)  # sorted by place

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, items: Sequence[Item]) -> list[Place]:
        """A new request with its choices; the places they got."""
        self._requests += 1
        places = [Place(self._turn + choice, self._requests, choice) for choice in range(len(items))]
        for place, item in zip(places, items, strict=True):
            self.rejoin(place, item)
        return places

    def rejoin(self, place: Place, item: Item) -> None:
        """Back to the place it had: before all who came later."""
        bisect.insort(self._waiting, (place, item), key=lambda entry: entry[0])

    def first(self, ready: Callable[[Item], bool]) -> Item | None:
        """The next one that is ready; it stays in the line."""
        return next((item for _, item in self._waiting if ready(item)), None)

    def admit(self, item: Item) -> None:
        """Take it out of the line: its turn has come."""
        place = next(place for place, other in self._waiting if other is item)
        self._turn = max(self._turn + 1.0 / self.slots, place.turn)
        self.leave(lambda other: other is item)

    def leave(self, gone: Callable[[Item], bool]) -> None:
        """Take out all that are gone."""
        self._waiting = [(place, item) for place, item in self._waiting if not gone(item)]


def share(budget: int, wants: Sequence[int]) -> list[int]:
    """``budget`` shared evenly: who wants less than an even share leaves the rest to the others."""
    shares = [0] * len(wants)
    left, hungry = budget, [i for i, want in enumerate(wants) if want > 0]
    while left > 0 and hungry:
        even, odd = divmod(left, len(hungry))
        for rank, i in enumerate(hungry):
            given = min(wants[i] - shares[i], even + (rank < odd))
            shares[i] += given
            left -= given
        hungry = [i for i in hungry if shares[i] < wants[i]]
    return shares


@dataclass(slots=True)
class Pace:
    """How fast requests have lately been answered, for an honest Retry-After."""

    _ends: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def finished(self, now: float) -> None:
        self._ends.append(now)

    def wait(self, waiting: int, now: float) -> float:
        """Seconds until those who wait now will have been admitted, at the recent pace."""
        if len(self._ends) < 2:
            return UNKNOWN_WAIT_S
        seconds = max(now - self._ends[0], 1e-3)
        return min(max(waiting * seconds / len(self._ends), 1.0), LONGEST_WAIT_S)
