"""Int4 that GPTQ or AWQ made keeps its codes, scales and zero points to the last bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from checkpoints import assert_close, prompt_tokens, random_checkpoint
from checkpoints import oracle as load_oracle
from int4_models import quantise_folder
from stage_forms import FORMS, open_form, read_spec

from agent.engine.base import Chunk, Floats
from agent.engine.decoder import EMBEDDING
from agent.engine.quantise import Format, Packed
from agent.engine.weights import Checkpoint
from agent.engine.weights_packed import Weights
from agent.errors import ModelError

MATRIX = "model.layers.1.mlp.down_proj.weight"  # [384, 256]


def packed_of(folder: Path, name: str = MATRIX) -> Packed:
    spec = read_spec(folder)
    weights = Weights.open(Checkpoint.open(folder), spec, range(spec.layers), "stored", cache=None, threads=2)
    packed = weights.matrix(name)
    assert isinstance(packed, Packed)
    return packed


def value_of(packed: Packed) -> Floats:
    """(value - zero) * scale, by the words of the layout."""
    outputs, inputs = packed.shape
    codes = np.stack([packed.values & 0xF, packed.values >> 4], axis=2).reshape(outputs, inputs).astype(np.float32)
    if packed.zeros is None:
        codes = np.where(codes > 7, codes - 16, codes)
    else:
        codes -= np.repeat(packed.zeros, packed.format.group, axis=1)
    result: Floats = codes * np.repeat(packed.scales.astype(np.float32), packed.format.group, axis=1)
    return result


@pytest.mark.parametrize(
    ("method", "group", "symmetric", "format"),
    [
        ("gptq", 128, True, Format(4, 128)),
        ("gptq", 128, False, Format(4, 128, zeros=True)),
        ("gptq", 64, True, Format(4, 64)),
        ("gptq", -1, True, Format(4, 128)),
        ("awq", 128, False, Format(4, 128, zeros=True)),
        ("awq", 32, False, Format(4, 32, zeros=True)),
    ],
)
def test_codes_scales_and_zero_points_are_taken_as_they_are(
    method: str, group: int, symmetric: bool, format: Format, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    exact = quantise_folder(random_checkpoint("llama").folder, folder, method, group=group, symmetric=symmetric)
    checkpoint = Checkpoint.open(folder)
    assert checkpoint.quantised and checkpoint.native(MATRIX) == format
    assert checkpoint.shapes == {name: weight.shape for name, weight in exact.items()}
    for name, weight in exact.items():
        np.testing.assert_array_equal(checkpoint.tensor(name), weight, err_msg=name)
    np.testing.assert_array_equal(checkpoint.rows(MATRIX, 5, 21), exact[MATRIX][5:21])
    packed = packed_of(folder)
    assert packed.format == format
    np.testing.assert_array_equal(value_of(packed), exact[MATRIX])
    assert packed_of(folder, EMBEDDING).format.bits == 8


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("method", "symmetric"), [("gptq", True), ("awq", False)])
def test_logits_are_those_of_the_weights_that_the_codes_stand_for(
    method: str, symmetric: bool, form: str, tmp_path: Path
) -> None:
    import torch

    source, folder = random_checkpoint("llama"), tmp_path / "model"
    exact = quantise_folder(source.folder, folder, method, group=128, symmetric=symmetric)
    model = load_oracle(source.folder)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(exact[name]))
        prompt = prompt_tokens(24)
        expected = model(torch.tensor([prompt])).logits[0, -1:].numpy()
    runner = open_form(form, folder, "stored")
    try:
        runner.begin(0, prompt)
        assert runner.reserve(0, len(prompt))
        logits = np.array(runner.forward([Chunk(0, 0, tuple(prompt))]))
    finally:
        runner.close()
    # Embedding, activations and cache in int8, as in the forms' own tests; a wrong zero point gives other logits.
    assert_close(logits, expected, 0.06)


def test_groups_in_no_order_become_int8(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    exact = quantise_folder(
        random_checkpoint("llama").folder, folder, "gptq", group=128, symmetric=False, shuffled=True
    )
    checkpoint = Checkpoint.open(folder)
    assert checkpoint.native(MATRIX) is None
    np.testing.assert_array_equal(checkpoint.tensor(MATRIX), exact[MATRIX])
    assert packed_of(folder).format == Format(8, 256)


def test_the_second_version_of_gptq_stores_zero_points_themselves(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    exact = quantise_folder(random_checkpoint("llama").folder, folder, "gptq", group=128, symmetric=True)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"]["checkpoint_format"] = "gptq_v2"
    (folder / "config.json").write_text(json.dumps(config))
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    tensors |= {name: value + 0x11111111 for name, value in tensors.items() if name.endswith("qzeros")}
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    np.testing.assert_array_equal(Checkpoint.open(folder).tensor(MATRIX), exact[MATRIX])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"bits": 3}, "3 bits"),
        ({"quant_method": "awq", "version": "gemv"}, "gemv"),
    ],
)
def test_other_compressions_are_refused_by_name(change: dict[str, object], named: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    quantise_folder(random_checkpoint("llama").folder, folder, "gptq", group=128, symmetric=True)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] |= change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=named) as caught:
        Checkpoint.open(folder)
    assert caught.value.hint or "gemv" in named


@pytest.mark.parametrize("part", ["qzeros", "scales", "g_idx"])
def test_parts_that_do_not_fit_each_other_are_refused(part: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    quantise_folder(random_checkpoint("llama").folder, folder, "gptq", group=128, symmetric=True)
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    name = f"model.layers.0.mlp.up_proj.{part}"
    tensors[name] = tensors[name] + 77 if part == "g_idx" else tensors[name][:, :-1].copy()
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"layers\.0\.mlp\.up_proj"):
        Checkpoint.open(folder)
