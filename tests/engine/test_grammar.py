"""Grammars as masks: a sampler that picks any allowed token at random writes nothing but what the grammar says."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest
from text_models import FAMILIES, VOCAB, WEATHER, qwen

from agent.engine.base import Chat, Grammar
from agent.engine.chat import ChatTemplate
from agent.engine.grammar import Grammars
from agent.engine.tokenizer import Tokenizer
from agent.errors import EngineError, RequestError

SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": -5, "maximum": 9}}, "required": ["a"]},
    {"type": "object", "properties": {"s": {"type": "string", "maxLength": 5}}, "additionalProperties": False},
    {"enum": ["red", "green", 3, None, {"<tool_call>": "<|im_end|>"}]},
    {"const": {"text": "<|im_end|> <tool_call> ü 日本"}},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    {"type": "array", "prefixItems": [{"type": "null"}, {"type": "boolean"}], "items": False, "minItems": 2},
    {"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": "^[a-f]{3}$"}]},
    {"type": "string", "format": "ipv4"},
    {"type": "string", "format": "uuid"},
    {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    {"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}}},
    {
        "type": "object",
        "properties": {"kind": {"const": "x"}, "list": {"type": "array", "items": {"type": "integer"}, "maxItems": 2}},
        "required": ["kind", "list"],
        "additionalProperties": False,
    },
    {
        "oneOf": [
            {"type": "object", "properties": {"k": {"const": "a"}}, "required": ["k"]},
            {"type": "object", "properties": {"k": {"const": "b"}, "n": {"type": "null"}}, "required": ["k", "n"]},
        ]
    },
    {"type": ["object", "null"], "properties": {"p": {"type": "string", "minLength": 1, "maxLength": 2}}},
]


@pytest.fixture(scope="module", params=["qwen", "mistral"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(FAMILIES[request.param](tmp_path_factory.mktemp(request.param)), VOCAB)


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer)


def written(grammars: Grammars, tokenizer: Tokenizer, grammar: Grammar, seed: int, hurry: int = 60) -> str:
    """What a random sampler writes. After ``hurry`` tokens it ends where it may, and prefers brackets and quotes."""
    random = np.random.default_rng(seed)
    matcher = grammars.matcher(grammar)
    stream = tokenizer.stream()
    text = ""
    closing = {id for char in '}]"' for id in tokenizer.encode(char, special=False)}
    for step in range(1500):
        mask = matcher.mask()
        assert mask.shape == (VOCAB,) and mask.dtype == np.bool_ and mask.any()
        choices = [int(id) for id in np.flatnonzero(mask)]
        if matcher.finished:
            assert set(choices) <= tokenizer.eos_ids
            return text + stream.flush()
        if step > hurry:
            choices = [id for id in choices if id in closing or id in tokenizer.eos_ids] or choices
        token = int(random.choice(choices))
        if token in tokenizer.eos_ids:
            return text + stream.flush()
        matcher.accept(token)
        text += stream.push(token)
    raise AssertionError(f"no end: {text[:200]}")


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:40])
def test_json_follows_its_schema(grammars: Grammars, tokenizer: Tokenizer, schema: dict[str, Any]) -> None:
    for seed in range(3):
        text = written(grammars, tokenizer, Grammar("json_schema", json.dumps(schema)), seed)
        jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.FormatChecker())


def test_json_is_laid_out_as_models_do_and_never_padded(grammars: Grammars, tokenizer: Tokenizer) -> None:
    value = {"a": [1, 2], "b": {"c": "x y"}}
    schema = {"type": "object", "properties": {"a": {"type": "array"}, "b": {"type": "object"}}}

    def fits(text: str) -> bool:
        matcher = grammars.matcher(Grammar("json_schema", json.dumps(schema)))
        for id in tokenizer.encode_within(text):
            if not matcher.mask()[id]:
                return False
            matcher.accept(id)
        return True

    for indent in (None, 2, 4):
        assert fits(json.dumps(value, indent=indent))
    assert fits(json.dumps(value, separators=(",", ":"))) and fits('{ "a": [ 1, 2 ], "b": { } }')
    for padding in ("  ", "\n\n", " \n", "\n" + " " * 41):
        assert not fits('{"a":' + padding + "[]}")


def test_a_grammar_that_is_slow_to_compile_keeps_no_other_waiting(tokenizer: Tokenizer) -> None:
    grammars = Grammars(tokenizer)
    grammars.matcher(Grammar("json_object"))  # builds what all share
    slow = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(2000)}}

    def compile_it() -> None:
        with contextlib.suppress(RequestError):  # it may be more than the library takes, found out as late
            grammars.matcher(Grammar("json_schema", json.dumps(slow)))

    thread = threading.Thread(target=compile_it)
    thread.start()
    quick = [grammars.matcher(Grammar("regex", f"a{{{n}}}")) for n in range(1, 6)]
    assert len(quick) == 5 and thread.is_alive()
    thread.join()


def test_a_json_object_is_an_object(grammars: Grammars, tokenizer: Tokenizer) -> None:
    for seed in range(5):
        assert isinstance(json.loads(written(grammars, tokenizer, Grammar("json_object"), seed)), dict)


def test_a_regex_and_a_lark_grammar_are_followed(grammars: Grammars, tokenizer: Tokenizer) -> None:
    for seed in range(3):
        assert re.fullmatch("(ab|é){2,4}c", written(grammars, tokenizer, Grammar("regex", "(ab|é){2,4}c"), seed))
        lark = Grammar("lark", 'start: "yes" | "no" WORD\nWORD: /[x-z]{2}/')
        assert re.fullmatch("yes|no[x-z]{2}", written(grammars, tokenizer, lark, seed))


@pytest.mark.parametrize(
    ("grammar", "param"),
    [
        (Grammar("json_schema", "{"), "response_format"),
        (Grammar("json_schema", "[]"), "response_format"),
        (Grammar("json_schema", '{"type": "nonsense"}'), "response_format"),
        (Grammar("json_schema", '{"if": {}, "then": {}}'), "response_format"),
        (Grammar("json_schema", "[" * 100_000), "response_format"),
        (Grammar("regex", "(a"), "guided_regex"),
        (Grammar("regex", "(?=a)b"), "guided_regex"),
        (Grammar("lark", "nothing here"), "grammar"),
        (Grammar("lark", "start: missing"), "grammar"),
    ],
)
def test_a_grammar_that_cannot_be_is_the_requests_fault(grammars: Grammars, grammar: Grammar, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        grammars.matcher(grammar)
    assert caught.value.param == param and len(caught.value.message) > 20


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar("json_schema", '{"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}'),
        Grammar("json_schema", '{"type": "nonsense"}'),
        Grammar("lark", 'start: args_0\nargs_0: %json {"type": "nonsense", "x-guidance": {}}'),
        Grammar("regex", "(a"),
    ],
)
def test_an_error_says_nothing_of_what_the_client_has_not_written(grammars: Grammars, grammar: Grammar) -> None:
    with pytest.raises(RequestError) as caught:
        grammars.matcher(grammar)
    assert not re.search(r"verbose|guidance|args_0|start:|at \d+\(", caught.value.message), caught.value.message


@pytest.mark.parametrize(
    ("grammar", "rules"),
    [
        (Grammar("json_schema", '{"if": {}, "then": {}}'), "JSON Schema"),
        (Grammar("regex", "(?=a)b"), "regular expressions"),
        (Grammar("lark", "start: missing"), "Lark"),
    ],
)
def test_the_hint_names_the_rules_of_the_grammars_own_kind(grammars: Grammars, grammar: Grammar, rules: str) -> None:
    with pytest.raises(RequestError) as caught:
        grammars.matcher(grammar)
    assert rules in (caught.value.hint or "")
    with pytest.raises(RequestError) as caught:
        grammars.matcher(grammar, "tools")
    assert caught.value.param == "tools"


def test_a_token_that_does_not_fit_is_refused(grammars: Grammars, tokenizer: Tokenizer) -> None:
    matcher = grammars.matcher(Grammar("regex", "abc"))
    with pytest.raises(EngineError, match="does not fit"):
        matcher.accept(tokenizer.encode("Z", special=False)[-1])


def test_a_grammar_that_grows_too_complex_on_its_way_is_the_requests_fault(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    matcher = grammars.matcher(Grammar("regex", "(a{1000}){1000}"))
    with pytest.raises(RequestError, match="too complex") as caught:
        matcher.accept(tokenizer.encode_within("a")[0])
    assert len(caught.value.message) < 200  # no dump of what the parser holds


def test_matchers_of_one_grammar_do_not_share_their_place(grammars: Grammars, tokenizer: Tokenizer) -> None:
    first, second = (grammars.matcher(Grammar("regex", "[a-c]x")) for _ in range(2))
    before = second.mask()
    first.accept(tokenizer.encode_within("a")[0])
    assert np.array_equal(second.mask(), before) and not np.array_equal(first.mask(), before)


def test_grammars_may_be_compiled_by_many_threads(grammars: Grammars, tokenizer: Tokenizer) -> None:
    texts: list[str] = []

    def one(seed: int) -> None:
        texts.append(written(grammars, tokenizer, Grammar("regex", f"[a-d]{{{seed + 1}}}"), seed))

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(map(len, texts)) == list(range(1, 9))


SEARCH = {"type": "function", "function": {"name": "search"}}
SAID = ({"role": "user", "content": "x"},)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("choice", ["required", "function:get_weather"])
def test_a_forced_call_is_one_the_parser_reads_and_the_schema_allows(tmp_path: Path, family: str, choice: str) -> None:
    folder = FAMILIES[family](tmp_path)
    tokenizer = Tokenizer.load(folder, VOCAB)
    template = ChatTemplate.load(folder, tokenizer)
    grammars = Grammars(tokenizer)
    seen: set[str | None] = set()
    for seed in range(6):
        chat = Chat(SAID, (WEATHER, SEARCH), choice, parallel_tool_calls=False)
        grammar = template.grammar(chat)
        assert grammar is not None
        text = written(grammars, tokenizer, grammar, seed)
        parser = template.parser(chat, template.encode(chat))
        pieces = parser.feed(text) + parser.end()
        calls = [call for piece in pieces for call in piece.tool_calls]
        assert calls and not any(piece.text or piece.reasoning for piece in pieces), text
        assert {call.index for call in calls} == {0}
        seen.add(calls[0].name)
        arguments = json.loads("".join(call.arguments for call in calls))
        if calls[0].name == "get_weather":
            jsonschema.validate(arguments, WEATHER["function"]["parameters"])  # type: ignore[index]
        else:
            assert arguments == {}
    assert seen == ({"get_weather", "search"} if choice == "required" else {"get_weather"})


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object", "properties": {}}])
def test_a_tool_that_names_no_parameters_is_called_with_none(tmp_path: Path, parameters: object) -> None:
    folder = qwen(tmp_path)
    tokenizer = Tokenizer.load(folder, VOCAB)
    template = ChatTemplate.load(folder, tokenizer)
    tool = {"type": "function", "function": {"name": "search", "parameters": parameters}}
    grammar = template.grammar(Chat(SAID, (tool,), "required", parallel_tool_calls=False))
    assert grammar is not None
    for seed in range(4):
        text = written(Grammars(tokenizer), tokenizer, grammar, seed)
        assert json.loads(text.removeprefix("<tool_call>").removesuffix("</tool_call>"))["arguments"] == {}


def test_a_model_that_may_choose_has_no_grammar_and_a_tool_that_is_not_there_is_refused(tmp_path: Path) -> None:
    folder = qwen(tmp_path)
    template = ChatTemplate.load(folder, Tokenizer.load(folder, VOCAB))
    assert template.grammar(Chat(SAID, (WEATHER,))) is None
    assert template.grammar(Chat(SAID, (WEATHER,), "none")) is None
    for chat in (Chat(SAID, (WEATHER,), "function:other"), Chat(SAID, (), "required")):
        with pytest.raises(RequestError) as caught:
            template.grammar(chat)
        assert caught.value.param == "tool_choice"
