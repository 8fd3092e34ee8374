"""Which row of a contiguous key-value cache belongs to whom, and whose beginning can be used again. Pure.

A row holds one sequence and has room for a whole context; there is one for each slot. What a closed slot held stays in
its row. A new sequence goes on from the longest beginning that any row has of it: in that row, if nobody holds it and
little else is lost, or in another, into which the beginning is copied.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from agent.engine.base import CacheUse


class RowTable:
    """A CacheTable of rows. Wrong calls raise ValueError and change nothing."""

    def __init__(self, slots: int, row_tokens: int) -> None:
        self._row_tokens = row_tokens
        self._rows: list[tuple[int] | None] = [None] * slots  # of each open slot, as ``pages`` shows it
        self._held: list[list[int]] = [[] for _ in range(slots)]  # the tokens in each row, without guesses
        self._adapters = [0] * slots  # with which the tokens in each row were computed
        self._guesses: list[list[int]] = [[] for _ in range(slots)]  # what follows them and may yet be dropped
        self._idle = OrderedDict.fromkeys(range(slots))  # rows that nobody holds, longest unused first
        self._copies: list[tuple[int, int, int]] = []

    @property
    def slots(self) -> int:
        return len(self._rows)

    def begin(self, slot: int, tokens: Sequence[int], adapter: int = 0) -> int:
        """Open a slot; how many leading tokens its row holds already, at most all but one."""
        if self._rows[slot] is not None:
            raise ValueError(f"slot {slot} is open already")
        wanted = list(tokens[:-1])
        rows = zip(self._held, self._adapters, strict=True)
        common = [_common(held, wanted) if own == adapter else 0 for held, own in rows]
        # Of equal ones a row that nobody holds, which may need no copy.
        source = max(range(len(common)), key=lambda row: (common[row], row in self._idle))
        shared = common[source]
        row = source
        if row not in self._idle or 2 * shared < len(self._held[row]):
            row = next(iter(self._idle))
        if shared and row != source:
            self._copies.append((source, row, shared))
        self._held[row], self._adapters[row] = wanted[:shared], adapter
        del self._idle[row]
        self._rows[slot] = (row,)
        return shared

    def reserve(self, slot: int, length: int) -> bool:
        """Whether ``length`` tokens fit a row: a slot has all of its room from the start."""
        self._row(slot)
        return length <= self._row_tokens

    def append(self, slot: int, tokens: Sequence[int], guessed: int = 0) -> None:
        """Note tokens that are in the cache now; ``settle`` keeps or drops the last ``guessed`` of them."""
        row = self._row(slot)
        if self.length(slot) + len(tokens) > self._row_tokens:
            raise ValueError(f"slot {slot} has no room for {len(tokens)} more tokens")
        sure = len(tokens) - guessed
        if self._guesses[row] and sure:
            raise ValueError(f"the guesses of slot {slot} are not settled")
        self._held[row].extend(tokens[:sure])
        self._guesses[row].extend(tokens[sure:])

    def settle(self, slot: int, length: int) -> None:
        """Keep ``length`` tokens: the guesses after them are dropped, those before are as any other."""
        row = self._row(slot)
        kept = length - len(self._held[row])
        if not 0 <= kept <= len(self._guesses[row]):
            raise ValueError(f"slot {slot} holds {self.length(slot)} tokens, {len(self._guesses[row])} of them guesses")
        self._held[row].extend(self._guesses[row][:kept])
        self._guesses[row].clear()

    def release(self, slot: int) -> None:
        """Close a slot. Its row keeps what it holds until another sequence needs it."""
        row = self._row(slot)
        self._rows[slot] = None
        self._idle[row] = None
        self._guesses[row].clear()

    def length(self, slot: int) -> int:
        """How many tokens the slot holds."""
        row = self._row(slot)
        return len(self._held[row]) + len(self._guesses[row])

    def room(self, slot: int) -> int:
        """How many tokens the slot's row can hold."""
        self._row(slot)
        return self._row_tokens

    def pages(self, slot: int) -> tuple[int, ...]:
        """The slot's row; the same object as long as the slot is open."""
        row = self._rows[slot]
        if row is None:
            raise ValueError(f"slot {slot} is not open")
        return row

    def copies(self) -> tuple[tuple[int, int, int], ...]:
        """Beginnings to copy before the next step, in this order: (from row, to row, tokens). Asked once a step."""
        copies, self._copies = tuple(self._copies), []
        return copies

    def use(self) -> CacheUse:
        return CacheUse(len(self._rows), len(self._rows) - len(self._idle), self._row_tokens)

    def _row(self, slot: int) -> int:
        return self.pages(slot)[0]


def _common(held: list[int], wanted: list[int]) -> int:
    """How many leading tokens are equal. Compares slices, which is quick, and halves what is left."""
    low, high = 0, min(len(held), len(wanted))
    while low < high:
        middle = (low + high + 1) // 2
        if held[low:middle] == wanted[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
