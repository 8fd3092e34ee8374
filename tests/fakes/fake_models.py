"""Tiny checkpoints on disk, and an engine without weights: it answers every request with one token."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from agent.engine.base import Delta, Embeddings, EmbedRequest, EngineStatus, Report, Request, Usage
from agent.errors import EngineError
from agent.models.checkpoint import StoredModel
from agent.models.options import LoadOptions


def write_checkpoint(folder: Path, embedding: bool = False) -> Path:
    """A folder that looks like a model of 4 x 8 parameters and a context of 512."""
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, object] = {
        "architectures": ["BertModel" if embedding else "LlamaForCausalLM"],
        "model_type": "bert" if embedding else "llama",
        "max_position_embeddings": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_size": 16,
    }
    header = json.dumps({"w": {"dtype": "F32", "shape": [4, 8], "data_offsets": [0, 128]}}).encode()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(128))
    return folder


class FakeAnswer:
    """One token, or none before ``silence`` ends; then an error when the engine is closed first."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._given = False

    def poll(self, timeout: float) -> Delta | None:
        if self._engine.closed:
            raise EngineError("the engine was closed")
        if self._given or self._engine.silent:
            return None
        self._given = True
        self._engine.last_token_at = time.monotonic()
        return Delta(text="x", finish="length", usage=Usage(1, 1))

    def __iter__(self) -> Iterator[Delta]:
        delta = self.poll(0)
        if delta is not None:
            yield delta

    def close(self) -> None:
        self._engine.cancelled += 1


class FakeEngine:
    """What a model host and its watchers see of an engine."""

    def __init__(self, model: StoredModel, options: LoadOptions | None = None) -> None:
        self.model, self.options = model, options or LoadOptions()
        self.closed, self.silent = False, False
        self.cancelled = self.requests = 0
        self.last_token_at: float | None = None

    def generate(self, request: Request) -> FakeAnswer:
        self.requests += 1
        return FakeAnswer(self)

    def embed(self, request: EmbedRequest) -> Embeddings:
        return Embeddings(np.ones((len(request.inputs), 1), np.float32), len(request.inputs))

    def status(self) -> EngineStatus:
        context = self.options.context_length or self.model.context_length
        return EngineStatus(
            self.model.name,
            "embedding" if self.model.kind == "embedding" else "text",
            context,
            slots=4,
            last_token_at=self.last_token_at,
        )

    def close(self) -> None:
        self.closed = True


class FakeLoader:
    """Opens fake engines, one at a time when ``gate`` is shut, and fails as told."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.opened: list[FakeEngine] = []
        self.entered = threading.Semaphore(0)

    def __call__(self, model: StoredModel, options: LoadOptions, report: Report) -> FakeEngine:
        report("quantising", 0.5)
        self.entered.release()
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        self.opened.append(FakeEngine(model, options))
        return self.opened[-1]
