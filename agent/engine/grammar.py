"""Structured output: which tokens may come next so that the whole answer matches a grammar. By llguidance."""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict

import llguidance
import numpy as np
from numpy.typing import NDArray

from agent.engine.base import Grammar
from agent.engine.tokenizer import Tokenizer
from agent.engine.tool_formats import JSON_OPTIONS
from agent.errors import EngineError, RequestError, ThoxError

Mask = NDArray[np.bool_]  # [vocab_size]; True: the token may come next

_KEPT = 64  # compiled grammars
_LIMITS = llguidance.LLParserLimits(verbose_errors=False)  # what the parser holds is nothing for a client to read
_FIELDS = {
    "json_object": "response_format",
    "json_schema": "response_format",
    "regex": "guided_regex",
    "lark": "grammar",
}

_RULES = {  # what a grammar of each kind is written by
    "json_object": "the supported keywords of JSON Schema",
    "json_schema": "the supported keywords of JSON Schema",
    "regex": "the supported syntax of regular expressions (that of Rust's regex, without look-around)",
    "lark": "the supported syntax of Lark grammars",
}

_OWN_PLACE = re.compile(r"^at \d+\(\d+\): (failed to compile JSON schema: )?")
_OWN_LINE = re.compile(r" *(\d+ \||\^$|\.\.\.)")


class Matcher:
    """Follows one answer through its grammar. For one thread at a time."""

    def __init__(self, compiled: llguidance.LLMatcher, vocab_size: int) -> None:
        self._matcher = compiled
        self._vocab_size = vocab_size

    def mask(self) -> Mask:
        """Which tokens may come next, [vocab_size] bool. The end-of-text tokens are among them once the answer may end.

        Use it as ``logits[~mask] = -inf``. Some token is always allowed.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise self._broken("the grammar failed")
        allowed: Mask = np.unpackbits(bits, count=self._vocab_size, bitorder="little").view(np.bool_)
        return allowed

    def accept(self, token: int) -> None:
        """Go on with the token that was chosen.

        Raises EngineError when the mask did not allow it, RequestError when the grammar grew too complex.
        """
        if not self._matcher.consume_token(token):
            raise self._broken(f"token {token} does not fit the grammar")

    def _broken(self, what: str) -> ThoxError:
        error = self._matcher.get_error()
        if error.startswith("lexer error"):  # its own states ran over the library's bounds: the grammar's fault
            return RequestError(
                f"the grammar grew too complex: {error.splitlines()[0]}", hint="use smaller counts of repetition"
            )
        return EngineError(f"{what}: {error}")

    @property
    def finished(self) -> bool:
        """The answer is complete and nothing but its end may follow."""
        return bool(self._matcher.is_stopped())


class _Vocabulary:
    """The tokenizer as llguidance asks for it.

    Built from tokenizer.json, llguidance would let text such as ``<tool_call>`` inside a grammar force that special
    token, and then refuse it. Here text is always plain; a grammar that wants the token names its id.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = min(tokenizer.eos_ids, default=0)
        self.bos_token_id = tokenizer.bos_id
        self.tokens = [tokenizer.token_bytes(id) for id in range(tokenizer.vocab_size)]
        self.special_token_ids = sorted(tokenizer.control_ids)

        self._plain = {data: id for id, data in enumerate(self.tokens) if data and id not in tokenizer.control_ids}
        self._longest = max(map(len, self._plain), default=1)

    def __call__(self, text: str) -> list[int]:
        """Ids whose bytes are the text exactly, as the model would write them where it can."""
        data = text.encode()
        ids = self._tokenizer.encode_within(text)
        if b"".join(self.tokens[id] for id in ids) == data and not self._tokenizer.control_ids.intersection(ids):
            return ids
        # A normaliser changed the text, or it looks like a special token: the longest tokens that fit, one by one.
        ids, at = [], 0
        while at < len(data):
            size = next((n for n in range(self._longest, 0, -1) if data[at : at + n] in self._plain), 0)
            if not size:
                break
            ids.append(self._plain[data[at : at + size]])
            at += size
        return ids


class Grammars:
    """Compiles grammars for one tokenizer and keeps the latest. Safe to call from many threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._source = tokenizer
        self._lock = threading.Lock()
        self._tokenizer: llguidance.LLTokenizer | None = None  # built at the first use: it takes a second
        self._compiled: OrderedDict[Grammar, llguidance.LLMatcher] = OrderedDict()

    def matcher(self, grammar: Grammar, param: str | None = None) -> Matcher:
        """A fresh matcher at the start of the grammar.

        Raises RequestError for a grammar that is malformed or asks for what is not supported. It names ``param``, by
        default the field of a request that such a grammar comes from; pass ``tools`` for one made of tools.
        """
        param = param or _FIELDS[grammar.kind]
        with self._lock:
            compiled = self._compiled.get(grammar)
            if self._tokenizer is None:
                wrapper = llguidance.TokenizerWrapper(_Vocabulary(self._source))
                self._tokenizer = llguidance.LLTokenizer(wrapper, eos_token=sorted(self._source.eos_ids) or None)
            tokenizer = self._tokenizer
        if compiled is None:  # a large one takes seconds, and keeps nobody else waiting
            compiled = self._compile(tokenizer, grammar, param)
        with self._lock:
            compiled = self._compiled.setdefault(grammar, compiled)
            self._compiled.move_to_end(grammar)
            if len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
            return Matcher(compiled.deep_copy(), self._source.vocab_size)

    @staticmethod
    def _compile(tokenizer: llguidance.LLTokenizer, grammar: Grammar, param: str) -> llguidance.LLMatcher:
        compiled = llguidance.LLMatcher(tokenizer, _internal(grammar, param), log_level=0, limits=_LIMITS)
        compiled.compute_bitmask()  # what is too complex shows at the first mask, here and not in the engine's thread
        if compiled.is_error():
            raise RequestError(
                f"this grammar cannot be used: {_reason(compiled.get_error(), grammar)}",
                param=param,
                hint=f"see {_RULES[grammar.kind]} in the documentation of llguidance",
            )
        return compiled


def _reason(error: str, grammar: Grammar) -> str:
    """What llguidance says, without what is no client's: its own marks, and lines of a grammar that we wrote."""
    text = error.split("<non-verbose/>")[0].strip()
    if grammar.kind == "lark" and "x-guidance" not in grammar.text:
        return text
    first, *more = text.splitlines()
    shown = [line for line in more if not _OWN_LINE.match(line)]
    return "\n".join([_OWN_PLACE.sub("", first), *shown]).strip() or "it is not understood"


def _internal(grammar: Grammar, param: str) -> str:
    """The grammar as llguidance takes it."""
    if grammar.kind == "regex":
        return llguidance.LLMatcher.grammar_from_regex(grammar.text)
    if grammar.kind == "lark":
        return llguidance.LLMatcher.grammar_from_lark(grammar.text)
    schema: dict[str, object] = {"type": "object"}
    if grammar.kind == "json_schema":
        try:
            read = json.loads(grammar.text)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"the schema is not JSON: {error}", param=param) from error
        if not isinstance(read, dict):
            raise RequestError("a JSON Schema is an object", param=param)
        schema = read
    return llguidance.LLMatcher.grammar_from_json_schema({**schema, "x-guidance": JSON_OPTIONS})
