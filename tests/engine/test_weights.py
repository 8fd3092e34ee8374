"""Weights are read without a copy, packed once, and a packed file that is not whole is never trusted."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from checkpoints import random_checkpoint, save_random
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_oracle import unpacked
from stage_forms import read_spec

from agent.engine.decoder import EMBEDDING
from agent.engine.quantise import Format, Packed, Quantisation, choose_format, quantise, value_layout
from agent.engine.weights import Checkpoint
from agent.engine.weights_packed import Weights
from agent.errors import EngineError, ModelError

MATRIX = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_every_float_type_reads_as_its_exact_float32(dtype: str, tmp_path: Path) -> None:
    import safetensors.torch

    save_random("llama", tmp_path, dtype=dtype)
    checkpoint = Checkpoint.open(tmp_path)
    expected = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert set(checkpoint.shapes) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(checkpoint.tensor(name), value.float().numpy())
    np.testing.assert_array_equal(checkpoint.rows(MATRIX, 3, 9), expected[MATRIX].float().numpy()[3:9])


def test_a_sharded_checkpoint_reads_like_a_whole_one(tmp_path: Path) -> None:
    save_random("qwen3", tmp_path, shards="600KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    whole, sharded = Checkpoint.open(random_checkpoint("qwen3").folder), Checkpoint.open(tmp_path)
    assert whole.shapes == sharded.shapes
    np.testing.assert_array_equal(whole.tensor(MATRIX), sharded.tensor(MATRIX))
    min(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(ModelError, match="is missing"):
        Checkpoint.open(tmp_path)


def test_a_broken_checkpoint_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        Checkpoint.open(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = (random_checkpoint("llama").folder / "model.safetensors").read_bytes()
    for broken in (b"", whole[:7], whole[:5000], whole[:-1], b"\xff" * 64, whole + b"x"):
        path.write_bytes(broken)
        with pytest.raises(ModelError, match=r"model\.safetensors cannot be read"):
            Checkpoint.open(tmp_path)
    path.unlink()
    index = tmp_path / "model.safetensors.index.json"
    for text in ("", "[]", '{"weight_map": {"a": "../../etc/passwd"}}', '{"weight_map": {"a": 1}}'):
        index.write_text(text)
        with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json"):
            Checkpoint.open(tmp_path)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([Format(8, 256), Format(4, 128), Format(4, 32)]),
    st.integers(0, 2**32 - 1),
    st.floats(-9, 4),
    st.integers(0, 4),
)
def test_a_packed_weight_is_within_half_a_step_of_its_own(format: Format, seed: int, power: float, zeros: int) -> None:
    random = np.random.default_rng(seed)
    rows = (random.standard_normal((5, 256)) * 10.0**power).astype(np.float32)
    rows[:zeros] = 0
    kind, shape = value_layout(format, (5, 256))
    packed = Packed((5, 256), format, np.empty(shape, kind), np.empty((5, 256 // format.group), np.float16))
    quantise(rows.copy(), format, packed.values, packed.scales)
    steps = np.repeat(np.abs(packed.scales.astype(np.float64)), format.group, axis=1)
    error = np.abs(unpacked(packed) - rows)
    # Half a step; where int4 has the sign for which +8 is missing, a whole one. A scale of float16 is off by 2**-11
    # at most, and below float16's normal numbers, 6e-5, by 2**-25.
    bound = steps * (0.5 if format.bits == 8 else 1.0)
    assert (error <= bound + np.abs(rows) * 2.0**-10 + 2.0**-25 * 127).all()
    assert not unpacked(packed)[:zeros].any()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([Format(8, 384), Format(8, 100), Format(4, 128), Format(4, 64), Format(4, 32)]),
    st.integers(0, 2**32 - 1),
    st.floats(-9, 4),
)
def test_packing_gives_the_bits_of_its_definition(format: Format, seed: int, power: float) -> None:
    inputs = 100 if format.group == 100 else 384
    rows = (np.random.default_rng(seed).standard_normal((5, inputs)) * 10.0**power).astype(np.float32)
    rows[seed % 5] = 0
    kind, shape = value_layout(format, (5, inputs))
    values, scales = np.empty(shape, kind), np.empty((5, inputs // format.group), np.float16)
    quantise(rows.copy(), format, values, scales)
    # One group after the other, one value after the other.
    groups = rows.reshape(5, -1, format.group)
    high, low = groups.max(axis=2), groups.min(axis=2)
    exact = np.maximum(high, -low) / 127 if format.bits == 8 else np.where(high > -low, high, low) / -8
    expected = np.where(np.abs(exact) < 2.0**-24, 2.0**-24, exact).astype(np.float16)
    np.testing.assert_array_equal(scales, expected)
    steps = np.rint(groups * (1 / expected.astype(np.float32))[..., None])
    whole = np.clip(steps, *((-127, 127) if format.bits == 8 else (-8, 7))).astype(int).reshape(5, inputs)
    if format.bits == 8:
        np.testing.assert_array_equal(values, whole)
    else:
        np.testing.assert_array_equal(
            values, [[(a & 15) | (b & 15) << 4 for a, b in row.reshape(-1, 2)] for row in whole]
        )


def test_int4_is_two_nibbles_a_byte_the_even_input_low() -> None:
    rows = np.array([[-8, 7, 1, -1] * 8], np.float32)
    values, scales = np.empty((1, 16), np.uint8), np.empty((1, 1), np.float16)
    quantise(rows, Format(4, 32), values, scales)
    assert scales[0, 0] == 1
    assert values[0, :2].tolist() == [0x78, 0xF1]


def test_groups_fall_back_where_inputs_do_not_divide() -> None:
    assert choose_format("int4", MATRIX, (10, 256)) == Format(4, 128)
    assert choose_format("int4", MATRIX, (10, 160)) == Format(4, 32)
    assert choose_format("int4-g32", MATRIX, (10, 256)) == Format(4, 32)
    assert choose_format("int4", MATRIX, (10, 100)) == Format(8, 100)
    assert choose_format("int4", EMBEDDING, (10, 256)) == Format(8, 256)
    assert choose_format("float", MATRIX, (10, 256)) is None


def open_weights(folder: Path, cache: Path | None, quantisation: Quantisation = "int4") -> Weights:
    spec = read_spec(folder)
    return Weights.open(Checkpoint.open(folder), spec, range(spec.layers), quantisation, cache=cache, threads=2)


def matrix(weights: Weights) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    packed = weights.matrix(MATRIX)
    assert isinstance(packed, Packed)
    return unpacked(packed)


@pytest.mark.parametrize("quantisation", ["int8", "int4"])
def test_the_second_start_maps_what_the_first_one_packed(quantisation: Quantisation, tmp_path: Path) -> None:
    import safetensors.numpy

    folder = random_checkpoint("llama").folder
    first = matrix(open_weights(folder, tmp_path, quantisation))
    (file,) = tmp_path.iterdir()
    written = file.stat()
    np.testing.assert_array_equal(matrix(open_weights(folder, tmp_path, quantisation)), first)
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    np.testing.assert_array_equal(matrix(open_weights(folder, None, quantisation)), first)
    assert MATRIX in safetensors.numpy.load_file(file), "any reader of safetensors can open it"


@pytest.mark.parametrize("place", [0, 100, -100, 0.5])
def test_a_cache_file_with_one_wrong_byte_is_built_anew(place: float, tmp_path: Path) -> None:
    folder = random_checkpoint("qwen2").folder
    first = matrix(open_weights(folder, tmp_path))
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    whole = bytes(data)
    data[int(len(data) * place) if isinstance(place, float) else place] ^= 1
    file.write_bytes(data)
    np.testing.assert_array_equal(matrix(open_weights(folder, tmp_path)), first)
    assert file.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [file], "nothing half-written is left"


@pytest.mark.parametrize("length", [0, 1000, -1])
def test_a_cache_file_that_is_cut_off_is_built_anew(length: int, tmp_path: Path) -> None:
    folder = random_checkpoint("qwen2").folder
    first = matrix(open_weights(folder, tmp_path))
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:length])
    np.testing.assert_array_equal(matrix(open_weights(folder, tmp_path)), first)
    assert file.read_bytes() == whole


def test_a_checkpoint_that_changed_is_packed_anew(tmp_path: Path) -> None:
    import safetensors.torch

    source = random_checkpoint("mistral").folder
    folder = tmp_path / "model"
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    first = matrix(open_weights(folder, tmp_path / "cache"))
    doubled = {name: value * 2 for name, value in random_checkpoint("mistral").model.state_dict().items()}
    safetensors.torch.save_file(doubled, folder / "model.safetensors")
    np.testing.assert_allclose(matrix(open_weights(folder, tmp_path / "cache")), first * 2, rtol=1e-3)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    import safetensors.torch

    source = random_checkpoint("mistral")
    (tmp_path / "config.json").write_bytes((source.folder / "config.json").read_bytes())
    values = {name: value.clone() for name, value in source.model.state_dict().items()}
    values[MATRIX][5, 7] = float("nan")
    safetensors.torch.save_file(values, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"model\.layers\.0\.mlp\.up_proj\.weight has weights that are not finite"):
        open_weights(tmp_path, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_folder_that_cannot_be_written_is_an_engine_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="cannot be") as caught:
        open_weights(random_checkpoint("mistral").folder, tmp_path / "file" / "cache")
    assert caught.value.hint


def test_a_file_that_a_dead_process_left_behind_is_swept(tmp_path: Path) -> None:
    left = tmp_path / "int4-0-3.safetensors.abc.part"
    young = tmp_path / "int4-0-3.safetensors.xyz.part"
    left.write_text("")
    young.write_text("")
    os.utime(left, (0, 0))
    open_weights(random_checkpoint("mistral").folder, tmp_path)
    assert not left.exists() and young.exists()
