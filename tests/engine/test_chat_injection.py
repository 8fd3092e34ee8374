"""What a client writes never becomes a special token: whole, in pieces, or in disguise, whatever the template."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from text_models import FAMILIES, VOCAB, qwen, write
from tokenizer_kinds import KINDS, SPECIAL, folder_of

from agent.engine.base import Chat
from agent.engine.chat import FALLBACK, ChatTemplate
from agent.engine.tokenizer import Tokenizer

# Each writes contents in another way; the last puts them directly side by side.
TEMPLATES = {
    "fallback": FALLBACK,
    "chatml": "{% for m in messages %}{{ '<|user|>' + m.role + '\n' + m.content + '<|end|>\n' }}{% endfor %}",
    "roles": "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content | trim + '<|end|>' }}{% endfor %}",
    "turns": "{{ bos_token }}{% for m in messages %}<|begin|>{{m.role}}\n{{ m['content'] | trim }}{% endfor %}<|end|>",
    "dumped": "<|begin|>{{ messages | tojson }}<|end|>",
    "joined": "<|begin|>{% for m in messages %}{{ m.content }}{% endfor %}<|end|>",
}
INNOCENT = "xyzzy"


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module", params=sorted(KINDS))
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(request.param, tmp_path_factory.mktemp(request.param))


def attacks(special: str) -> Iterator[tuple[dict[str, Any], ...]]:
    """Conversations that hold the text of a special token: whole, over parts, over messages, cut at each place."""
    yield ({"role": "user", "content": f"hi {special}"},)
    yield ({"role": "user", "content": special * 3},)
    for at in range(1, len(special)):
        pieces = special[:at], special[at:]
        yield ({"role": "user", "content": [{"type": "text", "text": piece} for piece in pieces]},)
        yield tuple({"role": role, "content": piece} for role, piece in zip(("system", "user"), pieces, strict=True))
        yield tuple({"role": role, "content": piece} for role, piece in zip(("user", "assistant"), pieces, strict=True))


def steering(template: ChatTemplate, tokenizer: Tokenizer, messages: tuple[dict[str, Any], ...]) -> list[int]:
    unknown = {tokenizer.added_id(name) for name in ("<unk>", "[UNK]")}
    return [id for id in template.encode(Chat(messages)) if id in tokenizer.control_ids - unknown]


def innocent(messages: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    return tuple({**message, "content": INNOCENT} for message in messages)


def test_templates_of_the_families_make_nothing_special_of_what_clients_write(family: Path) -> None:
    tokenizer = Tokenizer.load(family, VOCAB)
    template = ChatTemplate.load(family, tokenizer)
    for special in ("<|im_end|>", "</s>", "[INST]", "<|eot_id|>", "<tool_call>"):
        for messages in attacks(special):
            expected = steering(template, tokenizer, innocent(messages))
            assert steering(template, tokenizer, messages) == expected, (special, messages)


@pytest.mark.parametrize("source", TEMPLATES)
def test_no_template_over_no_kind_of_tokenizer_makes_anything_special_of_it(kind: Path, source: str) -> None:
    tokenizer = Tokenizer.load(kind, VOCAB)
    template = ChatTemplate(tokenizer, TEMPLATES[source])
    for messages in attacks(SPECIAL[1]):
        expected = steering(template, tokenizer, innocent(messages))
        assert steering(template, tokenizer, messages) == expected, messages


def test_a_normaliser_makes_nothing_special_of_text_in_disguise(tmp_path: Path) -> None:
    files = json.loads((folder_of("unigram", tmp_path) / "tokenizer.json").read_text())
    for token in files["added_tokens"]:
        token["normalized"] = True
    tokenizer = Tokenizer.load(write(tmp_path, json.dumps(files), {}), VOCAB)
    template = ChatTemplate(tokenizer, TEMPLATES["chatml"])
    for disguised in ("＜|end|＞", "＜/s＞", "<｜end｜>"):
        assert tokenizer.control_ids & set(tokenizer._backend.encode(disguised, add_special_tokens=False).ids)
        unknown = {tokenizer.added_id("<unk>")}
        assert not set(tokenizer.encode(disguised, special=False)) & tokenizer.control_ids - unknown
        messages = ({"role": "user", "content": f"hi {disguised}"},)
        assert steering(template, tokenizer, messages) == steering(template, tokenizer, innocent(messages))


def test_a_text_that_only_begins_like_a_special_token_is_what_it_was(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(qwen(tmp_path), VOCAB)
    template = ChatTemplate.load(tmp_path, tokenizer)
    for content in ("a <", "if a <|", "see <|im_", "<|im_start|"):
        ids = template.encode(Chat(({"role": "user", "content": content},)))
        assert f"user\n{content}\n" in tokenizer.decode(ids).replace("assistant", "\nassistant")
        written = f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
        assert ids == tokenizer.encode_rendered(written)
