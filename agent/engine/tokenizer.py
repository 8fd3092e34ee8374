"""Text to ids and back, by the tokenizer.json of a model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers

from agent.engine.tokenizer_files import begin_id, end_ids, named_tokens, read_json, token_string
from agent.engine.tokenizer_frame import Frame, frame_of
from agent.engine.tokenizer_text import TextStream, alphabet_of, bytes_of, unknown_id
from agent.errors import ModelError

# Markup of tool calls and reasoning. Some models have these as special tokens; their text must reach the parser.
MARKUP = frozenset(
    {"<think>", "</think>", "[THINK]", "[/THINK]", "<tool_call>", "</tool_call>", "<|python_tag|>"}
    | {"[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"}
)

# Fill-in-the-middle: what stands before the prefix, between, and after the suffix. The first that exists is used.
_INFILL = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen2.5-Coder, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek-Coder
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # Code Llama
)

_Steps = tuple[tokenizers.normalizers.Normalizer | None, tokenizers.pre_tokenizers.PreTokenizer | None]

# A text with more characters a token than this is read in pieces before it is read as a whole: it may be hostile.
_USUAL_CHARACTERS = 8
_PIECE = 1 << 16  # characters
_SURELY = 4  # times too many: cutting a text into pieces, and marks in it, make more tokens, but never so many


class Tokenizer:
    """The tokenizer of one model. Immutable once loaded: safe to share between threads."""

    def __init__(self, folder: Path, vocab_size: int) -> None:
        """Use ``load``, which reads better."""
        files = read_json(folder / "tokenizer.json", required=True)
        config = read_json(folder / "tokenizer_config.json")
        self._backend = _backend((folder / "tokenizer.json").read_text(encoding="utf-8"))
        _add_missing(self._backend, config.get("added_tokens_decoder"))
        self.vocab_size = vocab_size
        self._tokens: dict[int, str] = {id: text for text, id in self._backend.get_vocab(True).items()}
        if not self._tokens:
            raise ModelError("the vocabulary of tokenizer.json is empty")
        if max(self._tokens) >= vocab_size:
            raise ModelError(
                f"the tokenizer is not this model's: it has {max(self._tokens) + 1} tokens, "
                f"and the weights know {vocab_size} (vocab_size)",
                hint="pull the model again, or put the tokenizer.json beside the weights that came with them",
            )
        self._added = dict(self._backend.get_added_tokens_decoder())
        self._alphabet, self._strip = alphabet_of(files)
        self._bytes: dict[int, bytes] = {}
        self.named_tokens = named_tokens(folder, config)
        self.bos_id = self._id(self.named_tokens.get("bos_token"))
        if self.bos_id is None and "bos_token" not in config:
            self.bos_id = begin_id(folder)
        eos = self._id(self.named_tokens.get("eos_token"))
        ends = {*end_ids(folder), *([] if eos is None else [eos])}
        self.eos_ids: frozenset[int] = frozenset(id for id in ends if 0 <= id < vocab_size)
        self._hidden = frozenset(id for id, t in self._added.items() if t.special and t.content not in MARKUP)
        # Runs of white space that are added tokens (Gemma, Phi) are ordinary text; all others steer the model.
        self.control_ids = frozenset(id for id, token in self._added.items() if not token.content.isspace())
        # The token for what is in no vocabulary stands in text, too.
        self._steering = self.control_ids - {unknown_id(files)}
        self.control_pattern = _any_of(self._added[id].content for id in self.control_ids)
        texts = {self._added[id].content for id in self.control_ids}
        self.control_beginnings = tuple({text[:length] for text in texts for length in range(1, len(text))} - texts)
        self._added_ids = {token.content: id for id, token in self._added.items()}
        self._added_pattern = _any_of(self._added_ids)
        self._spaces_pattern = re.compile(f"({_any_of(text for text in self._added_ids if text.isspace()).pattern})")
        # Without added tokens, by what is done to a text before the model sees it.
        whole = (self._backend.normalizer, self._backend.pre_tokenizer)
        self._at_start = self._plain(whole)
        self._after_special = self._plain(_variant(files, {"first": "never"}) or whole)
        self._within = self._plain(_variant(files, {"first": "never", "always": "never"}, prepend=False) or whole)

    @classmethod
    def load(cls, folder: Path, vocab_size: int) -> Tokenizer:
        """Read the tokenizer of a model's folder. ``vocab_size`` is how many rows of logits the model has.

        Raises ModelError when files are missing or broken, or when the tokenizer knows ids that the model does not.
        """
        return cls(folder, vocab_size)

    # --- text to ids --------------------------------------------------------------------------------------------

    def encode(self, text: str, special: bool = True) -> list[int]:
        """The ids of a raw prompt.

        With ``special``, the text of special tokens becomes those tokens, and begin and end of text are added as the
        model's own tokenizer does. Without, nothing is added and nothing is special: ``<|im_end|>`` is ten characters.
        """
        if not special:
            return self._encode_plain(_encodable(text), first=True)
        return _ids(self._backend, _encodable(text), special=True)

    def outgrows(self, text: str, most: int) -> bool:
        """Whether a long text has surely more than ``most`` tokens, told without reading much more of it than that.

        False where it has not, or not by far: its ids say then how many there are.
        """
        if len(text) <= most * _USUAL_CHARACTERS:
            return False
        count = 0
        for start in range(0, len(text), _PIECE):
            count += len(_ids(self._backend, _encodable(text[start : start + _PIECE])))
            if count > most * _SURELY:
                return True
        return False

    def encode_rendered(self, text: str) -> list[int]:
        """The ids of what a chat template wrote: special tokens count, and none is added that it did not write.

        A special token is one where its very text stands, not where a normaliser would make it of something else.
        """
        text = _encodable(text)
        ids = _ids(self._backend, text)
        if sum(map(self._steering.__contains__, ids)) <= sum(1 for _ in self.control_pattern.finditer(text)):
            return ids
        return self._encode_spans(text, re.compile(f"((?!))|({self._added_pattern.pattern})"))

    def encode_marked(self, text: str, start: str, end: str) -> list[int]:
        """As ``encode_rendered``, but what stands between the characters ``start`` and ``end`` is plain text.

        The marks themselves vanish, lone ones, too.
        """
        marks = re.compile(f"{start}([^{start}{end}]*){end}|[{start}{end}]|({self._added_pattern.pattern})", re.DOTALL)
        return self._encode_spans(_encodable(text), marks)

    def _encode_spans(self, text: str, marks: re.Pattern[str]) -> list[int]:
        """Plain text but for the added tokens in the second group of ``marks``; of other matches the first stays."""
        ids: list[int] = []
        span, at, first = "", 0, True
        for match in marks.finditer(text):
            span += text[at : match.start()] + (match[1] or "")
            at = match.end()
            if match[2] is None:
                continue
            id = self._added_ids[match[2]]
            token = self._added[id]
            ids += self._encode_plain(span.rstrip() if token.lstrip else span, first)
            ids.append(id)
            span, first = "", False
            if token.rstrip:
                at += len(text[at:]) - len(text[at:].lstrip())
        return ids + self._encode_plain(span + text[at:], first)

    def encode_within(self, text: str) -> list[int]:
        """The ids of plain text that stands within other text: no space is put before it."""
        return self._run_model(_encodable(text), self._within)

    def frame(self) -> Frame:
        """What is put around a text, and around a pair of texts. Raises ModelError where that cannot be told."""
        return frame_of(self._backend)

    def infill(self, prefix: str, suffix: str) -> list[int] | None:
        """The prompt that asks for what belongs between two texts; None when the model was not trained for that."""
        for names in _INFILL:
            ids = [self._backend.token_to_id(name) for name in names]
            if None not in ids:
                before, between, after = (id for id in ids if id is not None)
                begin = self.encode("")[:1] if self.bos_id in self.encode("") else []
                return [
                    *begin,
                    before,
                    *self._encode_plain(_encodable(prefix), first=False),
                    between,
                    *self._encode_plain(_encodable(suffix), first=False),
                    after,
                ]
        return None

    def _encode_plain(self, text: str, first: bool) -> list[int]:
        """Text that holds no special token, whatever it looks like. ``first``: it opens the prompt."""
        if first and not self.control_pattern.search(text):
            ids = _ids(self._backend, text)
            if self._steering.isdisjoint(ids):
                return ids
        ids = self._run_model(text, self._at_start if first else self._after_special)
        if self._steering.isdisjoint(ids):
            return ids
        # A vocabulary may give a whole word its id without any merge. Cut in two, the special text cannot be found.
        ids = []
        for part in re.split(f"({self.control_pattern.pattern})", text):
            for piece in (part[:1], part[1:]) if self.control_pattern.fullmatch(part) else (part,):
                ids += self._run_model(piece, self._at_start if first and not ids else self._after_special)
        if self._steering.isdisjoint(ids):
            return ids
        # Text that a normaliser makes the special text of: no single character becomes a special token.
        return [id for character in text for id in self._run_model(character, self._within)]

    def _plain(self, steps: _Steps) -> tokenizers.Tokenizer:
        """The same model without added tokens."""
        backend = tokenizers.Tokenizer(self._backend.model)  # shares it
        if steps[0] is not None:
            backend.normalizer = steps[0]
        if steps[1] is not None:
            backend.pre_tokenizer = steps[1]
        return backend

    def _run_model(self, text: str, backend: tokenizers.Tokenizer) -> list[int]:
        """The ids of text in which nothing is an added token but white space; ``backend`` is for how it begins."""
        ids: list[int] = []
        for index, part in enumerate(self._spaces_pattern.split(text)):
            if index % 2:
                ids.append(self._added_ids[part])
            elif part:
                ids += _ids(backend if index == 0 else self._after_special, part)
        return ids

    def _id(self, token: object) -> int | None:
        text = token_string(token)
        return None if text is None else self._backend.token_to_id(text)

    # --- ids to text --------------------------------------------------------------------------------------------

    def stream(self, prompt_tail: Sequence[int] = ()) -> TextStream:
        """A stream for one answer.

        Pass the last tokens of a raw prompt as ``prompt_tail``: the space before the first new word then stays, as it
        must when text goes on. The answer to a chat starts afresh: pass nothing.
        """
        goes_on = bool(prompt_tail) and prompt_tail[-1] not in self._added
        return TextStream(self._visible_bytes, strip=self._strip and not goes_on)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, without special tokens; the same as a stream of them gives."""
        stream = self.stream()
        return "".join([*map(stream.push, ids), stream.flush()])

    def token_text(self, id: int) -> str:
        """One token as text, U+FFFD for parts of characters; special tokens as they are written."""
        return self.token_bytes(id).decode("utf-8", "replace")

    def token_bytes(self, id: int) -> bytes:
        """The bytes of one token; none for ids beyond the tokenizer's vocabulary, which models may pad."""
        found = self._bytes.get(id)
        if found is None:
            found = self._bytes[id] = self._read_bytes(id)
        return found

    def added_id(self, text: str) -> int | None:
        """The id of an added token, special or not; None when the text is no token of its own."""
        return self._added_ids.get(text)

    def _visible_bytes(self, id: int) -> bytes:
        return b"" if id in self._hidden else self.token_bytes(id)

    def _read_bytes(self, id: int) -> bytes:
        text = self._tokens.get(id)
        if text is None:
            return b""
        if id in self._added:
            return (text.replace("▁", " ") if self._alphabet == "pieces" else text).encode()
        return bytes_of(text, self._alphabet)


