"""The checkpoint that ships: complete, small, and laid out as its chat template says."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from functools import cache, partial
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from agent.nano.corpus import Dialogue, Turn, documents
from agent.nano.layout import CHAT_TEMPLATE, segments

FOLDER = Path(__file__).parents[2] / "agent" / "nano" / "checkpoint"
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
Render = Callable[..., str]


def _json(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return content


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


@pytest.fixture
def tokenizer() -> Tokenizer:
    return _tokenizer()


@pytest.fixture(scope="module")
def render() -> Render:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
    return environment.from_string(_json("tokenizer_config.json")["chat_template"]).render


def test_the_checkpoint_is_complete_and_small() -> None:
    names = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    found = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert names | {"README.md", "training.json"} == set(found)
    assert sum(found.values()) <= 11_000_000


def test_the_weights_are_those_of_the_configuration() -> None:
    config = _json("config.json")
    raw = (FOLDER / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__")
    shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
    assert {entry["dtype"] for entry in header.values()} == {"F16"}
    assert 3_000_000 <= sum(map(prod, shapes.values())) <= 6_000_000
    assert shapes["model.embed_tokens.weight"] == (config["vocab_size"], config["hidden_size"])
    assert "lm_head.weight" not in shapes
    assert config["tie_word_embeddings"]
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        narrow = config["num_key_value_heads"] * config["head_dim"]
        assert shapes[at + "self_attn.k_proj.weight"] == (narrow, config["hidden_size"])
        assert shapes[at + "mlp.down_proj.weight"] == (config["hidden_size"], config["intermediate_size"])
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (config["head_dim"], config["hidden_size"], config["intermediate_size"] % 128) == (64, 256, 0)


def test_the_special_tokens_are_what_the_configuration_calls_them(tokenizer: Tokenizer) -> None:
    config, generation = _json("config.json"), _json("generation_config.json")
    assert tokenizer.get_vocab_size() == config["vocab_size"]
    assert tokenizer.token_to_id("<|im_end|>") == config["eos_token_id"]
    assert tokenizer.token_to_id("<|endoftext|>") == config["bos_token_id"]
    assert set(generation["eos_token_id"]) == {config["eos_token_id"], config["bos_token_id"]}
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    assert special == {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}


@given(st.text())
def test_any_text_comes_back_as_it_went_in(text: str) -> None:
    known = _tokenizer()
    assert known.decode(known.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("text", ["é\u0301ü", "日本語 🙂", "\r\n\t  x ", "\x00\x7f", "a\u200db", "1234567890", "   "])
def test_awkward_text_comes_back_as_well(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_no_token_is_put_in_front_and_digits_stand_alone(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("").ids == []
    assert tokenizer.encode("2026").tokens == ["2", "0", "2", "6"]
    assert len(tokenizer.encode("<|im_start|>user\nHi<|im_end|>").ids) == 5


def test_a_conversation_is_rendered_as_chatml(render: Render) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi!"},
        {"role": "user", "content": "Bye"},
    ]
    assert render(messages=messages, add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nHi!<|im_end|>\n"
        "<|im_start|>user\nBye<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_without_a_system_message_there_is_no_system_block(render: Render) -> None:
    assert render(messages=[{"role": "user", "content": "Hello"}]) == "<|im_start|>user\nHello<|im_end|>\n"


@pytest.mark.parametrize("arguments", [{"city": "Rome"}, '{"city": "Rome"}'])
def test_tools_calls_and_results_are_rendered_as_qwen_does(render: Render, arguments: object) -> None:
    messages = [
        {"role": "user", "content": "Weather in Rome?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"type": "function", "function": {"name": "get_weather", "arguments": arguments}}],
        },
        {"role": "tool", "content": "sunny"},
        {"role": "tool", "content": "20 degrees"},
    ]
    assert render(messages=messages, tools=[TOOL], add_generation_prompt=True) == (
        "<|im_start|>system\nYou are thox-nano, a small demonstration model.\n\n# Tools\n\n"
        "You may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        '{"type": "function", "function": {"name": "get_weather", "description": "Get the weather of a city", '
        '"parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}\n'
        "</tools>\n\nFor each function call, return a json object with function name and arguments within "
        '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": '
        "<args-json-object>}\n</tool_call><|im_end|>\n"
        "<|im_start|>user\nWeather in Rome?<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n'
        "</tool_call><|im_end|>\n"
        "<|im_start|>user\n<tool_response>\nsunny\n</tool_response>\n<tool_response>\n20 degrees\n"
        "</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_weights_saw_exactly_what_the_template_writes(render: Render) -> None:
    seen = [document for document in documents(7, 400) if isinstance(document, Dialogue)]
    assert any(document.tools for document in seen)
    seen.append(Dialogue((Turn("system", "Use the tools."), Turn("user", "Hi"), Turn("assistant", "Hello!")), (TOOL,)))
    for document in seen:
        messages = [{"role": turn.role, "content": turn.text} for turn in document.turns]
        assert "".join(text for text, _ in segments(document)) == render(messages=messages, tools=list(document.tools))


def test_the_checkpoint_carries_the_template_of_the_source() -> None:
    assert _json("tokenizer_config.json")["chat_template"] == CHAT_TEMPLATE
