"""The model that ships, as far as its text goes: the tokenizer and the template in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from text_models import STRESS, WEATHER
from transformers import AutoTokenizer

import agent.nano
from agent.engine.base import Chat
from agent.engine.chat import ChatTemplate
from agent.engine.grammar import Grammars
from agent.engine.tokenizer import Tokenizer

FOLDER = Path(str(agent.nano.__file__)).parent / "checkpoint"
MESSAGES: tuple[dict[str, Any], ...] = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is a stack?"},
    {"role": "assistant", "content": "Devices that touch."},
    {"role": "user", "content": "And a node? 🙂"},
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(FOLDER, json.loads((FOLDER / "config.json").read_text())["vocab_size"])


def test_its_ids_are_those_of_transformers_and_come_back(tokenizer: Tokenizer) -> None:
    oracle = AutoTokenizer.from_pretrained(FOLDER)
    for text in STRESS:
        ids = tokenizer.encode(text)
        assert ids == oracle.encode(text)
        plain = tokenizer.encode(text, special=False)
        assert tokenizer.decode(plain) == text == b"".join(map(tokenizer.token_bytes, plain)).decode()
    assert {tokenizer.token_text(id) for id in tokenizer.eos_ids} >= {"<|im_end|>"}


@pytest.mark.parametrize("tools", [(), (WEATHER,)], ids=["bare", "with tools"])
def test_its_prompts_are_those_of_transformers(tokenizer: Tokenizer, tools: tuple[dict[str, Any], ...]) -> None:
    oracle = AutoTokenizer.from_pretrained(FOLDER)
    expected = oracle.apply_chat_template(
        list(MESSAGES), tools=list(tools) or None, add_generation_prompt=True, return_dict=False
    )
    assert ChatTemplate.load(FOLDER, tokenizer).encode(Chat(MESSAGES, tools)) == expected


def test_it_can_be_made_to_call_a_tool(tokenizer: Tokenizer) -> None:
    template = ChatTemplate.load(FOLDER, tokenizer)
    chat = Chat(MESSAGES, (WEATHER,), "required")
    grammar = template.grammar(chat)
    assert grammar is not None
    matcher = Grammars(tokenizer).matcher(grammar)
    parser, stream, random = template.parser(chat), tokenizer.stream(), np.random.default_rng(1)
    text = ""
    for _ in range(500):
        allowed = [int(id) for id in np.flatnonzero(matcher.mask())]
        closing = [id for id in allowed if tokenizer.token_bytes(id) in (b'"', b"}") or id in tokenizer.eos_ids]
        token = int(random.choice(closing or allowed))
        if token in tokenizer.eos_ids:
            break
        matcher.accept(token)
        text += stream.push(token)
    calls = [call for piece in parser.feed(text) + parser.end() for call in piece.tool_calls]
    assert calls[0].name == "get_weather" and parser.saw_tool_call
    assert "city" in json.loads("".join(call.arguments for call in calls if call.index == 0))
