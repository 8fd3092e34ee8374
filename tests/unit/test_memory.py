"""What a model will take is known before it is loaded, and a real process takes just that."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import pytest
from fake_models import write_checkpoint

from agent.errors import EngineError
from agent.models.checkpoint import StoredModel, inspect
from agent.models.checkpoint_sizes import Sizes, Widths
from agent.models.memory import (
    LIBRARIES,
    Settings,
    anonymous_bytes,
    available_bytes,
    cache_bytes,
    estimate,
    weight_bytes,
)
from agent.models.options import LoadOptions

GIB = 1 << 30
CONTEXT = 512
LAYERS = 28
# 105 million parameters in a shape that no model has: narrow, so that a token is computed quickly, and with so many
# wide heads that a wrong size of the cache, or of the weights, is more than the tenth that is allowed.
CONFIG: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 160_000,
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 128,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": True,
}


def write_random(folder: Path) -> Path:
    """A random checkpoint in float16, written in a second: one block of weights over and over."""
    from agent.engine.decoder import DecoderSpec

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    header: dict[str, object] = {}
    end = 0
    for name, shape in DecoderSpec.from_config(CONFIG).tensors(range(LAYERS)).items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    block = (np.random.default_rng(0).standard_normal(1 << 20) * 0.03).astype(np.float16).tobytes()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for left in range(end, 0, -len(block)):
            file.write(block[:left])
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random(tmp_path_factory.mktemp("memory") / "random")


@pytest.fixture(scope="module")
def processes() -> Iterator[ForkServerContext]:
    """Each case is a process of its own, forked from one that has imported what all need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["agent.engine.openvino"])
    yield context


def load_and_fill(folder: Path, quantisation: str, cache_type: str, told: multiprocessing.Queue[int]) -> None:
    """In a process of its own: how much it grew, with every page of the cache written.

    In anonymous memory. How many pages of the libraries are mapped depends on how those came into the page cache.
    """
    from agent.engine.base import Chunk
    from agent.engine.decoder import DecoderSpec
    from agent.engine.openvino import open_openvino
    from agent.engine.weights import Checkpoint

    before = anonymous_bytes()
    runner = open_openvino(
        Checkpoint.open(folder),
        DecoderSpec.from_config(CONFIG),
        quantisation,  # type: ignore[arg-type]
        slots=4,
        context_length=CONTEXT,
        cache_tokens=CONTEXT,
        threads=2,
        cache=folder / "cache",
        cache_type=cache_type,  # type: ignore[arg-type]
    )
    runner.begin(0, [0])
    assert runner.reserve(0, CONTEXT)
    for start in range(0, CONTEXT, 256):
        runner.forward([Chunk(0, start, tuple(range(256)))])
    told.put(anonymous_bytes() - before)
    runner.close()


@pytest.mark.parametrize(("quantisation", "cache_type"), [("int4", "u8"), ("int8", "f16")])
def test_the_estimate_is_within_a_tenth_of_what_a_process_takes(
    checkpoint: Path, processes: ForkServerContext, quantisation: str, cache_type: str
) -> None:
    settings = Settings(threads=2, slots=4, cache_tokens=CONTEXT, prefill_tokens=256)
    model = inspect("random", checkpoint, builtin=False)
    options = LoadOptions(CONTEXT, quantisation, cache_type=cache_type)
    expected = estimate(model, options, settings)
    told: multiprocessing.Queue[int] = processes.Queue()
    process = processes.Process(target=load_and_fill, args=(checkpoint, quantisation, cache_type, told))
    process.start()
    grown = told.get(timeout=90)
    process.join(30)
    assert process.exitcode == 0
    tokenizer = 600 * model.widths.vocabulary  # this process has none
    assert grown == pytest.approx(expected.total - tokenizer - LIBRARIES, rel=0.1), f"{expected}"


def test_the_estimate_follows_weights_quantisation_cache_and_context() -> None:
    eight = 8_000_000_000
    sizes = Sizes(embedding=500_000_000, head=500_000_000, grouped=7_000_000_000)
    gib = {kind: weight_bytes(sizes, kind) / GIB for kind in ("int4", "int4-g32", "int8", "float")}
    assert 3.8 < gib["int4"] < 4.0 and 4.1 < gib["int4-g32"] < 4.3 and 6.9 < gib["int8"] < 7.1
    assert gib["float"] == pytest.approx(4 * (2 * eight - sizes.embedding) / GIB)
    widths = Widths(layers=32, heads=32, kv_heads=8, head_size=128, hidden=4096, feed_forward=14336, vocabulary=128_256)
    assert cache_bytes(widths, "f16", 8192) == 8192 * widths.cached * 2 == GIB
    assert cache_bytes(widths, "f32", 8192) == 2 * GIB
    assert cache_bytes(widths, "u8", 8192) == pytest.approx(0.58 * GIB, rel=0.01)  # keys 1.25 bytes, values 1.0625


def test_options_win_over_settings_and_the_models_context_over_both(tmp_path: Path) -> None:
    model = _tiny(tmp_path)
    plain = estimate(model, LoadOptions())
    assert plain.cache == cache_bytes(model.widths, "f32", 4 * 512)  # so few parameters stay float
    settings = Settings(quantisation="int8", context_length=64, cache_type="f16")
    assert estimate(model, LoadOptions(), settings).cache == cache_bytes(model.widths, "f16", 4 * 64)
    asked = estimate(model, LoadOptions(128, cache_type="u8"), settings)
    assert asked.cache == cache_bytes(model.widths, "u8", 4 * 128) and asked.weights < plain.weights
    assert estimate(model, LoadOptions(1 << 20)).cache == plain.cache
    rows = estimate(model, LoadOptions(64, slots=2), Settings(form="onnx"))
    assert rows.cache == 2 * 65 * model.widths.cached * 4
    assert asked.to_json()["needed_bytes"] == asked.weights + asked.cache + asked.workspace


def test_an_embedding_model_has_no_cache_and_holds_its_matrices_twice(tmp_path: Path) -> None:
    model = inspect("e", write_checkpoint(tmp_path / "e", embedding=True), builtin=False)
    assert estimate(model, LoadOptions()).cache == 0 and estimate(model, LoadOptions()).weights == 4 * 2 * 32


def test_free_and_held_memory_are_the_kernels_own_figures(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  10 kB\nMemAvailable:   7 kB\n")
    (tmp_path / "status").write_text("VmRSS:  10 kB\nRssAnon:   3 kB\n")
    assert available_bytes(tmp_path / "meminfo") == 7 * 1024 and anonymous_bytes(tmp_path / "status") == 3 * 1024
    assert available_bytes() > 1 << 20 < anonymous_bytes()
    for read in (available_bytes, anonymous_bytes):
        (tmp_path / "nothing").write_text("")
        with pytest.raises(EngineError):
            read(tmp_path / "nothing")


def _tiny(folder: Path) -> StoredModel:
    return inspect("a", write_checkpoint(folder / "a"), builtin=False)
