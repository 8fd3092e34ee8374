"""A GGUF file is the model it was made from: the same decoder, the same weights, the same tokens."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from checkpoints import assert_close, prompt_tokens, random_checkpoint, save_random
from checkpoints import oracle as load_oracle
from gguf_models import F16, interleave, tensors_of, write_gguf
from packed_oracle import unpacked
from stage_forms import FORMS, open_form

from agent.engine.base import Chunk, Floats
from agent.engine.decoder import EMBEDDING, DecoderSpec
from agent.engine.gguf_families import config_of
from agent.engine.gguf_file import GgufFile
from agent.engine.quantise import Format, Packed
from agent.engine.staged import StagedRunner
from agent.engine.weights import Checkpoint
from agent.engine.weights_packed import Weights
from agent.errors import ModelError
from agent.models.checkpoint import inspect
from agent.models.checkpoint_check import check_loadable

QUERY = "model.layers.0.self_attn.q_proj.weight"
Kind = gguf.GGMLQuantizationType
FAMILIES = ("llama", "llama-biased", "qwen2", "qwen3", "mistral", "gemma2", "gemma3", "phi3", "granite", "yarn")


def spec_of(path: Path) -> DecoderSpec:
    return DecoderSpec.from_config(config_of(GgufFile.read(path)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_gguf_gives_the_decoder_and_the_weights_it_was_made_from(family: str, tmp_path: Path) -> None:
    folder = random_checkpoint(family).folder
    if family.startswith("gemma"):  # GGUF has no place for what no Gemma varies
        folder = tmp_path / "hf"
        save_random(family, folder, query_pre_attn_scalar=32, sliding_window_pattern=6)
    config = json.loads((folder / "config.json").read_text())
    original = DecoderSpec.from_config(config)
    path = write_gguf(folder, tmp_path / "model.gguf", Kind.F32)
    spec = spec_of(path)
    # GGUF keeps some numbers in float32, and calls Mistral without its window a Llama.
    assert spec.eps == pytest.approx(original.eps)
    assert spec.attention_scale == pytest.approx(original.attention_scale)
    for length in (32, spec.context_length):
        for found, rope in zip(spec.within(length).ropes, original.within(length).ropes, strict=True):
            assert found is not None and rope is not None
            np.testing.assert_allclose(found.inverse_frequencies(), rope.inverse_frequencies(), rtol=1e-3)
            assert found.amplitude == pytest.approx(rope.amplitude)
    same = ("eps", "attention_scale", "ropes", "architecture", "residual_scale", "logit_scale", "embedding_scale")
    assert replace(spec, **{name: getattr(original, name) for name in same}) == original
    checkpoint = Checkpoint.open(tmp_path)
    assert not checkpoint.quantised
    check_loadable(inspect("x", tmp_path, builtin=False))
    for name, tensor in tensors_of(folder).items():
        np.testing.assert_allclose(checkpoint.tensor(name), tensor, atol=1e-6, err_msg=name)
        if tensor.ndim == 2:
            np.testing.assert_allclose(checkpoint.rows(name, 3, 21), tensor[3:21], atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_an_f16_gguf_writes_the_same_tokens_as_its_safetensors(family: str, form: str, tmp_path: Path) -> None:
    oracle = random_checkpoint(family)
    path = write_gguf(oracle.folder, tmp_path / "model.gguf", F16)
    (tmp_path / "config.json").write_text(json.dumps(config_of(GgufFile.read(path))))
    runner = open_form(form, tmp_path)
    try:
        prompt = prompt_tokens(40)
        assert greedy(runner, prompt, 12) == oracle.greedy(prompt, 12)
    finally:
        runner.close()


@pytest.mark.parametrize("kind", [Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1])
def test_every_row_unpacks_as_the_gguf_package_unpacks_it(kind: gguf.GGMLQuantizationType, tmp_path: Path) -> None:
    folder = random_checkpoint("llama").folder
    write_gguf(folder, tmp_path / "model.gguf", kind)
    checkpoint = Checkpoint.open(tmp_path)
    assert checkpoint.quantised == (kind != Kind.BF16)
    query = tensors_of(folder)[QUERY]
    pairs = gguf.quants.dequantize(gguf.quants.quantize(interleave(query, 6), kind), kind)
    halves = pairs.reshape(6, 16, 2, -1).swapaxes(1, 2).reshape(query.shape)
    np.testing.assert_array_equal(checkpoint.tensor(QUERY), halves)
    np.testing.assert_array_equal(checkpoint.rows(QUERY, 33, 70), halves[33:70])
    # Round to the nearest of 2 ** bits steps over each block's reach.
    steps = {Kind.BF16: 2**8, Kind.Q8_0: 254, Kind.Q5_0: 31, Kind.Q5_1: 31, Kind.Q4_0: 15, Kind.Q4_1: 15}[kind]
    assert float(np.abs(halves - query).max()) < 2 * float(np.abs(query).max()) / steps


@pytest.mark.parametrize("kind", [Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K, Kind.IQ4_NL, Kind.IQ4_XS])
def test_blocks_that_only_llama_cpp_can_write_are_read(kind: gguf.GGMLQuantizationType, tmp_path: Path) -> None:
    weights, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = np.random.default_rng(1).integers(0, 256, (192, 256 // weights * size), np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "blocks.gguf", "llama")
    for key in ("head_count", "head_count_kv"):
        writer.add_uint32(f"llama.attention.{key}", 6)
    writer.add_tensor("blk.0.ffn_up.weight", blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    checkpoint = Checkpoint.open(tmp_path)
    name = "model.layers.0.mlp.up_proj.weight"
    assert checkpoint.shapes == {name: (192, 256)} and checkpoint.quantised
    with np.errstate(all="ignore"):  # random bytes make scales that are no numbers
        expected = gguf.quants.dequantize(blocks, kind)
        np.testing.assert_array_equal(checkpoint.tensor(name), expected)
        np.testing.assert_array_equal(checkpoint.rows(name, 5, 9), expected[5:9])


def test_q4_0_is_taken_bit_by_bit_and_never_quantised_a_second_time(tmp_path: Path) -> None:
    folder = random_checkpoint("llama").folder
    path = write_gguf(folder, tmp_path / "model.gguf", Kind.Q4_0)
    checkpoint, spec = Checkpoint.open(tmp_path), spec_of(path)
    for quantisation in ("stored", "int4", "int4-g32"):
        weights = Weights.open(checkpoint, spec, range(spec.layers), quantisation, cache=None, threads=2)
        packed = weights.matrix(QUERY)
        assert isinstance(packed, Packed) and packed.format == Format(4, 32)
        np.testing.assert_array_equal(unpacked(packed), checkpoint.tensor(QUERY))
        embedding = weights.matrix(EMBEDDING)
        assert isinstance(embedding, Packed) and embedding.format.bits == 8


def test_what_is_no_int4_of_ours_becomes_int8_as_stored(tmp_path: Path) -> None:
    folder = random_checkpoint("qwen3").folder
    path = write_gguf(folder, tmp_path / "model.gguf", Kind.Q5_1)
    checkpoint, spec = Checkpoint.open(tmp_path), spec_of(path)
    weights = Weights.open(checkpoint, spec, range(spec.layers), "stored", cache=None, threads=2)
    packed = weights.matrix(QUERY)
    assert isinstance(packed, Packed) and packed.format.bits == 8
    exact = checkpoint.tensor(QUERY)
    # Half a step of a row's own scale, and float16's rounding of it: a tenth of what Q5_1 lost before.
    bound = np.abs(exact).max(axis=1, keepdims=True) / 127 * 0.51
    assert (np.abs(unpacked(packed) - exact) <= bound).all()


@pytest.mark.parametrize("form", FORMS)
def test_logits_of_a_quantised_gguf_are_those_of_its_own_weights(form: str, tmp_path: Path) -> None:
    import torch

    oracle = random_checkpoint("llama")
    path = write_gguf(oracle.folder, tmp_path / "model.gguf", Kind.Q4_0)
    (tmp_path / "config.json").write_text(json.dumps(config_of(GgufFile.read(path))))
    checkpoint = Checkpoint.open(tmp_path)
    spec = spec_of(path)
    weights = Weights.open(checkpoint, spec, range(spec.layers), "stored", cache=None, threads=2)
    model = load_oracle(oracle.folder)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            matrix = weights.matrix(name)
            exact = unpacked(matrix) if isinstance(matrix, Packed) else np.array(matrix)
            parameter.copy_(torch.from_numpy(exact))
    prompt = prompt_tokens(24)
    with torch.no_grad():
        expected = model(torch.tensor([prompt])).logits[0, -1:].numpy()
    runner = open_form(form, tmp_path, "stored")
    try:
        found = forward(runner, prompt)
    finally:
        runner.close()
    # Activations and the cache in int8, as in the forms' own tests of packed weights.
    assert_close(found, expected, 0.06)


def test_a_model_in_parts_reads_as_one(tmp_path: Path) -> None:
    folder = random_checkpoint("qwen2").folder
    write_gguf(folder, tmp_path / "whole.gguf", Kind.F32)
    whole = GgufFile.read(tmp_path / "whole.gguf")
    parts = tmp_path / "parts"
    parts.mkdir()
    names = list(whole.tensors)
    for number, chosen in enumerate((names[:5], names[5:]), 1):
        writer = gguf.GGUFWriter(parts / f"m-{number:05}-of-00002.gguf", "qwen2")
        for key in ("head_count", "head_count_kv"):
            writer.add_uint32(f"qwen2.attention.{key}", 5)
        reader = gguf.GGUFReader(tmp_path / "whole.gguf")
        for tensor in reader.tensors:
            if tensor.name in chosen:
                writer.add_tensor(tensor.name, np.array(tensor.data))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    found, expected = Checkpoint.open(parts), tensors_of(folder)
    assert found.shapes == {name: tensor.shape for name, tensor in expected.items()}
    np.testing.assert_array_equal(found.tensor(QUERY), expected[QUERY])
    (parts / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(ModelError, match=r"m-00002-of-00002\.gguf is missing"):
        Checkpoint.open(parts)


def test_two_models_in_one_folder_are_refused_and_safetensors_go_first(tmp_path: Path) -> None:
    folder = random_checkpoint("qwen2").folder
    write_gguf(folder, tmp_path / "a.gguf")
    write_gguf(folder, tmp_path / "b.gguf")
    with pytest.raises(ModelError, match=r"several models: a\.gguf, b\.gguf"):
        Checkpoint.open(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    assert QUERY in Checkpoint.open(tmp_path).shapes


def test_an_architecture_that_nobody_knows_is_named(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "nobody")
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match="nobody") as caught:
        Checkpoint.open(tmp_path)
    assert caught.value.hint is not None and "qwen3" in caught.value.hint


def forward(runner: StagedRunner, prompt: list[int]) -> Floats:
    runner.begin(0, prompt)
    assert runner.reserve(0, len(prompt))
    return np.array(runner.forward([Chunk(0, 0, tuple(prompt))]))


def greedy(runner: StagedRunner, prompt: list[int], count: int) -> list[int]:
    runner.begin(0, prompt)
    tokens, start = list(prompt), 0
    for _ in range(count):
        assert runner.reserve(0, len(tokens))
        logits = runner.forward([Chunk(0, start, tuple(tokens[start:]))])
        start = len(tokens)
        tokens.append(int(logits[-1].argmax()))
    return tokens[len(prompt) :]
