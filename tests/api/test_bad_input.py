"""What clients may get wrong, and what they are told: always the one shape, the field at fault, and no 5xx."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from fake_engine import ScriptedEngine
from inference_app import Api, open_api

from agent.config import ServerConfig

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
RERANK = "/v1/rerank"
USER = [{"role": "user", "content": "Hello!"}]
TOOL = {"type": "function", "function": {"name": "clock"}}

BAD_CHATS: list[tuple[dict[str, object], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": "Hello"}, "messages"),
    ({"messages": [USER]}, "messages[0]"),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "x"}]}]}, "messages[0].tool_calls[0].function"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].name"),
    ({"messages": None}, "messages"),
    ({"model": None}, "model"),
    ({"model": ""}, "model"),
    ({"model": 5}, "model"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"top_k": 1.5}, "top_k"),
    ({"seed": 2**63}, "seed"),
    ({"n": 0}, "n"),
    ({"n": 17}, "n"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_completion_tokens": []}, "max_completion_tokens"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"logit_bias": {"word": 1}}, "logit_bias"),
    ({"logit_bias": {"5": 101}}, "logit_bias.5"),
    ({"logit_bias": [5]}, "logit_bias"),
    ({"stop": ["x"] * 17}, "stop"),
    ({"stop": [5]}, "stop[0]"),
    ({"stop": 5}, "stop"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"logprobs": 3}, "logprobs"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": 1}}}, "response_format.json_schema.schema"),
    ({"response_format": {"type": "json_object"}, "guided_regex": "x"}, "response_format"),
    ({"tools": [{"type": "browser"}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "x"}}, "tools": [TOOL]}, "tool_choice"),
    ({"reasoning_effort": "enormous"}, "reasoning_effort"),
    ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages"),
]


@pytest.mark.parametrize(("fields", "param"), BAD_CHATS, ids=lambda value: str(value)[:60])
def test_a_bad_field_of_a_chat_is_named(
    api: Api, engine: ScriptedEngine, fields: dict[str, object], param: str
) -> None:
    error = api.refused(CHAT, **{"messages": USER, **fields})
    assert error["param"] == param and error["type"] == "invalid_request_error" and error["code"] == 400
    assert param.split(".")[-1].split("[")[0] in error["message"] and not engine.requests


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (COMPLETIONS, {}, "prompt"),
        (COMPLETIONS, {"prompt": []}, "prompt"),
        (COMPLETIONS, {"prompt": [[]]}, "prompt[0]"),
        (COMPLETIONS, {"prompt": [1, "a"]}, "prompt[1]"),
        (COMPLETIONS, {"prompt": [-1]}, "prompt[0]"),
        (COMPLETIONS, {"prompt": {"a": 1}}, "prompt"),
        (COMPLETIONS, {"prompt": "x", "logprobs": 21}, "logprobs"),
        (COMPLETIONS, {"prompt": "x", "echo": "yes"}, "echo"),
        (EMBEDDINGS, {"input": ""}, "input"),
        (EMBEDDINGS, {"input": ["a", None]}, "input[1]"),
        (EMBEDDINGS, {"input": "x", "dimensions": 0}, "dimensions"),
        (EMBEDDINGS, {"input": "x", "encoding_format": "int8"}, "encoding_format"),
        (EMBEDDINGS, {"input": "x", "truncate": "END"}, "truncate"),
        (EMBEDDINGS, {"input": "x", "input_type": "poem"}, "input_type"),
        (RERANK, {"documents": ["a"]}, "query"),
        (RERANK, {"query": "x", "documents": []}, "documents"),
        (RERANK, {"query": "x", "documents": ["a", 1]}, "documents[1]"),
        (RERANK, {"query": "x", "documents": [{"title": "a"}]}, "documents[0].text"),
        (RERANK, {"query": "x", "documents": ["a"], "top_n": 0}, "top_n"),
    ],
)
def test_a_bad_field_of_the_others_is_named(api: Api, path: str, fields: dict[str, object], param: str) -> None:
    assert api.refused(path, **fields)["param"] == param


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (b"\xff\xfe{}", "UTF-8"),
        (b'{"model": "tiny", "prompt": "x", "temperature": NaN}', "'temperature' is NaN"),
        (b'{"model": "tiny", "prompt": "x", "temperature": Infinity}', "infinite"),
        (b'{"model": "tiny", "prompt": "x", "temperature": 1e999}', "infinite"),
        (b'{"model": "tiny", "prompt": "x", "unknown": {"a": [1, -Infinity]}}', "'unknown.a[1]'"),
        (b'{"model": "tiny", "prompt": "x", "seed": ' + b"9" * 5000 + b"}", "too long"),
        (b'{"model": "tiny", "prompt": "\\ud800"}', "half a character"),
        (b'{"a": ' + b"[" * 500 + b"]" * 500 + b"}", "deeply"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deeply"),
    ],
    ids=lambda value: repr(value[:40]),
)
def test_a_body_that_is_not_strict_json_says_why(api: Api, body: bytes, says: str) -> None:
    response = api.call("POST", COMPLETIONS, body)
    assert response.status_code == 400 and says in response.get_json()["error"]["message"]


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e400"])
def test_a_number_that_is_none_names_its_field(api: Api, value: str) -> None:
    body = f'{{"model": "tiny", "prompt": "x", "logit_bias": {{"5": {value}}}}}'
    assert api.call("POST", COMPLETIONS, body.encode()).get_json()["error"]["param"] == "logit_bias.5"


def test_json_has_one_kind_of_number(api: Api, engine: ScriptedEngine) -> None:
    api.chat(max_tokens=5.0, temperature=1)
    assert engine.requests[-1].sampling.max_tokens == 5


def test_a_body_of_another_type_is_415_and_one_without_a_type_is_read(api: Api) -> None:
    response = api.call("POST", CHAT, b"model=tiny", Content_Type="application/x-www-form-urlencoded")
    assert response.status_code == 415 and response.get_json()["error"]["code"] == 415
    assert api.call("POST", CHAT, {"model": "tiny", "messages": USER}, Content_Type="").status_code == 200


def test_a_body_that_is_too_large_is_413(engine: ScriptedEngine, tmp_path: Path) -> None:
    with open_api(tmp_path, engine, server=ServerConfig(max_body_bytes=1000)) as api:
        error = api.refused(CHAT, 413, messages=USER, user="x" * 2000)
        assert error["type"] == "invalid_request_error" and "1000" in error["hint"]


def test_a_chunked_body_that_is_too_large_is_413_and_not_read_in_part(engine: ScriptedEngine, tmp_path: Path) -> None:
    body = json.dumps({"model": "tiny", "prompt": "x"}).encode() + b" " * 2000  # its beginning alone is good JSON
    with open_api(tmp_path, engine, server=ServerConfig(max_body_bytes=1000)) as api:
        response = api.app.test_client().post(
            COMPLETIONS,
            input_stream=io.BytesIO(body),
            headers={"Authorization": f"Bearer {api.key}", "Transfer-Encoding": "chunked"},
            environ_overrides={"wsgi.input_terminated": True},  # as gunicorn says of every body
        )
        assert response.status_code == 413


def test_unknown_paths_and_wrong_methods_keep_the_shape(api: Api) -> None:
    for path in ("/", "/v1", "/v1/nothing", "/v1/chat", "//v1/models", "/static/x", "/v1/chat/completions/x"):
        response = api.call("GET", path)
        assert (response.status_code, response.get_json()["error"]["type"]) == (404, "not_found_error"), path
    for method, path, allowed in (("GET", CHAT, "POST"), ("POST", "/health", "GET"), ("PUT", "/v1/models", "GET")):
        response = api.call(method, path)
        assert response.status_code == 405 and allowed in response.headers["Allow"]
        assert response.get_json()["error"]["code"] == 405


def test_a_trailing_slash_changes_nothing(api: Api) -> None:
    assert api.call("GET", "/v1/models/").status_code == 200


def test_head_and_options_answer_without_a_body_of_their_own(api: Api) -> None:
    assert api.call("HEAD", "/v1/models").get_data() == b""
    options = api.call("OPTIONS", CHAT)
    assert options.status_code == 200 and "POST" in options.headers["Allow"]
    assert "Access-Control-Allow-Origin" not in options.headers


def test_an_error_nobody_expected_tells_no_internals(api: Api, engine: ScriptedEngine) -> None:
    def breaks(_request: object) -> list[object]:
        raise ZeroDivisionError("secret detail")

    engine.script = breaks  # type: ignore[assignment]
    response = api.call("POST", CHAT, {"model": "tiny", "messages": USER})
    assert response.status_code == 500 and "secret" not in response.get_data(as_text=True)
    assert response.get_json()["error"]["type"] == "internal_error" and response.headers["X-Request-ID"]
    assert api.host.state("tiny").leases == 0
