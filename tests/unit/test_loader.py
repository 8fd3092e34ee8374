"""From a model's folder to an engine that answers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.config import Config, EngineConfig
from agent.engine.base import Embeddings, EmbedRequest, Engine, Request, Sampling
from agent.errors import ModelError, NotFoundError, RequestError, ThoxError
from agent.loader import Loader, fingerprint, physical_cores
from agent.models.checkpoint import StoredModel, inspect
from agent.models.disk import Disk
from agent.models.options import LoadOptions, choose_quantisation
from agent.models.pull_blobs import BlobStore
from agent.models.store import ModelStore, builtin_models
from agent.telemetry import Telemetry


def _stored(name: str, path: Path | None = None) -> StoredModel:
    return inspect(name, path or builtin_models()[name], builtin=path is None)


def _unheard(stage: str, share: float) -> None:
    """Nobody asks how far the load is."""


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    return Loader(Config(state_dir=tmp_path, engine=EngineConfig(threads=1, slots=2)), Telemetry())


@pytest.fixture
def nano(loader: Loader) -> Iterator[Engine]:
    engine = loader(_stored("thox-nano"), LoadOptions(context_length=128, slots=3), _unheard)
    yield engine
    engine.close()


def test_the_shipped_model_loads_as_it_was_asked_for_and_writes_text(nano: Engine) -> None:
    status = nano.status()
    assert (status.model, status.kind, status.context_length, status.slots) == ("thox-nano", "text", 128, 3)
    answer = nano.generate(Request("r", ("Hello",), Sampling(max_tokens=4, temperature=0.0, ignore_eos=True)))
    deltas = list(answer)
    assert deltas[-1].usage is not None and deltas[-1].usage.completion == 4


def test_the_embedding_model_loads_and_gives_unit_vectors(loader: Loader) -> None:
    engine = loader(_stored("all-minilm-l6-v2"), LoadOptions(), _unheard)
    try:
        found: Embeddings = engine.embed(EmbedRequest("r", ("Hello, world!",)))
        assert found.vectors.shape == (1, 384)
        assert float(np.linalg.norm(found.vectors[0])) == pytest.approx(1.0, abs=1e-5)
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_hidden_layers": 99}, "layers"),
        ({"architectures": ["NobodyKnowsForCausalLM"]}, "NobodyKnows"),
        ({"vocab_size": 11}, "11"),
    ],
)
def test_a_folder_that_contradicts_itself_is_refused_by_name(
    loader: Loader, tmp_path: Path, change: dict[str, object], named: str
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(builtin_models()["thox-nano"], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    stored = replace(_stored("broken", folder), broken="", kind="text")
    with pytest.raises(ModelError, match=named):
        loader(stored, LoadOptions(), _unheard)


def test_packed_weights_are_kept_for_the_next_start_until_their_model_is_gone(loader: Loader, tmp_path: Path) -> None:
    shutil.copytree(builtin_models()["thox-nano"], tmp_path / "models" / "mine")
    store = ModelStore(tmp_path, {})
    disk = Disk(store, BlobStore(tmp_path / "blobs"), tmp_path / "cache")
    loader(store.find("mine"), LoadOptions(quantisation="int8"), _unheard).close()
    packed = list((tmp_path / "cache").rglob("int8-*"))
    assert len(packed) == 1 and disk.usage().packed >= packed[0].stat().st_size
    made = packed[0].stat().st_mtime_ns
    disk.sweep_packed()
    loader(store.find("mine"), LoadOptions(quantisation="int8"), _unheard).close()
    assert packed[0].stat().st_mtime_ns == made
    removed = store.remove("mine")
    assert removed is not None
    disk.forget(removed)
    assert not packed[0].exists()


def test_a_load_tells_what_it_is_doing(loader: Loader) -> None:
    heard: list[tuple[str, float]] = []
    loader(_stored("thox-nano"), LoadOptions(128, "int8"), lambda *at: heard.append(at)).close()
    assert [stage for stage, _ in dict.fromkeys((stage, 0) for stage, _ in heard)] == [
        "reading",
        "quantising",
        "compiling",
    ]
    shares = [share for stage, share in heard if stage == "quantising"]
    assert shares == sorted(shares) and len(shares) > 5 and shares[-1] > 0.8


def test_few_bits_are_chosen_for_the_models_that_bear_them() -> None:
    assert [choose_quantisation("auto", n) for n in (4_000_000, 135_000_000, 1_000_000_000)] == [
        "float",
        "int8",
        "int4",
    ]
    assert choose_quantisation("int4-g32", 4_000_000) == "int4-g32"


def test_the_estimate_is_that_of_the_form_which_computes_the_model(loader: Loader) -> None:
    capped = replace(_stored("thox-nano"), architecture="Gemma2ForCausalLM", parameters=2_600_000_000)
    assert loader.needed(capped, LoadOptions()).cache_type == "f32"


def test_the_fingerprint_changes_with_weights_and_with_quantisation() -> None:
    assert len({fingerprint("a", "int8"), fingerprint("a", "int4"), fingerprint("b", "int8")}) == 3


def test_two_threads_of_one_core_count_once(tmp_path: Path) -> None:
    assert physical_cores() >= 1

    for cpu in os.sched_getaffinity(0):
        siblings = tmp_path / f"cpu{cpu}" / "topology"
        siblings.mkdir(parents=True)
        (siblings / "thread_siblings_list").write_text("0-127\n")
    assert physical_cores(tmp_path) == 1


@pytest.fixture
def family(tmp_path: Path) -> Callable[[str], StoredModel]:
    """The shipped model, a copy of it, and one whose words are others."""
    shipped = builtin_models()["thox-nano"]
    folders = {"small": tmp_path / "small", "foreign": tmp_path / "foreign"}
    for folder in folders.values():
        shutil.copytree(shipped, folder)
    words = folders["foreign"] / "tokenizer.json"
    told = json.loads(words.read_text())
    vocabulary = told["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    words.write_text(json.dumps(told))
    models = {name: _stored(name, folder) for name, folder in folders.items()}
    models["vectors"] = _stored("all-minilm-l6-v2")
    return lambda name: models[name] if name in models else _stored(name)


def _drafting(tmp_path: Path, meter: Telemetry, find: Callable[[str], StoredModel]) -> Loader:
    return Loader(Config(state_dir=tmp_path, engine=EngineConfig(threads=1, slots=2)), meter, find)


def test_a_draft_model_guesses_for_another_and_its_guesses_are_counted(
    tmp_path: Path, family: Callable[[str], StoredModel]
) -> None:
    meter = Telemetry()
    loader = _drafting(tmp_path, meter, family)
    options = LoadOptions(context_length=128, draft="small")
    alone = loader.needed(_stored("thox-nano"), LoadOptions(context_length=128))
    assert loader.needed(_stored("thox-nano"), options).total > 1.9 * alone.total
    engine = loader(_stored("thox-nano"), options, _unheard)
    try:
        for _ in range(20):  # whether a guess is worth its time is measured: the first steps may say no
            deltas = list(
                engine.generate(Request("r", ("Hello",), Sampling(max_tokens=60, temperature=0.0, ignore_eos=True)))
            )
            assert deltas[-1].usage is not None and deltas[-1].usage.completion == 60
    finally:
        engine.close()
    told = meter.render()[0].decode()
    assert 'thox_speculation_proposed_tokens_total{model="thox-nano"' in told


@pytest.mark.parametrize(
    ("draft", "error", "message"),
    [
        ("foreign", RequestError, "another vocabulary"),
        ("vectors", RequestError, "cannot guess"),
        ("thox-nano", RequestError, "cannot guess"),
    ],
)
def test_a_draft_that_cannot_be_one_is_refused(
    draft: str, error: type[Exception], message: str, tmp_path: Path, family: Callable[[str], StoredModel]
) -> None:
    loader = _drafting(tmp_path, Telemetry(), family)
    with pytest.raises(error, match=message) as caught:
        loader(_stored("thox-nano"), LoadOptions(context_length=128, draft=draft), _unheard)
    assert isinstance(caught.value, ThoxError) and caught.value.param == "options.draft"


def test_a_draft_that_is_not_there_is_told_from_a_model_that_is_not_there(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store", {})
    with pytest.raises(NotFoundError) as caught:
        _drafting(tmp_path, Telemetry(), store.find).needed(_stored("thox-nano"), LoadOptions(draft="gone"))
    assert caught.value.param == "options.draft"
