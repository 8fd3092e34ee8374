"""Templates in the public formats of families that have their own ways: no system role, marks of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from text_models import VOCAB, WEATHER, qwen

from agent.engine.base import Chat
from agent.engine.chat import ChatTemplate
from agent.engine.tokenizer import Tokenizer
from agent.errors import RequestError

GEMMA2 = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
GEMMA3 = (
    "{%- if messages[0]['role'] == 'system' -%}{%- set first = messages[0]['content'] + '\n\n' -%}"
    "{%- set loop_messages = messages[1:] -%}{%- else -%}{%- set first = '' -%}{%- set loop_messages = messages -%}"
    "{%- endif -%}{%- for message in loop_messages -%}"
    "{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}"
    "{{ '<start_of_turn>' + role + '\n' + (first if loop.first else '') }}"
    "{%- if message['content'] is string -%}{{ message['content'] | trim }}{%- endif -%}{{ '<end_of_turn>\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)
PHI = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
GRANITE = (
    "{%- if tools %}{{ '<|start_of_role|>tools<|end_of_role|>' + tools | tojson + '<|end_of_text|>\n' }}"
    "{{ 'When a tool is required, respond with <|tool_call|> followed by a JSON list of tools used.' }}{%- endif %}"
    "{%- for message in messages %}"
    "{{ '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}"
)
TALK: tuple[dict[str, Any], ...] = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello!"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "How are you?"},
)
GEMMA_TALK = (
    "<start_of_turn>user\nBe brief.\n\nHello!<end_of_turn>\n<start_of_turn>model\nHi.<end_of_turn>\n"
    "<start_of_turn>user\nHow are you?<end_of_turn>\n<start_of_turn>model\n"
)


def with_template(folder: Path, template: str) -> tuple[ChatTemplate, Tokenizer]:
    qwen(folder)
    (folder / "chat_template.jinja").write_text(template)
    tokenizer = Tokenizer.load(folder, VOCAB)
    return ChatTemplate.load(folder, tokenizer), tokenizer


@pytest.mark.parametrize("template", [GEMMA2, GEMMA3], ids=["gemma 2", "gemma 3"])
def test_gemma_reads_what_the_system_says_before_what_the_user_says_first(tmp_path: Path, template: str) -> None:
    chat, tokenizer = with_template(tmp_path, template)
    assert tokenizer.decode(chat.encode(Chat(TALK))).endswith(GEMMA_TALK)


def test_a_system_message_alone_becomes_the_users_and_a_wrong_order_is_still_refused(tmp_path: Path) -> None:
    chat, tokenizer = with_template(tmp_path, GEMMA2)
    alone = tokenizer.decode(chat.encode(Chat(TALK[:1])))
    assert alone.endswith("<start_of_turn>user\nBe brief.<end_of_turn>\n<start_of_turn>model\n")
    with pytest.raises(RequestError, match="must alternate"):
        chat.encode(Chat((*TALK, {"role": "user", "content": "Hello?"})))


def test_phi_has_a_mark_for_each_role(tmp_path: Path) -> None:
    chat, tokenizer = with_template(tmp_path, PHI)
    prompt = tokenizer.decode(chat.encode(Chat(TALK[:2])))
    assert prompt.endswith("<|system|>Be brief.<|end|><|user|>Hello!<|end|><|assistant|>")


def test_granite_calls_tools_in_a_list_after_its_mark(tmp_path: Path) -> None:
    chat, _ = with_template(tmp_path, GRANITE)
    asked = Chat(TALK[1:2], tools=(WEATHER,), tool_choice="required")
    grammar = chat.grammar(asked)
    assert grammar is not None and "tool_call" in grammar.text
    parser = chat.parser(Chat(TALK[1:2], tools=(WEATHER,)))
    pieces = [*parser.feed('<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Oslo"}}]'), *parser.end()]
    calls = [call for piece in pieces for call in piece.tool_calls]
    assert [call.name for call in calls if call.name] == ["get_weather"]
