"""What a tokenizer puts around one text, and around a pair of texts: [CLS] a [SEP], [CLS] a [SEP] b [SEP]."""

from __future__ import annotations

from dataclasses import dataclass

import tokenizers

from agent.errors import ModelError

_PROBE = "a"  # in every vocabulary, if only as the unknown token


@dataclass(frozen=True, slots=True)
class Frame:
    """Token ids before, between and after the texts."""

    single: tuple[tuple[int, ...], tuple[int, ...]]
    pair: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    typed: int | None  # how many tokens behind the first text token type 1 begins; None: never


def frame_of(backend: tokenizers.Tokenizer) -> Frame:
    """Read from an example. Raises ModelError for a tokenizer that treats a pair in no known way."""
    single, pair = backend.encode(_PROBE), backend.encode(_PROBE, _PROBE)
    one, two = list(single.sequence_ids), list(pair.sequence_ids)
    if 0 not in one or 0 not in two or 1 not in two:
        raise ModelError("tokenizer.json makes nothing of a letter")
    begin, end = _span(one, 0)
    first, first_end = _span(two, 0)
    second, second_end = _span(two, 1)
    types = list(pair.type_ids)
    if second < first_end:
        raise ModelError("tokenizer.json puts pairs of texts together in a way that this engine does not know")
    return Frame(
        (tuple(single.ids[:begin]), tuple(single.ids[end:])),
        (tuple(pair.ids[:first]), tuple(pair.ids[first_end:second]), tuple(pair.ids[second_end:])),
        types.index(1) - first_end if 1 in types else None,
    )


def _span(sequences: list[int | None], wanted: int) -> tuple[int, int]:
    """Where the tokens of one text begin and end."""
    begin = sequences.index(wanted)
    return begin, len(sequences) - sequences[::-1].index(wanted)
