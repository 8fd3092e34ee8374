"""What is ONNX Runtime's own affair: the layout of packed weights, neighbouring rows, and refusals."""

from __future__ import annotations

import dataclasses
import weakref

import numpy as np
import pytest
from checkpoints import assert_close, prompt_tokens, random_checkpoint
from packed_oracle import packed_oracle
from stage_forms import open_form, read_spec

from agent.engine.base import Batch, Chunk
from agent.engine.decoder import DecoderSpec
from agent.engine.onnx import OnnxStage
from agent.engine.onnx_graph import CONTRIB, GraphBuilder
from agent.engine.quantise import Quantisation
from agent.engine.weights import Checkpoint
from agent.engine.weights_packed import Weights
from agent.errors import EngineError, ModelError


def stage(family: str, quantisation: Quantisation = "float", *, rows: int = 1, **changes: int) -> OnnxStage:
    folder = random_checkpoint(family).folder
    spec = read_spec(folder)
    layers = range(spec.layers)
    weights = Weights.open(Checkpoint.open(folder), spec, layers, quantisation, cache=None, threads=2)
    shape: DecoderSpec = dataclasses.replace(spec, **changes)  # type: ignore[arg-type]
    return OnnxStage(shape, layers, weights, rows=rows, row_tokens=64, exact=True, threads=2)


# Groups of 128, and of 32; biases; experts, whose weights are shares of all or add up to 1.
@pytest.mark.parametrize("family", ["llama", "llama-biased", "qwen2", "gemma2", "qwen2-moe", "qwen3-moe"])
@pytest.mark.parametrize("quantisation", ["int8", "int4"])
def test_packed_weights_are_read_exactly(family: str, quantisation: Quantisation) -> None:
    tokens = prompt_tokens(24)
    one = stage(family, quantisation)
    logits = one.run(np.array(tokens, np.int64), Batch((Chunk(0, 0, tokens, "all"),), ((0,),), 64))
    assert_close(logits, packed_oracle(random_checkpoint(family).folder, quantisation).logits(tokens))
    one.close()


def test_rows_between_decoding_ones_keep_what_they_hold() -> None:
    checkpoint = random_checkpoint("llama")
    one = stage("llama", rows=8)
    texts = {row: prompt_tokens(20 + row, seed=row) for row in (0, 1, 3, 7)} | {2: prompt_tokens(64)}  # row 2 is full
    for row, tokens in texts.items():
        one.run(np.array(tokens, np.int64), Batch((Chunk(row, 0, tokens, "none"),), ((row,),), 64))
    # Row 1 lies idle in the first step, within its one pass; the second is worth two passes; the third, one for all.
    for rows in ((3, 0), (7, 0), (0, 1, 3, 7)):
        chunks = tuple(Chunk(row, len(texts[row]), [7]) for row in rows)
        logits = one.run(np.array([7] * len(rows), np.int64), Batch(chunks, tuple((row,) for row in rows), 64))
        for row in rows:
            texts[row].append(7)
        assert_close(logits, np.stack([checkpoint.logits(texts[row])[-1] for row in rows]))
    one.close()


def test_weights_are_not_kept_twice() -> None:
    graph = GraphBuilder("one matrix")
    values = np.zeros((256, 2, 64), np.uint8)
    names = [graph.constant(array) for array in (values, np.ones((256, 2), np.float32))]
    graph.input("x", np.float32, ["rows", 256])
    graph.output("y", np.float32, ["rows", 256])
    sizes = {"K": 256, "N": 256, "bits": 4, "block_size": 128, "accuracy_level": 4}
    graph.node("MatMulNBits", "x", *names, domain=CONTRIB, outputs=["y"], **sizes)
    session = graph.session(1)
    lent = weakref.ref(values)
    del values, graph
    assert lent() is None, "the session holds an array that it has laid out anew"
    x, y = np.ones((1, 256), np.float32), np.empty((1, 256), np.float32)
    session.run({"x": x}, {"y": y})
    assert np.allclose(y, -8 * 256)


def test_what_onnxruntime_cannot_compute_is_an_error_of_the_model() -> None:
    with pytest.raises(ModelError, match="head_dim 12"):
        stage("llama", head_dim=12)


def test_a_graph_that_onnxruntime_refuses_is_an_error_of_the_model() -> None:
    graph = GraphBuilder("nonsense")
    graph.node("NoSuchOperation", graph.input("x", np.float32, [1]), outputs=[graph.output("y", np.float32, [1])])
    with pytest.raises(ModelError, match="cannot run this model"):
        graph.session(1)


def test_there_are_as_many_slots_as_the_cache_has_room_for() -> None:
    runner = open_form("onnx", random_checkpoint("qwen2").folder, slots=3, context_length=64)
    assert (runner.slots, runner.context_length, runner.cache_use().page_tokens) == (3, 64, 64)
    runner.close()


def test_a_closed_stage_says_so() -> None:
    runner = open_form("onnx", random_checkpoint("qwen2").folder)
    runner.begin(0, [5, 6])
    runner.reserve(0, 2)
    runner.close()
    with pytest.raises(EngineError, match="closed"):
        runner.forward([Chunk(0, 0, [5, 6])])
