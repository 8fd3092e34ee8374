"""Answers taken apart: the formats of the families, cut anywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.engine.output import OutputParser
from agent.engine.reasoning import FORMATS
from agent.engine.tool_formats import HERMES, LLAMA, MISTRAL, MISTRAL_NAMED, ToolFormat

NAMES = frozenset({"f", "g", "get_weather"})
ALL = (HERMES, LLAMA, MISTRAL, MISTRAL_NAMED)
ARGS = '{"city": "Zü\\"rich}", "n": [1, {"a": null}], "s": "</tool_call>;[ARGS]"}'


def taken_apart(parser: OutputParser, parts: list[str]) -> tuple[str, str, list[tuple[str, str]]]:
    """Content, reasoning and calls; on the way, the rules that hold for every stream of pieces."""
    content = reasoning = ""
    calls: list[tuple[str, str]] = []
    for piece in [p for part in parts for p in parser.feed(part)] + parser.end():
        assert [bool(piece.text), bool(piece.reasoning), bool(piece.tool_calls)].count(True) == 1
        content += piece.text
        reasoning += piece.reasoning
        for call in piece.tool_calls:
            if call.index == len(calls):
                assert call.id is not None and re.fullmatch(r"call_[A-Za-z0-9]{24}", call.id)
                assert call.name
                calls.append((call.name, ""))
            else:
                assert call.id is None and call.name is None and call.index == len(calls) - 1
            calls[-1] = (calls[-1][0], calls[-1][1] + call.arguments)
    assert parser.saw_tool_call == bool(calls)
    return content, reasoning, calls


def parser_of(form: ToolFormat | None, options: Mapping[str, Any]) -> OutputParser:
    return OutputParser(form, NAMES, **options)


def whole(form: ToolFormat | None, text: str, **options: object) -> tuple[str, str, list[tuple[str, str]]]:
    """The parts of an answer, the same in one piece and letter by letter."""
    at_once = taken_apart(parser_of(form, options), [text])
    assert taken_apart(parser_of(form, options), list(text)) == at_once
    return at_once


CALLS = [
    (HERMES, f'<tool_call>\n{{"name": "f", "arguments": {ARGS}}}\n</tool_call>'),
    (HERMES, f'<tool_call>{{"arguments": {ARGS}, "name": "f"}}</tool_call>'),
    (HERMES, f'<tool_call>{{"id": 7, "name": "f", "more": [{{}}], "arguments": {ARGS}}}'),
    (HERMES, f'\n\n<tool_call>\n{{"name": "f", "arguments": {json.dumps(ARGS)}}}\n</tool_call>\n'),
    (LLAMA, f'{{"name": "f", "parameters": {ARGS}}}'),
    (LLAMA, f'\n {{"type": "function", "name": "f", "parameters": {ARGS}}}\n'),
    (LLAMA, f'<|python_tag|>{{"name": "f", "parameters": {ARGS}}}'),
    (MISTRAL, f'[TOOL_CALLS] [{{"name": "f", "arguments": {ARGS}}}]'),
    (MISTRAL, f'[TOOL_CALLS][{{"name": "f", "arguments": {ARGS}, "id": "abcdef123"}}]'),
    (MISTRAL, f'[TOOL_CALLS]{{"name": "f", "arguments": {ARGS}}}'),
    (MISTRAL_NAMED, f"[TOOL_CALLS]f[ARGS]{ARGS}"),
    (MISTRAL_NAMED, f"[TOOL_CALLS]f[CALL_ID]abcdef123[ARGS]{ARGS}"),
]


@pytest.mark.parametrize(("form", "text"), CALLS)
def test_a_call_is_found_with_its_arguments_to_the_letter(form: ToolFormat, text: str) -> None:
    assert whole(form, text) == ("", "", [("f", ARGS)])


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (HERMES, '<tool_call>{"name": "f", "arguments": {}}</tool_call>\n<tool_call>{"name": "g"}</tool_call>'),
        (LLAMA, '{"name": "f", "parameters": {}}; {"name": "g", "parameters": null}'),
        (LLAMA, '<|python_tag|>{"name": "f", "parameters": {}};{"name": "g", "parameters": ""}'),
        (MISTRAL, '[TOOL_CALLS] [{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]'),
        (MISTRAL_NAMED, "[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]g[ARGS]{}"),
    ],
)
def test_several_calls_come_in_order_and_one_alone_where_only_one_is_allowed(form: ToolFormat, text: str) -> None:
    content, _, calls = whole(form, text)
    assert content == "" and [name for name, _ in calls] == ["f", "g"] and calls[0][1] == "{}"
    alone = OutputParser(form, NAMES, parallel=False)
    assert not alone.done
    assert taken_apart(alone, [text]) == ("", "", [("f", "{}")]) and alone.done


def test_text_around_calls_is_content() -> None:
    text = 'Let me see.\n<tool_call>{"name": "f", "arguments": {}}</tool_call>\nDone.'
    assert whole(HERMES, text) == ("Let me see.\nDone.", "", [("f", "{}")])


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (HERMES, "<tool_call>oops</tool_call> well"),
        (HERMES, '<tool_call>{"name": 3, "arguments": {}}</tool_call>'),
        (HERMES, '<tool_call>{"arguments": {}}</tool_call>'),
        (HERMES, '<tool_call>{"name": "f", nothing'),
        (HERMES, '<tool_call>{"name": "f'),
        (HERMES, "I write <tool_cal"),
        (HERMES, "a < b  \n\n"),
        (LLAMA, '{"title": "f", "parameters": {}}'),
        (LLAMA, '{"name": "someone else", "parameters": {}}'),
        (LLAMA, '<|python_tag|>search.call(query="x")'),
        (LLAMA, 'As JSON: {"name": "f", "parameters": {}}'),
        (LLAMA, "{"),
        (MISTRAL, "[TOOL_CALLS] then we go"),
        (MISTRAL, "[TOOL_CALLS][]"),
        (MISTRAL_NAMED, "[TOOL_CALLS]f[ARGS]nothing"),
        (MISTRAL_NAMED, "[TOOL_CALLS]" + "f" * 300),
    ],
)
def test_what_is_no_call_is_content_to_the_letter(form: ToolFormat, text: str) -> None:
    assert whole(form, text) == (text, "", [])


def test_after_a_malformed_call_the_next_is_found() -> None:
    text = '<tool_call><tool_call>{"name": "f", "arguments": {}}</tool_call>'
    assert whole(HERMES, text) == ("<tool_call>", "", [("f", "{}")])


def test_a_call_cut_off_by_the_limit_keeps_what_came() -> None:
    assert whole(HERMES, '<tool_call>{"name": "f", "arguments": {"a": "b') == ("", "", [("f", '{"a": "b')])


def test_arguments_stream_as_they_come() -> None:
    parser = OutputParser(HERMES, NAMES)
    parser.feed('<tool_call>{"name": "f", "arguments": {"text": "')
    for word in ("once ", "upon ", "a "):
        assert [call.arguments for piece in parser.feed(word) for call in piece.tool_calls] == [word]


@pytest.mark.parametrize("form", [None, *ALL])
def test_content_waits_no_longer_than_it_may_be_markup(form: ToolFormat | None) -> None:
    parser = OutputParser(form, NAMES, reasoning=FORMATS[0])
    said = ""
    for char in "A sentence, with <b>, [x] and {y}; then more":
        said += "".join(piece.text for piece in parser.feed(char))
    assert said == "A sentence, with <b>, [x] and {y}; then more"


def test_reasoning_comes_first_and_its_marks_take_the_white_space_with_them() -> None:
    options = {"reasoning": FORMATS[0]}
    assert whole(None, "<think>\nHm.\n\nSo.\n</think>\n\nYes. <think>", **options) == ("Yes. <think>", "Hm.\n\nSo.", [])
    assert whole(None, " \n<think></think>Yes.", **options) == ("Yes.", "", [])
    assert whole(None, "<think>Hm", **options) == ("", "Hm", [])
    assert whole(None, "<thi", **options) == ("<thi", "", [])
    assert whole(None, "Yes <think>no</think>", **options) == ("Yes <think>no</think>", "", [])
    assert whole(None, "[THINK]Hm.[/THINK]Yes.", reasoning=FORMATS[1]) == ("Yes.", "Hm.", [])


def test_reasoning_that_the_prompt_opened_needs_no_mark() -> None:
    options = {"reasoning": FORMATS[0], "opened": True}
    assert whole(None, "Hm.\n</think>\n\nYes.", **options) == ("Yes.", "Hm.", [])
    assert whole(None, "<think>\nHm.</think>Yes.", **options) == ("Yes.", "Hm.", [])
    assert whole(None, "Hm", **options) == ("", "Hm", [])


def test_a_call_in_reasoning_is_a_thought_and_one_after_it_is_a_call() -> None:
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    assert whole(HERMES, f"<think>{call}</think>\n{call}", reasoning=FORMATS[0]) == ("", call, [("f", "{}")])


def test_whether_it_thinks_is_known_at_any_time() -> None:
    parser = OutputParser(reasoning=FORMATS[0])
    states = []
    for part in ("<think>", "Hm", "</think>", "Yes"):
        parser.feed(part)
        states.append(parser.reasoning)
    assert states == [True, True, False, False]


MARKS = ("<tool_call>", "</tool_call>", "<think>", "</think>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>")
OBJECTS = ('{"name": "f", "arguments": {"a": 1}}', '{"name": "f", "parameters": {}}', '{"name": "', '"arguments"')
Fragments = st.lists(
    st.sampled_from([*MARKS, *OBJECTS, *'f{}[],;"\\: \n<é7', "text ", '"name"', "null"]), max_size=14
).map("".join)


@settings(max_examples=150, deadline=None)
@given(text=Fragments, data=st.data(), form=st.sampled_from([None, *ALL]), opened=st.booleans())
def test_where_the_text_is_cut_makes_no_difference(
    text: str, data: st.DataObject, form: ToolFormat | None, opened: bool
) -> None:
    def fresh() -> OutputParser:
        return OutputParser(form, NAMES, reasoning=FORMATS[0], opened=opened)

    at_once = taken_apart(fresh(), [text])
    assert taken_apart(fresh(), list(text)) == at_once
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert taken_apart(fresh(), parts) == at_once
    content, _, calls = at_once
    if not calls and not opened and "think>" not in text:
        assert content == text  # nothing is lost


def test_a_long_answer_takes_time_in_proportion() -> None:
    """Letter by letter, this takes less than a second; square time would be caught by the test's own limit."""
    arguments = json.dumps({"text": "x" * 15_000})
    text = " " * 2_000 + f'<tool_call>{{"name": "f", "arguments": {arguments}}}</tool_call>'
    parser = OutputParser(HERMES, NAMES, reasoning=FORMATS[0])
    assert taken_apart(parser, list(text)) == ("", "", [("f", arguments)])
