"""A GGUF file's tokenizer as tokenizer.json and tokenizer_config.json have it. Pure.

GGUF keeps tokens, their kinds, and merges or scores; how text is cut into words it only names. Two kinds of model:
``gpt2``, byte-level BPE, and ``llama``, SentencePiece's BPE with bytes for what is in no piece.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.engine.gguf_file import GgufFile
from agent.engine.tokenizer_pre import Step, words_of
from agent.errors import ModelError

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 1, 2, 3, 4, 5  # llama.cpp's llama_token_type
_SPACE = "▁"
_LONGEST = 1024  # characters of a token
_NAMED = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
# The ends of answers that llama.cpp knows by their text where a file names one end alone.
_ENDS = frozenset(
    {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<|eom_id|>", "<EOT>"}
    | {"</s>", "<|return|>", "<|call|>", "<｜end▁of▁sentence｜>", "_<EOT>"}
)


@dataclass(frozen=True)
class GgufTokenizer:
    """Tokens of a file and their kinds. ``begin``, ``end``: added to a text that is no chat."""

    file: GgufFile
    tokens: list[str]
    kinds: list[int]
    begin: int | None
    end: int | None

    @classmethod
    def read(cls, file: GgufFile) -> GgufTokenizer:
        """Raises ModelError where the metadata make no tokenizer."""
        tokens = [token for token in file.values("tokenizer.ggml.tokens") if isinstance(token, str)]
        kinds = [int(kind) for kind in file.values("tokenizer.ggml.token_type")] or [_NORMAL] * len(tokens)
        if not tokens or len(kinds) != len(tokens) or max(map(len, tokens)) > _LONGEST:
            raise ModelError(
                f"{file.files[0].name} holds no whole tokenizer",
                hint="it has no tokens, not one kind for each, or tokens longer than any model's",
            )
        for key in ("bos", "eos", "eot", "eom"):
            id = _id(file, key, tokens)
            if id is not None and kinds[id] == _NORMAL:
                kinds[id] = _CONTROL  # some converters leave it out
        begins = words_of(_words_name(file)).begins if _model(file) == "gpt2" else True
        begin = _id(file, "bos", tokens) if file.flag("tokenizer.ggml.add_bos_token", begins) else None
        end = _id(file, "eos", tokens) if file.flag("tokenizer.ggml.add_eos_token", False) else None
        return cls(file, tokens, kinds, begin, end)

    def to_json(self) -> dict[str, object]:
        """tokenizer.json."""
        parts = self._byte_level() if _model(self.file) == "gpt2" else self._pieces()
        added = [
            {
                "id": id,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": kind != _USER_DEFINED,
            }
            for id, (text, kind) in enumerate(zip(self.tokens, self.kinds, strict=True))
            if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED) and text
        ]
        fixed = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
        return {**fixed, **parts, "post_processor": self._post_processor()}

    def config(self) -> dict[str, object]:
        """tokenizer_config.json: the named tokens and the chat templates."""
        file = self.file
        template = file.text("tokenizer.chat_template", "")
        named: dict[str, object] = {}
        for name, key in _NAMED.items():
            id = _id(file, key, self.tokens)
            if id is not None:
                named[name] = self.tokens[id]
        if self.begin is None and "bos_token" not in template:
            # Many files name a begin that their model was never trained with.
            named["bos_token"] = None
        if template:
            tools = file.text("tokenizer.chat_template.tool_use", "")
            listed = [{"name": "default", "template": template}, {"name": "tool_use", "template": tools}]
            named["chat_template"] = listed if tools else template
        return named

    def generation(self) -> dict[str, object]:
        """generation_config.json, but for sampling: every end of an answer."""
        named = [_id(self.file, key, self.tokens) for key in ("eos", "eot", "eom")]
        ends = {id for id in named if id is not None}
        control = (_CONTROL, _USER_DEFINED)
        ends |= {id for id, text in enumerate(self.tokens) if text in _ENDS and self.kinds[id] in control}
        found: dict[str, object] = {"eos_token_id": sorted(ends)}
        if self.begin is not None:
            found["bos_token_id"] = self.begin
        return found

    def _byte_level(self) -> dict[str, object]:
        words = words_of(_words_name(self.file))
        merges = [str(merge) for merge in self.file.values("tokenizer.ggml.merges")]
        # A merge is two tokens with a space between them; a space within one is written as another letter there.
        pairs = [(first, rest) for first, _, rest in (merge[1:].partition(" ") for merge in merges)]
        pairs = [(merge[:1] + first, rest) for merge, (first, rest) in zip(merges, pairs, strict=True)]
        # Tokens that pad the vocabulary stand for nothing.
        vocab = {text: id for id, text in enumerate(self.tokens) if self.kinds[id] != _UNUSED}
        if any(first not in vocab or rest not in vocab or first + rest not in vocab for first, rest in pairs):
            raise ModelError(f"{self.file.files[0].name} has merges of tokens that are not there")
        steps: list[Step] = list(words.steps)
        return {
            "normalizer": words.normalizer,
            "pre_tokenizer": steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps},
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": _bpe(vocab, pairs, whole=words.whole),
        }

    def _pieces(self) -> dict[str, object]:
        prefixed = self.file.flag("tokenizer.ggml.add_space_prefix", True)
        normalizers: list[Step] = [{"type": "Prepend", "prepend": _SPACE}] if prefixed else []
        normalizers.append({"type": "Replace", "pattern": {"String": " "}, "content": _SPACE})
        decoders: list[Step] = [
            {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ]
        if prefixed:
            decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
        vocab = {text: id for id, text in enumerate(self.tokens)}
        unknown = _id(self.file, "unknown", self.tokens)
        unknown = self.kinds.index(_UNKNOWN) if unknown is None and _UNKNOWN in self.kinds else unknown
        return {
            "normalizer": {"type": "Sequence", "normalizers": normalizers},
            "pre_tokenizer": None,
            "decoder": {"type": "Sequence", "decoders": decoders},
            "model": _bpe(vocab, self._merges(vocab), unknown=None if unknown is None else self.tokens[unknown]),
        }

    def _merges(self, vocab: Mapping[str, int]) -> list[tuple[str, str]]:
        """Every way to make a piece of two, the best piece first, as transformers' SentencePieceExtractor does."""
        scores = [float(score) for score in self.file.values("tokenizer.ggml.scores")]
        if len(scores) != len(self.tokens):
            raise ModelError(f"{self.file.files[0].name} has {len(scores)} scores for {len(self.tokens)} tokens")
        normal = {text for text, kind in zip(self.tokens, self.kinds, strict=True) if kind in (_NORMAL, _UNUSED)}
        merges: list[tuple[float, str, str]] = []
        for text in self.tokens:
            if text in normal:
                cuts = ((text[:at], text[at:]) for at in range(1, len(text)))
                found = [cut for cut in cuts if cut[0] in normal and cut[1] in normal]
                found.sort(key=lambda cut: (vocab[cut[0]], vocab[cut[1]]))
                merges += [(scores[vocab[text]], *cut) for cut in found]
        merges.sort(key=lambda merge: (merge[0], len(merge[1]), len(merge[2])), reverse=True)
        return [(first, rest) for _, first, rest in merges]

    def _post_processor(self) -> Step | None:
        if self.begin is None and self.end is None:
            return None
        text: list[Step] = [{"Sequence": {"id": "A", "type_id": 0}}]
        second: list[Step] = [{"Sequence": {"id": "B", "type_id": 1}}]
        specials: dict[str, object] = {}
        for id in (self.begin, self.end):
            if id is not None:
                token = self.tokens[id]
                specials[token] = {"id": token, "ids": [id], "tokens": [token]}
        before = [] if self.begin is None else [{"SpecialToken": {"id": self.tokens[self.begin], "type_id": 0}}]
        after = [] if self.end is None else [{"SpecialToken": {"id": self.tokens[self.end], "type_id": 0}}]
        single = [*before, *text, *after]
        return {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, *before, *second, *after],
            "special_tokens": specials,
        }


def _bpe(
    vocab: Mapping[str, int], merges: list[tuple[str, str]], *, whole: bool = False, unknown: str | None = None
) -> dict[str, object]:
    """``unknown`` names the token for what is in none; bytes are tried before."""
    pieces = unknown is not None
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": unknown,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": pieces,
        "byte_fallback": pieces,
        "ignore_merges": whole,
        "vocab": vocab,
        "merges": merges,
    }


def _model(file: GgufFile) -> str:
    model = file.text("tokenizer.ggml.model")
    if model not in ("gpt2", "llama"):
        raise ModelError(f"unknown tokenizer {model!r} in {file.files[0].name}", hint="known: gpt2, llama")
    return model


def _words_name(file: GgufFile) -> str:
    return file.text("tokenizer.ggml.pre", "")


def _id(file: GgufFile, key: str, tokens: list[str]) -> int | None:
    id = file.whole(f"tokenizer.ggml.{key}_token_id", -1)
    return id if 0 <= id < len(tokens) else None
