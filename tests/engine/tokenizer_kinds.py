"""Small tokenizers of every kind that models come with: the published settings, a few hundred tokens each."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

from text_models import CORPUS, write
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

MORE = [
    *CORPUS,
    'for (int i = 0; i < 100; ++i) {\n    printf("%d\\n", i);\n}\n\n\n\tdef f(x):\n        return x ** 2  # square',
    "1 12 123 1234 12345 3.14159 2026-11-23 15:04:05 0x1F 50% $9.99 I'm you'RE they've don't WE'LL",
]
SPECIAL = ("<|begin|>", "<|end|>", "<|user|>", "<|pad|>")

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace("{1,3}", "")


def _byte_level(pattern: str | None, *, nfc: bool, whole: bool, begins: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=whole))
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    split = [] if pattern is None else [pre_tokenizers.Split(Regex(pattern), "isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, plain]) if split else plain
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(MORE, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet))
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    if begins:
        begin = (SPECIAL[0], tokenizer.token_to_id(SPECIAL[0]))
        template = processors.TemplateProcessing(single=f"{SPECIAL[0]} $A", special_tokens=[begin])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def _pieces(style: str) -> Tokenizer:
    """SentencePiece's BPE with bytes for what is in no piece: Llama 2 (legacy), Mistral (metaspace), Gemma."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    first = ["<unk>", "<s>", "</s>"]
    trained.train_from_iterator(MORE, trainers.BpeTrainer(vocab_size=400, special_tokens=first))
    learnt = json.loads(trained.to_str())["model"]
    vocab = dict(learnt["vocab"])
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    merges = [tuple(merge) for merge in learnt["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    spaced = normalizers.Replace(" ", "▁")
    plain: list[decoders.Decoder] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    match style:
        case "llama2":
            tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaced])
            tokenizer.decoder = decoders.Sequence([*plain, decoders.Strip(" ", 1, 0)])
        case "mistral":
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
            tokenizer.decoder = decoders.Sequence([*plain, decoders.Strip(" ", 1, 0)])
        case "gemma":
            tokenizer.normalizer = spaced
            tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
            tokenizer.decoder = decoders.Sequence(plain)
            # Runs of line ends and of spaces are tokens, and no special ones.
            runs = [mark * count for mark in ("\n", "▁") for count in range(2, 6)]
            tokenizer.add_tokens([AddedToken(run, special=False, normalized=False) for run in runs])
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in (*first, *SPECIAL)])
    begin = ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[begin])
    return tokenizer


def _word_pieces() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(MORE, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special))
    names = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=names
    )
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    return tokenizer


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(
        MORE, trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>")
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens([AddedToken("<mask>", special=True, normalized=False, lstrip=True)])
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": lambda: _byte_level(None, nfc=False, whole=False, begins=False),
    "llama3": lambda: _byte_level(_LLAMA3, nfc=False, whole=True, begins=True),
    "qwen2": lambda: _byte_level(_QWEN2, nfc=True, whole=False, begins=False),
    "llama2": lambda: _pieces("llama2"),
    "mistral": lambda: _pieces("mistral"),
    "gemma": lambda: _pieces("gemma"),
    "wordpiece": _word_pieces,
    "unigram": _unigram,
}


@functools.cache
def _json(kind: str) -> str:
    return str(KINDS[kind]().to_str())


def folder_of(kind: str, folder: Path) -> Path:
    return write(folder, _json(kind), {"eos_token": SPECIAL[1], "pad_token": SPECIAL[3]})
