"""Ids back to text: the bytes behind each token, and a stream that never gives half a character."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

Alphabet = Literal["bytes", "pieces", "words"]

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_of() -> dict[str, int]:
    """The alphabet of byte-level BPE (GPT-2): printable bytes stand for themselves, the rest from U+0100."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(rest)}


_BYTES = _byte_of()


def _parts(section: object) -> Iterable[Mapping[str, object]]:
    """A component of tokenizer.json and, when it is a sequence, each of its parts."""
    if isinstance(section, Mapping):
        yield section
        for key in ("decoders", "pretokenizers", "normalizers"):
            inner = section.get(key)
            if isinstance(inner, list):
                yield from (part for part in inner if isinstance(part, Mapping))


def alphabet_of(tokenizer: Mapping[str, object]) -> tuple[Alphabet, bool]:
    """How a tokenizer.json writes bytes, and whether its decoder drops the space before the first word."""
    decoder = list(_parts(tokenizer.get("decoder")))
    kinds = {part.get("type") for part in decoder}
    before = {part.get("type") for part in _parts(tokenizer.get("pre_tokenizer"))}
    if "ByteLevel" in kinds or (not decoder and "ByteLevel" in before):
        return "bytes", False
    if "WordPiece" in kinds:
        return "words", True
    for part in decoder:
        if part.get("type") == "Strip" and part.get("content") == " " and part.get("start"):
            return "pieces", True
        if part.get("type") == "Metaspace":
            never = part.get("prepend_scheme", "always") == "never" or part.get("add_prefix_space") is False
            return "pieces", not never
    return "pieces", False


def unknown_id(tokenizer: Mapping[str, object]) -> int | None:
    """The id that a tokenizer.json gives to what is in none of its tokens; None when it has none."""
    model = tokenizer.get("model")
    if not isinstance(model, Mapping):
        return None
    vocab, name, id = model.get("vocab"), model.get("unk_token"), model.get("unk_id")
    if isinstance(vocab, Mapping) and isinstance(name, str):
        id = vocab.get(name)
    return id if isinstance(id, int) else None


def bytes_of(token: str, alphabet: Alphabet) -> bytes:
    """The bytes that an ordinary token of the vocabulary stands for."""
    if alphabet == "bytes":
        try:
            return bytes(map(_BYTES.__getitem__, token))
        except KeyError:
            # A character outside the alphabet: text as it stands. The tokenizers library decodes it so, too.
            return token.encode()
    if alphabet == "words":
        return token[2:].encode() if token.startswith("##") else b" " + token.encode()
    byte = _BYTE_TOKEN.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()


class TextStream:
    """Text of one answer, token by token. ``push`` gives what is certain, ``flush`` the rest."""

    def __init__(self, spoken: Callable[[int], bytes], *, strip: bool) -> None:
        """``spoken`` gives a token's bytes, none for those a reader never sees; ``strip`` drops one leading space."""
        self._spoken = spoken
        self._strip = strip
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that is complete with this token: often a word, or nothing while a character is incomplete."""
        return self._stripped(self._decoder.decode(self._spoken(token)))

    def flush(self) -> str:
        """What is left at the end: U+FFFD for a character that never became whole."""
        return self._stripped(self._decoder.decode(b"", final=True))

    def _stripped(self, text: str) -> str:
        if self._strip and text:
            self._strip = False
            return text.removeprefix(" ")
        return text
