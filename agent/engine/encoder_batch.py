"""Which inputs are computed together: short ones share a row, so that nothing is padded and no product is small. Pure.

A row of a few dozen tokens leaves a processor's arithmetic half idle; one of a hundred and more does not. Attention is
kept within each text by a mask, and positions begin anew with each, so what shares a row changes no vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from agent.engine.base import Tokens
from agent.engine.encoder_input import EncoderInput

BATCH_TOKENS = 4096  # bounds the memory of one forward pass, and how long another call waits for its turn
ROW_TOKENS = 160  # up to so many tokens of short inputs share a row: beyond, their masked scores cost more than is won


@dataclass(frozen=True, slots=True)
class EncoderBatch:
    """All i64, [rows, length]: token ids, their places in their texts, which text of the row, and token types."""

    tokens: Tokens
    places: Tokens
    texts: Tokens
    types: Tokens | None
    spans: tuple[tuple[int, int, int], ...]  # of each input: row, begin, end

    @staticmethod
    def of(rows: Sequence[Sequence[EncoderInput]], *, typed: bool = False) -> EncoderBatch:
        """Rows of inputs side by side; all rows have the same number of tokens."""
        tokens, places, texts, types = [], [], [], []
        spans: list[tuple[int, int, int]] = []
        for number, row in enumerate(rows):
            lengths = [len(item.tokens) for item in row]
            ends = np.cumsum(lengths).tolist()
            spans += [(number, end - length, end) for end, length in zip(ends, lengths, strict=True)]
            tokens.append([token for item in row for token in item.tokens])
            places.append(np.concatenate([np.arange(length) for length in lengths]))
            texts.append(np.repeat(np.arange(len(row)), lengths))
            if typed:
                types.append(np.concatenate([_types(item) for item in row]))
        return EncoderBatch(
            np.array(tokens, np.int64),
            np.stack(places).astype(np.int64),
            np.stack(texts).astype(np.int64),
            np.stack(types).astype(np.int64) if typed else None,
            tuple(spans),
        )


def batches(lengths: Sequence[int], most: int = BATCH_TOKENS, row: int = ROW_TOKENS) -> Iterator[list[list[int]]]:
    """Indices of inputs, row by row. Short ones fill rows of at most ``row`` tokens, the longest first; inputs longer
    than that have rows of their own, of which those of one length are computed together, at most ``most`` tokens."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    alone: dict[int, list[int]] = {}
    shared: list[tuple[int, list[int]]] = []
    for index in order:
        length = lengths[index]
        if 2 * length > row:
            alone.setdefault(length, []).append(index)
            continue
        # The fullest row that has room. Few rows are open at a time, for what is full is not looked at again.
        place = next((at for at, (taken, _) in enumerate(shared) if taken + length <= row), None)
        if place is None:
            shared.append((length, [index]))
        else:
            taken, members = shared[place]
            shared[place] = (taken + length, [*members, index])
    for length, members in sorted(alone.items()):
        size = max(1, most // length)
        yield from ([[one] for one in members[start : start + size]] for start in range(0, len(members), size))
    for _, members in shared:
        yield [members]


def _types(item: EncoderInput) -> Tokens:
    places = np.arange(len(item.tokens))
    return (places >= (len(places) if item.second is None else item.second)).astype(np.int64)
