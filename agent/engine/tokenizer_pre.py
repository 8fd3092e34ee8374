"""How a byte-level tokenizer cuts text into words before it merges: the kinds that GGUF files name. Pure data.

The patterns are those of the models' own tokenizer.json, which llama.cpp's src/llama-vocab.cpp quotes beside its forms
of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.errors import ModelError

Step = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Words:
    """``steps``: pre_tokenizer of tokenizer.json. ``whole``: a word that is a token needs no merges (ignore_merges)."""

    steps: tuple[Step, ...]
    whole: bool = False
    begins: bool = False  # the begin of text is added unless the file says otherwise
    normalizer: Step | None = None


def words_of(name: str) -> Words:
    """The kind that ``tokenizer.ggml.pre`` names. Raises ModelError for an unknown one."""
    found = next((words for names, words in _KINDS.items() if name in names), None)
    if found is None:
        known = ", ".join(known for names in _KINDS for known in names)
        raise ModelError(f"unknown tokenizer.ggml.pre {name!r}", hint=f"known: {known}")
    return found


def _split(*patterns: str) -> tuple[Step, ...]:
    splits = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in patterns
    ]
    return (*splits, _bytes(False))


def _bytes(words: bool) -> Step:
    """Bytes to letters; ``words``: and cut as GPT-2 does."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": words}


_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}"
_QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}"
_QWEN35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SLASHED = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}|{_SLASHED}"
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
    rf"|\p{{N}}{{1,3}}|{_SLASHED}"
)
_DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_DIGITS: Step = {"type": "Digits", "individual_digits": True}
_NFC: Step = {"type": "NFC"}

_KINDS: Mapping[tuple[str, ...], Words] = {
    ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "lfm2"): Words(_split(_LLAMA3), whole=True, begins=True),
    ("smaug-bpe", "dbrx", "chatglm-bpe", "glm4"): Words(_split(_LLAMA3)),
    ("qwen2", "stablelm2", "hunyuan"): Words(_split(_QWEN2), normalizer=_NFC),
    ("deepseek-r1-qwen",): Words(_split(_QWEN2)),
    ("qwen35",): Words(_split(_QWEN35), normalizer=_NFC),
    ("tekken",): Words(_split(_TEKKEN), whole=True, begins=True),
    ("gpt-4o", "llama4"): Words(_split(_GPT4O)),
    ("gpt-2", "phi-2", "olmo", "mpt", "gigachat", "mellum", "granite-docling", "trillion"): Words((_bytes(True),)),
    ("smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b"): Words((_DIGITS, _bytes(True))),
    ("command-r",): Words((_DIGITS, _bytes(True)), normalizer=_NFC),
    ("deepseek-v3",): Words(_split(r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", _DEEPSEEK3)),
    # Files of 2023 and early 2024 name no kind; this is how llama.cpp reads them.
    ("default", ""): Words(_split(r"[\p{P}\$\+<=>\^~\|]+", _GPT2_WORDS, r"\p{N}+", "[0-9][0-9][0-9]")),
}
