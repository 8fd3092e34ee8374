"""Which page of a paged key-value cache belongs to whom, and which can be used again. Pure.

A page holds ``page_tokens`` tokens. Once it is full it is known by its tokens and by the page before it, so a sequence
that starts with the same tokens, and has the same adapter, takes the same pages; whole pages alone are shared, and what
is full is never written again. A page that nobody holds stays known until its room is needed; of those, the one unused
for longest goes first, and the end of a sequence before its beginning.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.engine.base import CacheUse

_ROOT = 0  # the block before the first; of a sequence with an adapter, the adapter's number below it

# A full page's name: the number of the block before it, and its tokens. Block numbers are never used twice, so equal
# names mean equal tokens from the very start; a dictionary compares the tokens themselves, not their hash alone.
_Name = tuple[int, tuple[int, ...]]


@dataclass(slots=True)
class _Sequence:
    """What an open slot holds."""

    pages: list[int]
    shown: tuple[int, ...] | None  # the pages as a tuple, made when asked for
    length: int  # tokens, without guesses
    block: int  # number of the last full block
    tail: list[int] = field(default_factory=list)  # tokens of the page that is not full
    guesses: list[int] = field(default_factory=list)  # tokens after ``length`` that may yet be dropped


class PageTable:
    """A CacheTable of pages. Wrong calls raise ValueError and change nothing."""

    def __init__(self, pages: int, page_tokens: int, slots: int) -> None:
        self._page_tokens = page_tokens
        self._slots: list[_Sequence | None] = [None] * slots
        self._free = list(range(pages - 1, -1, -1))  # pages that hold nothing of use; the last is taken first
        self._holders = [0] * pages
        self._names: list[_Name | None] = [None] * pages
        self._known: dict[_Name, tuple[int, int]] = {}  # name -> page and the number of the block in it
        self._idle: OrderedDict[int, None] = OrderedDict()  # known pages that nobody holds, longest unused first
        self._blocks = _ROOT

    @property
    def slots(self) -> int:
        return len(self._slots)

    def begin(self, slot: int, tokens: Sequence[int], adapter: int = 0) -> int:
        """Open a slot; how many leading tokens its pages hold already, at most all but one."""
        if self._slots[slot] is not None:
            raise ValueError(f"slot {slot} is open already")
        size = self._page_tokens
        pages: list[int] = []
        block = _ROOT - adapter
        for start in range(0, len(tokens) - size, size):
            found = self._known.get((block, tuple(tokens[start : start + size])))
            if found is None:
                break
            page, block = found
            pages.append(page)
        for page in pages:
            self._hold(page)
        self._slots[slot] = _Sequence(pages, None, len(pages) * size, block)
        return len(pages) * size

    def reserve(self, slot: int, length: int) -> bool:
        """Pages for ``length`` tokens; False, and nothing changed, when there are not enough."""
        sequence = self._sequence(slot)
        missing = -(-length // self._page_tokens) - len(sequence.pages)
        if missing > len(self._free) + len(self._idle):
            return False
        for _ in range(missing):
            page = self._take()
            self._holders[page] = 1
            sequence.pages.append(page)
            sequence.shown = None
        return True

    def append(self, slot: int, tokens: Sequence[int], guessed: int = 0) -> None:
        """Note tokens that are in the cache now. Pages that they fill can be used again from here on.

        The last ``guessed`` of them fill no page before ``settle`` has kept them: a full page is never written again.
        """
        sequence = self._sequence(slot)
        if self.length(slot) + len(tokens) > self.room(slot):
            raise ValueError(f"slot {slot} has no room for {len(tokens)} more tokens")
        sure = len(tokens) - guessed
        if sequence.guesses and sure:
            raise ValueError(f"the guesses of slot {slot} are not settled")
        self._fill(sequence, tokens[:sure])
        sequence.guesses.extend(tokens[sure:])

    def settle(self, slot: int, length: int) -> None:
        """Keep ``length`` tokens: the guesses after them are dropped, those before are as any other."""
        sequence = self._sequence(slot)
        kept = length - sequence.length
        if not 0 <= kept <= len(sequence.guesses):
            raise ValueError(f"slot {slot} holds {self.length(slot)} tokens, {len(sequence.guesses)} of them guesses")
        guesses, sequence.guesses = sequence.guesses, []
        self._fill(sequence, guesses[:kept])

    def _fill(self, sequence: _Sequence, tokens: Sequence[int]) -> None:
        size = self._page_tokens
        first = sequence.length // size
        sequence.length += len(tokens)
        sequence.tail.extend(tokens)
        for index in range(first, sequence.length // size):
            name = (sequence.block, tuple(sequence.tail[:size]))
            del sequence.tail[:size]
            page = sequence.pages[index]
            found = self._known.get(name)
            if found is None:
                self._blocks += 1
                self._names[page] = name
                self._known[name] = (page, self._blocks)
                sequence.block = self._blocks
            else:  # another slot computed the same: keep one of the two
                self._hold(found[0])
                self._holders[page] = 0
                self._free.append(page)
                sequence.pages[index], sequence.block = found
                sequence.shown = None

    def release(self, slot: int) -> None:
        """Close a slot. Its full pages stay known until their room is needed."""
        sequence = self._sequence(slot)
        self._slots[slot] = None
        for page in reversed(sequence.pages):  # the end becomes idle first, so that it goes first
            self._holders[page] -= 1
            if self._holders[page]:
                continue
            if self._names[page] is None:
                self._free.append(page)
            else:
                self._idle[page] = None

    def length(self, slot: int) -> int:
        """How many tokens the slot holds."""
        sequence = self._sequence(slot)
        return sequence.length + len(sequence.guesses)

    def room(self, slot: int) -> int:
        """How many tokens the slot's pages can hold."""
        return len(self._sequence(slot).pages) * self._page_tokens

    def pages(self, slot: int) -> tuple[int, ...]:
        """The slot's pages in order; the same object as long as they do not change."""
        sequence = self._sequence(slot)
        if sequence.shown is None:
            sequence.shown = tuple(sequence.pages)
        return sequence.shown

    def copies(self) -> tuple[tuple[int, int, int], ...]:
        """None, ever: a prefix is shared in place."""
        return ()

    def use(self) -> CacheUse:
        pages = len(self._holders)
        return CacheUse(pages, pages - len(self._free) - len(self._idle), self._page_tokens)

    def _sequence(self, slot: int) -> _Sequence:
        sequence = self._slots[slot]
        if sequence is None:
            raise ValueError(f"slot {slot} is not open")
        return sequence

    def _hold(self, page: int) -> None:
        if not self._holders[page]:
            del self._idle[page]
        self._holders[page] += 1

    def _take(self) -> int:
        """A page to write: one that holds nothing of use, else the one unused for longest."""
        if self._free:
            return self._free.pop()
        page, _ = self._idle.popitem(last=False)
        name = self._names[page]
        assert name is not None, "an idle page is a known page"
        del self._known[name]
        self._names[page] = None
        return page
