"""From an adapter's folder to its answers, over the shipped model: alone, mixed, and when it is broken."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from fake_adapters import write_adapter, write_tensors

from agent.config import Config, EngineConfig
from agent.engine.base import Engine, Request, Sampling
from agent.errors import ModelError
from agent.loader import Loader
from agent.models.host import ModelHost
from agent.models.options import LoadOptions
from agent.models.store import ModelStore, builtin_models
from agent.telemetry import Telemetry

CHANGES = {
    "model.layers.0.self_attn.q_proj": (256, 256),
    "model.layers.2.self_attn.v_proj": (128, 256),
    "model.layers.3.mlp.down_proj": (256, 640),
}
PROMPT = "The quick brown fox jumps over the lazy dog, and then"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path, {"base": builtin_models()["thox-nano"]})
    for name, rank in (("first", 4), ("second", 6)):
        with store.incoming(name) as folder:
            write_adapter(folder, "base", CHANGES, rank=rank, strength=0.4)
    with store.incoming("nothing") as folder:
        write_adapter(folder, "base", CHANGES, rank=2, strength=0.0)
    return store


@pytest.fixture
def host(store: ModelStore, tmp_path: Path) -> Iterator[ModelHost]:
    config = Config(state_dir=tmp_path, engine=EngineConfig(threads=1, slots=8, quantisation="float"))
    loader = Loader(config, Telemetry(), store.find)
    host = ModelHost(store, loader, needed=loader.needed, quick_s=60.0)
    yield host
    host.close()


def said(engine: Engine, adapters: Sequence[str]) -> list[str]:
    """What each of them goes on with; all are asked before any is read, so they are computed together."""
    sampling = Sampling(max_tokens=24, temperature=0.0, ignore_eos=True)
    answers = [engine.generate(Request("r", (PROMPT,), sampling, adapter=adapter)) for adapter in adapters]
    return ["".join(delta.text for delta in answer) for answer in answers]


def test_a_mixed_batch_says_what_each_says_alone(host: ModelHost) -> None:
    with host.lease("first") as lease:
        alone = {name: said(lease.engine, [name])[0] for name in ("", "first", "second", "nothing")}
        assert len(set(alone.values())) == 3 and alone["nothing"] == alone[""]
        mixed = ["second", "", "first", "first", "nothing", "", "second"]
        assert said(lease.engine, mixed) == [alone[name] for name in mixed]


def test_a_base_with_adapters_says_what_it_says_without(host: ModelHost, store: ModelStore) -> None:
    with host.lease("base") as lease:
        beside = said(lease.engine, [""])
    for name in ("first", "second", "nothing"):
        store.remove(name)
    host.unload("base")
    with host.lease("base") as lease:
        assert said(lease.engine, [""]) == beside
        with pytest.raises(ModelError):
            said(lease.engine, ["first"])


def test_an_adapter_that_is_broken_inside_leaves_the_others_and_the_base(host: ModelHost, store: ModelStore) -> None:
    with store.incoming("first") as folder:
        write_adapter(folder, "base", CHANGES, rank=4)
        tensors = {
            f"base_model.model.{name}.lora_A.weight": np.full((4, i), np.inf) for name, (_, i) in CHANGES.items()
        }
        tensors |= {f"base_model.model.{name}.lora_B.weight": np.ones((o, 4)) for name, (o, _) in CHANGES.items()}
        write_tensors(folder / "adapter_model.safetensors", tensors)
    with host.lease("second") as lease:
        assert said(lease.engine, ["second"]) != said(lease.engine, [""])
    with host.lease("first") as lease, pytest.raises(ModelError, match="first could not be loaded"):
        said(lease.engine, [lease.adapter])


def test_a_draft_model_guesses_for_its_adapters_too(store: ModelStore, tmp_path: Path) -> None:
    shutil.copytree(builtin_models()["thox-nano"], store.folder / "draft")
    config = Config(state_dir=tmp_path, engine=EngineConfig(threads=1, slots=4, quantisation="float"))
    loader = Loader(config, Telemetry(), store.find)
    host = ModelHost(store, loader, needed=loader.needed, quick_s=60.0)
    with host.lease("first") as lease:
        plain = said(lease.engine, ["first", ""])
    host.load("first", LoadOptions(draft="draft"))
    with host.lease("first") as lease:
        assert said(lease.engine, ["first", ""]) == plain
    host.close()
