"""The shipped model as GGUF, loaded as an owner would load it, writes what it writes from safetensors."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest
from gguf_models import write_gguf

from agent.config import Config, EngineConfig
from agent.engine.base import Chat, Engine, Request, Sampling
from agent.loader import Loader
from agent.models.checkpoint import StoredModel, inspect
from agent.models.options import LoadOptions
from agent.models.store import builtin_models
from agent.telemetry import Telemetry

NANO = builtin_models()["thox-nano"]
QUESTIONS = ("What is a stack of modules?", "Hello, who are you?")


def as_gguf(folder: Path, kind: gguf.GGMLQuantizationType) -> StoredModel:
    tokenizer = json.loads((NANO / "tokenizer.json").read_text())
    config = json.loads((NANO / "tokenizer_config.json").read_text())
    named = json.loads((NANO / "generation_config.json").read_text())
    added = {token["id"]: 3 if token["special"] else 4 for token in tokenizer["added_tokens"]}
    vocab = {**tokenizer["model"]["vocab"], **{token["content"]: token["id"] for token in tokenizer["added_tokens"]}}
    tokens = sorted(vocab, key=lambda text: vocab[text])
    size = json.loads((NANO / "config.json").read_text())["vocab_size"]
    padding = size - len(tokens)
    template = config.get("chat_template") or (NANO / "chat_template.jinja").read_text()
    ends = named["eos_token_id"]
    folder.mkdir()
    write_gguf(
        NANO,
        folder / "thox-nano.gguf",
        kind,
        tokens=[*tokens, *(f"[PAD{index}]" for index in range(padding))],
        tokenizer__ggml__pre="deepseek-r1-qwen",  # Qwen2's words without its normaliser,
        tokenizer__ggml__token_type=[*(added.get(vocab[text], 1) for text in tokens), *([5] * padding)],
        tokenizer__ggml__merges=[
            merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]
        ],
        tokenizer__ggml__eos_token_id=ends if isinstance(ends, int) else ends[0],
        tokenizer__chat_template=template,
    )
    return inspect("nano-gguf", folder, builtin=False)


def unheard(stage: str, share: float) -> None:
    """Nobody asks how far the load is."""


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    return Loader(Config(state_dir=tmp_path / "state", engine=EngineConfig(threads=2, slots=2)), Telemetry())


def answers(engine: Engine) -> list[str]:
    try:
        texts = []
        for question in QUESTIONS:
            chat = Chat(({"role": "user", "content": question},))
            answer = engine.generate(Request("r", (chat,), Sampling(max_tokens=24, temperature=0.0)))
            texts.append("".join(delta.text for delta in answer))
        return texts
    finally:
        engine.close()


def test_an_f16_gguf_answers_as_its_safetensors_do(loader: Loader, tmp_path: Path) -> None:
    options = LoadOptions(context_length=256)
    expected = answers(loader(inspect("thox-nano", NANO, builtin=True), options, unheard))
    stored = as_gguf(tmp_path / "model", gguf.GGMLQuantizationType.F16)
    assert (stored.broken, stored.format, stored.architecture) == ("", "gguf", "LlamaForCausalLM")
    assert answers(loader(stored, options, unheard)) == expected
    assert all(expected)


@pytest.mark.parametrize("kind", [gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0])
def test_a_quantised_gguf_is_loaded_as_its_makers_have_it(
    kind: gguf.GGMLQuantizationType, loader: Loader, tmp_path: Path
) -> None:
    stored = as_gguf(tmp_path / "model", kind)
    assert stored.quantisation == kind.name
    assert all(answers(loader(stored, LoadOptions(context_length=256), unheard)))
    packed = list((tmp_path / "state" / "cache").glob("*/stored-*.safetensors"))
    assert len(packed) == 1, "as stored, though a model of this size would be float else"
    # Loaded anew it is mapped: nothing is written.
    written = packed[0].stat().st_mtime_ns
    assert all(answers(loader(stored, LoadOptions(context_length=256), unheard)))
    assert packed[0].stat().st_mtime_ns == written
