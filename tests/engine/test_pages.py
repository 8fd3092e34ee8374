"""Pages are held, shared, kept and evicted without ever mixing two sequences."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.engine.pages import PageTable

PAGE = 4


def fill(table: PageTable, slot: int, tokens: list[int]) -> int:
    """What a runner does with a sequence that it computes whole."""
    reused = table.begin(slot, tokens)
    assert table.reserve(slot, len(tokens))
    table.append(slot, tokens[reused:])
    return reused


def test_a_prefix_is_reused_in_whole_pages_and_leaves_a_token_to_compute() -> None:
    table = PageTable(pages=16, page_tokens=PAGE, slots=3)
    tokens = list(range(10))
    assert fill(table, 0, tokens) == 0
    assert fill(table, 1, tokens) == 8
    assert table.pages(0)[:2] == table.pages(1)[:2]
    assert table.pages(0)[2] != table.pages(1)[2]
    assert fill(table, 2, tokens[:8]) == 4  # of 8 tokens the last must be computed, and pages are whole


def test_tokens_that_were_generated_are_reused_as_well() -> None:
    table = PageTable(pages=16, page_tokens=PAGE, slots=2)
    fill(table, 0, [1, 2, 3])
    table.reserve(0, 9)
    for token in (4, 5, 6, 7, 8, 9):
        table.append(0, [token])
    table.release(0)
    assert table.begin(1, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) == 8


def test_equal_tokens_after_another_beginning_are_another_page() -> None:
    table = PageTable(pages=16, page_tokens=PAGE, slots=2)
    fill(table, 0, [1, 1, 1, 1, 5, 6, 7, 8, 9])
    assert fill(table, 1, [2, 2, 2, 2, 5, 6, 7, 8, 9]) == 0
    assert not set(table.pages(0)) & set(table.pages(1))


def test_two_slots_that_compute_the_same_end_up_with_one_copy() -> None:
    table = PageTable(pages=16, page_tokens=PAGE, slots=2)
    for slot in (0, 1):
        table.begin(slot, [1, 2, 3, 4, 5])
        table.reserve(slot, 5)
    table.append(0, [1, 2, 3, 4, 5])
    table.append(1, [1, 2, 3, 4, 5])
    assert table.pages(0)[0] == table.pages(1)[0]
    assert table.use().used == 3


def test_without_room_reserve_says_no_and_changes_nothing() -> None:
    table = PageTable(pages=4, page_tokens=PAGE, slots=2)
    fill(table, 0, list(range(9)))
    table.begin(1, [50])
    before = table.use()
    assert not table.reserve(1, 5)
    assert table.use() == before
    assert table.reserve(1, 4)


def test_what_was_unused_for_longest_goes_first_and_its_end_before_its_beginning() -> None:
    table = PageTable(pages=5, page_tokens=PAGE, slots=2)
    old, new = [1] * 8 + [0], [2] * 4 + [0]
    fill(table, 0, old)
    table.release(0)
    fill(table, 0, new)
    table.release(0)  # known now: two pages of old, one of new
    table.begin(0, [9])
    assert table.reserve(0, 3 * PAGE)
    table.release(0)
    assert table.begin(0, old) == 4
    table.release(0)
    assert table.begin(0, new) == 4


def test_wrong_calls_are_refused() -> None:
    table = PageTable(pages=4, page_tokens=PAGE, slots=2)
    for call in (lambda: table.append(0, [1]), lambda: table.release(0), lambda: table.reserve(0, 1)):
        with pytest.raises(ValueError, match="not open"):
            call()
    table.begin(0, [1])
    with pytest.raises(ValueError, match="open already"):
        table.begin(0, [1])
    with pytest.raises(ValueError, match="no room"):
        table.append(0, [1])


def test_guesses_fill_no_page_that_others_may_use_before_they_are_settled() -> None:
    table = PageTable(8, PAGE, 2)
    table.begin(0, [1])
    table.reserve(0, 3 * PAGE)
    table.append(0, [1] * (2 * PAGE + 1), 2 * PAGE)
    assert table.length(0) == 2 * PAGE + 1
    assert table.begin(1, [1] * 3 * PAGE) == 0
    table.release(1)
    with pytest.raises(ValueError, match="not settled"):
        table.append(0, [2])
    for length in (0, 2 * PAGE + 2):
        with pytest.raises(ValueError, match="of them guesses"):
            table.settle(0, length)
    table.settle(0, PAGE + 1)
    assert table.length(0) == PAGE + 1
    assert table.begin(1, [1] * 3 * PAGE) == PAGE, "what was kept can be used again, what was dropped cannot"


def test_a_release_drops_what_is_not_settled() -> None:
    table = PageTable(8, PAGE, 1)
    table.begin(0, [1])
    table.reserve(0, 2 * PAGE)
    table.append(0, [1] * 2 * PAGE, PAGE)
    table.release(0)
    assert table.begin(0, [1] * 3 * PAGE) == PAGE


class Pages(RuleBasedStateMachine):
    """A table beside a model of what each page of a real cache would hold."""

    SLOTS, PAGES = 4, 9

    def __init__(self) -> None:
        super().__init__()
        self.table = PageTable(self.PAGES, PAGE, self.SLOTS)
        self.open: dict[int, list[int]] = {}  # what each slot holds: tokens, marked with the slot's adapter
        self.adapters: dict[int, int] = {}
        self.memory: dict[int, list[int]] = {}  # page -> what was written to it so far

    @precondition(lambda self: len(self.open) < self.SLOTS)
    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=24), adapter=st.integers(0, 2))
    def begin(self, tokens: list[int], adapter: int) -> None:
        slot = next(slot for slot in range(self.SLOTS) if slot not in self.open)
        reused = self.table.begin(slot, tokens, adapter)
        assert reused < len(tokens)
        self.adapters[slot] = adapter
        self.open[slot] = [_marked(token, adapter) for token in tokens[:reused]]
        if self.table.reserve(slot, len(tokens)):
            self.write(slot, tokens[reused:])

    @precondition(lambda self: self.open)
    @rule(data=st.data(), tokens=st.lists(st.integers(0, 1), min_size=1, max_size=9))
    def grow(self, data: st.DataObject, tokens: list[int]) -> None:
        slot = data.draw(st.sampled_from(sorted(self.open)))
        before = self.table.pages(slot), self.table.use()
        if self.table.reserve(slot, len(self.open[slot]) + len(tokens)):
            self.write(slot, tokens)
        else:
            assert (self.table.pages(slot), self.table.use()) == before
            missing = -(-(len(self.open[slot]) + len(tokens)) // PAGE) - len(before[0])
            assert missing > before[1].pages - before[1].used, "there was room"

    @precondition(lambda self: self.open)
    @rule(data=st.data(), sure=st.lists(st.integers(0, 1), max_size=1), guesses=st.lists(st.integers(0, 1), max_size=9))
    def guess(self, data: st.DataObject, sure: list[int], guesses: list[int]) -> None:
        slot = data.draw(st.sampled_from(sorted(self.open)))
        held = len(self.open[slot])
        if not self.table.reserve(slot, max(1, held + len(sure) + len(guesses))):
            return
        self.write(slot, [*sure, *guesses], len(guesses))
        if data.draw(st.booleans()):
            self.table.release(slot)
            del self.open[slot]
            return
        kept = held + len(sure) + data.draw(st.integers(0, len(guesses)))
        self.table.settle(slot, kept)
        del self.open[slot][kept:]

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.open)))
        self.table.release(slot)
        del self.open[slot]

    def write(self, slot: int, tokens: list[int], guessed: int = 0) -> None:
        """The runner writes first, the table hears of it after."""
        pages, held = self.table.pages(slot), self.open[slot]
        for token in tokens:
            page, place = pages[len(held) // PAGE], len(held) % PAGE
            others = [other for other in self.open if other != slot and page in self.table.pages(other)]
            assert not others, "a page that is shared is never written"
            held.append(_marked(token, self.adapters[slot]))
            self.memory[page] = [*self.memory.get(page, [])[:place], held[-1]]
        self.table.append(slot, tokens, guessed)

    @invariant()
    def every_slot_finds_its_own_tokens_in_its_pages(self) -> None:
        for slot, tokens in self.open.items():
            pages = self.table.pages(slot)
            assert len(set(pages)) == len(pages)
            assert self.table.length(slot) == len(tokens)
            for start in range(0, len(tokens), PAGE):
                block = tokens[start : start + PAGE]
                assert self.memory[pages[start // PAGE]][: len(block)] == block

    @invariant()
    def no_page_is_lost(self) -> None:
        held = {page for slot in self.open for page in self.table.pages(slot)}
        assert self.table.use().used == len(held)

    def teardown(self) -> None:
        for slot in self.open:
            self.table.release(slot)
        self.table.begin(0, [7])
        assert self.table.reserve(0, self.PAGES * PAGE), "all pages can be had again"
        assert not self.table.reserve(0, self.PAGES * PAGE + 1)
        assert sorted(self.table.pages(0)) == list(range(self.PAGES))


def _marked(token: int, adapter: int) -> int:
    """What the cache holds of a token: another key and value with each adapter."""
    return token + 2 * adapter


TestPages = Pages.TestCase
TestPages.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