def _ids(backend: tokenizers.Tokenizer, text: str, *, special: bool = False) -> list[int]:
    """By the call for batches: the other one keeps all other threads of the process waiting, for seconds perhaps."""
    return list(backend.encode_batch_fast([text], add_special_tokens=special)[0].ids)


def _backend(text: str) -> tokenizers.Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_str(text)
        backend.no_padding()
        backend.no_truncation()
        return backend
    except Exception as error:  # noqa: BLE001 - the library raises nothing narrower for a broken file
        reason = str(error)
    raise ModelError(f"tokenizer.json is broken: {reason}")


def _add_missing(backend: tokenizers.Tokenizer, listed: object) -> None:
    """Tokens that only tokenizer_config.json lists, where the next free id is the one it gives them."""
    if not isinstance(listed, dict):
        return
    for id, token in sorted((int(key), value) for key, value in listed.items() if str(key).isdecimal()):
        text = token_string(token)
        if text and backend.token_to_id(text) is None and backend.get_vocab_size(True) == id:
            special = bool(token.get("special"))
            added = tokenizers.AddedToken(text, special=special, normalized=bool(token.get("normalized", not special)))
            (backend.add_special_tokens if special else backend.add_tokens)([added])


def _variant(files: dict[str, object], schemes: dict[str, str], *, prepend: bool = True) -> _Steps | None:
    """Normaliser and pre-tokenizer that put fewer spaces before a text than those of the file; None when they do not.

    ``schemes`` says how Metaspace's own are changed; ``prepend`` False leaves out all other ways, too.
    """
    before = json.dumps([files.get("normalizer"), files.get("pre_tokenizer")])
    after = before
    for old, new in schemes.items():
        after = after.replace(f'"prepend_scheme": "{old}"', f'"prepend_scheme": "{new}"')
    if not prepend:
        after = after.replace('"add_prefix_space": true', '"add_prefix_space": false')
        after = re.sub(r'\{"type": "Prepend", "prepend": "[^"]*"\}', '{"type": "Sequence", "normalizers": []}', after)
    if after == before:
        return None
    normalizer, pre_tokenizer = json.loads(after)
    empty = {"version": "1.0", "added_tokens": [], "normalizer": normalizer, "pre_tokenizer": pre_tokenizer}
    model = {"type": "WordLevel", "vocab": {}, "unk_token": ""}
    backend = _backend(json.dumps({**empty, "post_processor": None, "decoder": None, "model": model}))
    return backend.normalizer, backend.pre_tokenizer


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Matches the longest of the texts that stands at a place; nothing when there are none."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or r"(?!)")


def _encodable(text: str) -> str:
    """Text with lone surrogates, which JSON can carry and UTF-8 cannot, replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
