"""Text to numbers: the tokenizer, trained on the corpus, and documents as rows of ids with what is to be learned.

Byte-level BPE without any normaliser, so that every text comes back as it went in. Digits stand alone, because sums are
learned far better on digits than on whatever pairs of them happen to be frequent. The pattern is Qwen2.5's, which other
software reads as it is.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from agent.nano.corpus import KINDS, Document, Kinds, documents
from agent.nano.layout import CHAT_TEMPLATE, END_OF_TEXT, SPECIAL_TOKENS, TOOL_TOKENS, TURN_END, segments

VOCABULARY = 3072
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LONGEST = 1024
IGNORED = -100

Row = tuple[list[int], list[int]]


def trained(seed: int, count: int) -> Tokenizer:
    """A tokenizer trained on `count` documents of the corpus."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(TOOL_TOKENS),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(documents(seed, count)), trainer)
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in TOOL_TOKENS])
    return tokenizer


def _texts(stream: Iterable[Document]) -> Iterator[str]:
    """The documents as text without the special tokens."""
    for document in stream:
        text = "".join(piece for piece, _ in segments(document))
        for token in SPECIAL_TOKENS + TOOL_TOKENS:
            text = text.replace(token, "\n")
        yield text


def row(document: Document, tokenizer: Tokenizer) -> Row:
    """The ids of a document, and beside each the id to be learned there, or IGNORED."""
    ids: list[int] = []
    wanted: list[int] = []
    for text, learned in segments(document):
        piece = tokenizer.encode(text, add_special_tokens=False).ids
        ids += piece
        wanted += piece if learned else [IGNORED] * len(piece)
    return ids, wanted


def batches(tokenizer: Tokenizer, seed: int, tokens: int, kinds: Kinds = KINDS) -> Iterator[list[Row]]:
    """An endless stream of batches of at most `tokens` ids, padding counted.

    Rows of like length go together, so that almost nothing is padding and no row ever sees another: cheaper than
    packing under a mask, and exact. Within a window the batches are shuffled, so that lengths stay mixed.
    """
    rng = Random(seed)
    window = 1024
    while True:
        rows = [row(document, tokenizer) for document in documents(rng.randrange(2**32), window, kinds)]
        rows = sorted((r for r in rows if 2 <= len(r[0]) <= LONGEST), key=lambda r: len(r[0]))
        found: list[list[Row]] = []
        batch: list[Row] = []
        for item in rows:
            if batch and (len(batch) + 1) * len(item[0]) > tokens:
                found.append(batch)
                batch = []
            batch.append(item)
        found.append(batch)
        rng.shuffle(found)
        yield from found


def tokenizer_config() -> dict[str, Any]:
    """tokenizer_config.json: the chat template, and which special token serves as what."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": END_OF_TEXT,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
        "chat_template": CHAT_TEMPLATE,
    }


def write(tokenizer: Tokenizer, folder: Path) -> None:
    """The tokenizer's two files."""
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(), indent=2, ensure_ascii=False) + "\n")
