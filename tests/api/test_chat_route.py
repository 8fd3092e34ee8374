"""POST /v1/chat/completions over a scripted engine: what the engine is asked, and what the client gets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fake_engine import ScriptedEngine, token
from inference_app import Api

from agent.engine.base import Chat, Delta, Grammar, Request, ToolCallDelta, Usage
from agent.errors import EngineError

CHAT = "/v1/chat/completions"
USER = [{"role": "user", "content": "Hello!"}]
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CLOCK = {"type": "function", "function": {"name": "clock"}}


def asked(engine: ScriptedEngine) -> Chat:
    prompt = engine.requests[-1].prompts[0]
    assert isinstance(prompt, Chat)
    return prompt


def calls_weather(_request: Request) -> Iterator[Delta]:
    yield Delta(reasoning="They want ")
    yield Delta(reasoning="the weather.")
    yield Delta(tool_calls=(ToolCallDelta(0, "call_1", "weather", ""),))
    yield Delta(tool_calls=(ToolCallDelta(0, arguments='{"city":'),))
    yield Delta(tool_calls=(ToolCallDelta(0, arguments='"Oslo"}'),))
    yield Delta(finish="tool_calls", usage=Usage(5, 9, reasoning=4))


def test_an_answer_has_the_shape_of_openais(api: Api) -> None:
    answer = api.chat()
    assert answer["id"].startswith("chatcmpl-") and answer["object"] == "chat.completion"
    assert answer["model"] == "tiny" and answer["system_fingerprint"] == "fp_test"
    (choice,) = answer["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] == "Hello there, friend."
    assert choice["finish_reason"] == "stop" and choice["logprobs"] is None
    assert answer["usage"]["total_tokens"] == 12
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 2


def test_an_answer_that_was_read_whole_gives_engine_and_slot_back(api: Api, engine: ScriptedEngine) -> None:
    api.chat()
    assert engine.answers[0].closed.is_set()
    assert api.host.state("tiny").leases == 0


def test_a_stream_begins_with_the_role_and_ends_with_done(api: Api, engine: ScriptedEngine) -> None:
    events = api.stream(CHAT, messages=USER)
    assert events[-1] == "[DONE]"
    deltas = [event["choices"][0]["delta"] for event in events[:-1]]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    assert "".join(delta.get("content", "") for delta in deltas) == "Hello there, friend."
    assert [event["choices"][0]["finish_reason"] for event in events[:-1]][-1] == "stop"
    assert all("usage" not in event for event in events[:-1])
    assert engine.answers[0].closed.is_set() and api.host.state("tiny").leases == 0


def test_include_usage_adds_a_last_chunk_without_choices(api: Api) -> None:
    events = api.stream(CHAT, messages=USER, stream_options={"include_usage": True})
    assert events[-2]["choices"] == [] and events[-2]["usage"]["completion_tokens"] == 5
    assert all(event["usage"] is None for event in events[:-2])


def test_several_answers_come_interleaved_each_under_its_index(api: Api) -> None:
    events = api.stream(CHAT, messages=USER, n=2)[:-1]
    for index in (0, 1):
        mine = [event["choices"][0] for event in events if event["choices"][0]["index"] == index]
        assert mine[0]["delta"]["role"] == "assistant"
        assert "".join(choice["delta"].get("content", "") for choice in mine) == "Hello there, friend."
    assert len(api.chat(n=3)["choices"]) == 3


def test_logprobs_come_with_bytes_and_alternatives(api: Api, engine: ScriptedEngine) -> None:
    (choice,) = api.chat(logprobs=True, top_logprobs=2)["choices"]
    first = choice["logprobs"]["content"][0]
    assert first["token"] == "Hello" and bytes(first["bytes"]) == b"Hello" and first["logprob"] == -1.0
    assert [top["token"] for top in first["top_logprobs"]] == ["Hello", "Hello1"]
    assert engine.requests[-1].sampling.logprobs == 2
    streamed = api.stream(CHAT, messages=USER, logprobs=True)
    assert streamed[1]["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


def test_an_impossible_token_has_a_finite_logprob(api: Api, engine: ScriptedEngine) -> None:
    engine.script = lambda _request: [Delta(text="a", logprobs=(token("a", float("-inf")),), usage=Usage(1, 1))]
    (choice,) = api.chat(logprobs=True)["choices"]
    assert choice["logprobs"]["content"][0]["logprob"] == -9999.0


def test_a_tool_call_is_put_together_and_its_reasoning_kept_apart(api: Api, engine: ScriptedEngine) -> None:
    engine.script = calls_weather
    answer = api.chat(tools=[WEATHER])
    message = answer["choices"][0]["message"]
    assert message["content"] is None and answer["choices"][0]["finish_reason"] == "tool_calls"
    assert message["reasoning_content"] == message["reasoning"] == "They want the weather."
    function = {"name": "weather", "arguments": '{"city":"Oslo"}'}
    assert message["tool_calls"] == [{"id": "call_1", "type": "function", "function": function}]
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 4


def test_the_arguments_of_a_tool_call_are_streamed(api: Api, engine: ScriptedEngine) -> None:
    engine.script = calls_weather
    deltas = [event["choices"][0]["delta"] for event in api.stream(CHAT, messages=USER, tools=[WEATHER])[:-1]]
    calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert calls[0] == {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": ""},
    }
    assert "".join(call["function"]["arguments"] for call in calls) == '{"city":"Oslo"}'
    assert "id" not in calls[1] and "".join(d.get("reasoning_content", "") for d in deltas) == "They want the weather."


def test_the_older_functions_are_answered_with_a_function_call(api: Api, engine: ScriptedEngine) -> None:
    engine.script = calls_weather
    answer = api.chat(functions=[WEATHER["function"]], function_call={"name": "weather"})["choices"][0]
    assert answer["message"]["function_call"] == {"name": "weather", "arguments": '{"city":"Oslo"}'}
    assert answer["finish_reason"] == "function_call" and "tool_calls" not in answer["message"]
    assert asked(engine).tool_choice == "function:weather" and asked(engine).tools[0]["type"] == "function"
    chunks = [e["choices"][0] for e in api.stream(CHAT, messages=USER, functions=[WEATHER["function"]])[:-1]]
    assert chunks[-1]["finish_reason"] == "function_call"
    assert "".join(c["delta"].get("function_call", {}).get("arguments", "") for c in chunks) == '{"city":"Oslo"}'


@pytest.mark.parametrize(
    ("choice", "expected", "tools"),
    [
        (None, "auto", ["weather", "clock"]),
        ("none", "none", ["weather", "clock"]),
        ("required", "required", ["weather", "clock"]),
        ({"type": "function", "function": {"name": "clock"}}, "function:clock", ["weather", "clock"]),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "clock"}}]},
            },
            "required",
            ["clock"],
        ),
    ],
)
def test_tool_choice_reaches_the_engine(
    api: Api, engine: ScriptedEngine, choice: object, expected: str, tools: list[str]
) -> None:
    api.chat(tools=[WEATHER, CLOCK], tool_choice=choice, parallel_tool_calls=False)
    chat = asked(engine)
    names: list[Any] = [tool["function"] for tool in chat.tools]
    assert chat.tool_choice == expected and [name["name"] for name in names] == tools
    assert not chat.parallel_tool_calls


@pytest.mark.parametrize(
    ("format_", "expected"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Grammar("json_object")),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}}},
            Grammar("json_schema", '{"type": "array"}'),
        ),
        ({"guided_regex": "[ab]+"}, Grammar("regex", "[ab]+")),
        ({"grammar": 'start: "a"'}, Grammar("lark", 'start: "a"')),
    ],
)
def test_the_wanted_format_reaches_the_engine_as_a_grammar(
    api: Api, engine: ScriptedEngine, format_: dict[str, Any], expected: Grammar | None
) -> None:
    api.chat(**format_)
    assert engine.requests[-1].grammar == expected


def test_every_sampling_field_reaches_the_engine(api: Api, engine: ScriptedEngine) -> None:
    api.chat(
        temperature=0.5, top_p=0.9, top_k=40, min_p=0.05, seed=-7, presence_penalty=-2, frequency_penalty=2,
        repetition_penalty=1.1, logit_bias={"5": -100, "foo": 0}, stop=["\n", ""], max_tokens=9,
        max_completion_tokens=3, ignore_eos=True,
    )  # fmt: skip
    s = engine.requests[-1].sampling
    assert (s.temperature, s.top_p, s.top_k, s.min_p, s.seed) == (0.5, 0.9, 40, 0.05, -7)
    assert (s.presence_penalty, s.frequency_penalty, s.repetition_penalty) == (-2, 2, 1.1)
    assert (s.logit_bias, s.stop, s.max_tokens, s.ignore_eos, s.logprobs) == ({5: -100}, ("\n",), 3, True, None)


def test_null_counts_as_absent_and_unknown_fields_are_ignored(api: Api, engine: ScriptedEngine) -> None:
    api.chat(temperature=None, stop=None, tools=None, n=None, stream=None, something_new={"deep": [1]})
    assert engine.requests[-1].sampling.temperature is None and engine.requests[-1].n == 1


def test_the_log_says_which_fields_nobody_read(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "agent.api.schema_json")
    api.chat(store=True, temperature=1)
    assert [record.getMessage() for record in caplog.records] == ["fields ignored: store"]


def test_every_role_and_part_reaches_the_engine_in_the_current_shape(api: Api, engine: ScriptedEngine) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    api.post(
        CHAT,
        messages=[
            {"role": "system", "content": "Be short."},
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "What time is it?", "name": "kim"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "12:00"},
            {"role": "assistant", "content": None, "function_call": {"name": "clock", "arguments": "{}"}},
            {"role": "function", "name": "clock", "content": "12:01"},
            {"role": "assistant", "content": None, "refusal": "No."},
            {"role": "user", "content": ""},
        ],
    )
    assert asked(engine).messages == (
        {"role": "system", "content": "Be short."},
        {"role": "developer", "content": "a\nb"},
        {"role": "user", "content": "What time is it?", "name": "kim"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "12:00", "tool_call_id": "c1"},
        {"role": "assistant", "content": "", "tool_calls": [{**call, "id": "call_clock"}]},
        {"role": "tool", "content": "12:01", "tool_call_id": "call_clock", "name": "clock"},
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": ""},
    )


def test_reasoning_effort_and_template_options_reach_the_template(api: Api, engine: ScriptedEngine) -> None:
    api.chat(reasoning_effort="none", chat_template_kwargs={"today": "Monday"})
    assert asked(engine).template_options == {"reasoning_effort": "none", "enable_thinking": False, "today": "Monday"}


def test_an_error_before_the_first_piece_has_a_status_of_its_own(api: Api, engine: ScriptedEngine) -> None:
    engine.script = lambda _request: [EngineError("the engine broke")]
    error = api.refused(CHAT, 500, messages=USER, stream=True)
    assert error["type"] == "engine_error" and engine.answers[0].closed.is_set()
    assert api.host.state("tiny").leases == 0


def test_an_error_in_mid_stream_is_an_event_and_there_is_no_done(api: Api, engine: ScriptedEngine) -> None:
    engine.script = lambda _request: [Delta(text="Hel"), EngineError("the engine broke")]
    events = api.stream(CHAT, messages=USER)
    assert events[-1]["error"]["code"] == 500 and events[-1]["error"]["message"] == "the engine broke"
    assert engine.answers[0].closed.is_set()


def test_a_full_waiting_line_says_when_to_come_back(api: Api, engine: ScriptedEngine) -> None:
    engine.full = True
    response = api.call("POST", CHAT, {"model": "tiny", "messages": USER})
    assert response.status_code == 503 and response.headers["Retry-After"] == "3"
    assert response.get_json()["error"]["type"] == "overloaded_error"
    assert api.host.state("tiny").leases == 0
