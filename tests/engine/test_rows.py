"""RowTable against a cache of tokens that does exactly what it is told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.engine.rows import RowTable


class TokenCache:
    """What a stage's rows would hold, were a token its own key and value."""

    def __init__(self, rows: int) -> None:
        self.rows: list[list[int]] = [[] for _ in range(rows)]

    def step(self, table: RowTable, appended: dict[int, list[int]]) -> None:
        """Copies first, then each slot's tokens at the position that the table names."""
        for source, target, tokens in table.copies():
            assert source != target and tokens <= len(self.rows[source])
            self.rows[target] = self.rows[source][:tokens]
        for slot, new in appended.items():
            (row,) = table.pages(slot)
            start = table.length(slot)
            assert start <= len(self.rows[row]), "a gap in the row"
            self.rows[row] = self.rows[row][:start] + new
            table.append(slot, new)


def filled(table: RowTable, cache: TokenCache, slot: int, tokens: list[int]) -> int:
    held = table.begin(slot, tokens)
    assert table.reserve(slot, len(tokens))
    cache.step(table, {slot: tokens[held:]})
    return held


def test_a_sequence_goes_on_in_the_free_row_that_holds_its_beginning() -> None:
    table, cache = RowTable(3, 64), TokenCache(3)
    assert filled(table, cache, 0, [1, 2, 3, 4]) == 0
    (row,) = table.pages(0)
    table.release(0)
    assert table.begin(2, [1, 2, 3, 4, 5, 6]) == 4
    assert table.pages(2) == (row,) and table.copies() == ()


def test_the_last_token_is_always_computed() -> None:
    table, cache = RowTable(1, 64), TokenCache(1)
    filled(table, cache, 0, [1, 2, 3])
    table.release(0)
    assert table.begin(0, [1, 2, 3]) == 2
    assert table.length(0) == 2


def test_the_beginning_of_a_sequence_that_is_still_written_is_copied() -> None:
    table, cache = RowTable(3, 64), TokenCache(3)
    filled(table, cache, 0, [1, 2, 3, 4])
    assert table.begin(1, [1, 2, 3, 9, 9]) == 3
    assert table.pages(1) != table.pages(0)
    assert table.copies() == ((table.pages(0)[0], table.pages(1)[0], 3),)
    assert table.copies() == ()  # once


def test_a_short_beginning_does_not_cost_a_long_conversation_its_row() -> None:
    table, cache = RowTable(2, 64), TokenCache(2)
    conversation = [1, 2, *range(10, 30)]
    filled(table, cache, 0, conversation)
    table.release(0)
    assert filled(table, cache, 0, [1, 2, 3]) == 2
    table.release(0)
    assert table.begin(1, [*conversation, 99]) == len(conversation)


def test_of_rows_without_a_common_beginning_the_one_unused_for_longest_is_taken() -> None:
    table, cache = RowTable(3, 64), TokenCache(3)
    rows = []
    for slot in range(3):
        filled(table, cache, slot, [slot + 1] * 4)
        rows.append(table.pages(slot))
    for slot in (1, 0, 2):
        table.release(slot)
    table.begin(0, [9, 9])
    assert table.pages(0) == rows[1]


def test_a_row_has_room_for_a_context_and_no_more() -> None:
    table = RowTable(2, 8)
    table.begin(0, [1, 2])
    assert table.room(0) == 8 and table.reserve(0, 8) and not table.reserve(0, 9)
    table.append(0, [1] * 8)
    with pytest.raises(ValueError, match="no room"):
        table.append(0, [1])
    assert (table.use().pages, table.use().used, table.use().page_tokens) == (2, 1, 8)


def test_wrong_calls_are_refused() -> None:
    table = RowTable(2, 8)
    table.begin(0, [1, 2])
    with pytest.raises(ValueError, match="open already"):
        table.begin(0, [1, 2])
    for call in (table.release, table.length, table.room, table.pages):
        with pytest.raises(ValueError, match="not open"):
            call(1)


def test_what_another_adapter_computed_is_no_beginning() -> None:
    table, cache = RowTable(2, 64), TokenCache(2)
    filled(table, cache, 0, [1, 2, 3, 4])
    table.release(0)
    assert table.begin(0, [1, 2, 3, 4, 5], 1) == 0
    table.append(0, [1, 2, 3, 4, 5])
    table.release(0)
    assert (table.begin(0, [1, 2, 3, 9], 2), table.begin(1, [1, 2, 3, 9], 1)) == (0, 3)


def test_guesses_are_kept_or_dropped_and_never_used_by_others() -> None:
    table = RowTable(2, 16)
    table.begin(0, [1, 2])
    table.append(0, [1, 2, 3, 4, 5], 3)
    assert table.length(0) == 5
    assert table.begin(1, [1, 2, 3, 4, 5, 6]) == 2
    table.release(1)
    with pytest.raises(ValueError, match="not settled"):
        table.append(0, [9])
    table.append(0, [6], 1)
    for length in (1, 7):
        with pytest.raises(ValueError, match="of them guesses"):
            table.settle(0, length)
    table.settle(0, 4)
    assert (table.length(0), table.begin(1, [1, 2, 3, 4, 5, 6])) == (4, 4)
    table.append(0, [7], 1)
    table.release(0)
    assert table.begin(0, [1, 2, 3, 4, 7, 8]) == 4, "a release drops what is not settled"
    assert table.length(0) == 4


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_comes_each_row_holds_the_tokens_of_its_slot(data: st.DataObject) -> None:
    table, cache = RowTable(3, 16), TokenCache(3)
    said: dict[int, list[int]] = {}
    for _ in range(data.draw(st.integers(1, 25))):
        slot = data.draw(st.integers(0, 2))
        if slot in said and data.draw(st.booleans()):
            table.release(slot)
            del said[slot]
        elif slot not in said:
            tokens = data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=12))
            said[slot] = tokens[: table.begin(slot, tokens)]
            if data.draw(st.booleans()):  # else its first step comes later, or never
                continue
        if data.draw(st.booleans()):
            steps = {slot: data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=2)) for slot in said}
            steps = {slot: tokens for slot, tokens in steps.items() if len(said[slot]) + len(tokens) <= 16}
            cache.step(table, steps)
            for slot, tokens in steps.items():
                said[slot] = said[slot] + tokens
            for slot, tokens in said.items():
                (row,) = table.pages(slot)
                assert cache.rows[row][: table.length(slot)] == tokens
        rows = [table.pages(slot) for slot in said]
        assert len(set(rows)) == len(rows)
