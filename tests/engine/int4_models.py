"""Checkpoints of GPTQ and AWQ, packed from plain codes as AutoGPTQ and AutoAWQ pack them, one weight at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch

from agent.engine.base import Floats

_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def quantise_folder(
    folder: Path, target: Path, method: str, *, group: int, symmetric: bool, shuffled: bool = False
) -> dict[str, Floats]:
    """Write a checkpoint with its layers' matrices in int4; the weights that it then stands for, by name.

    ``shuffled``: inputs belong to groups in no order (GPTQ's desc_act).
    """
    target.mkdir()
    config = json.loads((folder / "config.json").read_text())
    random = np.random.default_rng(4)
    exact: dict[str, Floats] = {}
    written: dict[str, Any] = {}
    for name, value in safetensors.torch.load_file(folder / "model.safetensors").items():
        weight: Floats = value.float().numpy()
        exact[name] = weight
        if weight.ndim != 2 or ".layers." not in name:
            written[name] = weight.astype(np.float16)
            exact[name] = written[name].astype(np.float32)
            continue
        inputs = weight.shape[1]
        size = inputs if group == -1 else group
        groups = np.arange(inputs) // size
        if shuffled:
            groups = random.permutation(groups)
        codes, zeros, scales = _quantise(weight, groups, symmetric)
        exact[name] = (codes - zeros[:, groups].astype(np.float32)) * scales[:, groups].astype(np.float32)
        prefix = name.removesuffix("weight")
        written[f"{prefix}scales"] = np.ascontiguousarray(scales.T)
        if method == "awq":
            written[f"{prefix}qweight"] = _pack_columns(codes.T, _AWQ_ORDER)
            written[f"{prefix}qzeros"] = _pack_columns(zeros.T, _AWQ_ORDER)
        else:
            written[f"{prefix}qweight"] = _pack_columns(codes, range(8)).T.copy()
            written[f"{prefix}qzeros"] = _pack_columns((zeros.T - 1) & 15, range(8))
            written[f"{prefix}g_idx"] = groups.astype(np.int32)
    safetensors.numpy.save_file(written, target / "model.safetensors")
    compression: dict[str, object] = {"quant_method": method, "bits": 4, "group_size": group}
    compression |= (
        {"version": "gemm", "zero_point": True} if method == "awq" else {"desc_act": shuffled, "sym": symmetric}
    )
    (target / "config.json").write_text(json.dumps({**config, "quantization_config": compression}))
    return exact


def _quantise(weight: Floats, groups: Any, symmetric: bool) -> tuple[Any, Any, Any]:  # noqa: ANN401
    """Codes of 0 to 15, [outputs, inputs]; zero points and scales, [outputs, groups]."""
    count = int(groups.max()) + 1
    zeros = np.full((len(weight), count), 8, np.int64)
    scales = np.zeros((len(weight), count), np.float16)
    codes = np.zeros(weight.shape, np.int64)
    for group in range(count):
        inside = groups == group
        part = weight[:, inside]
        low, high = np.minimum(part.min(axis=1), 0), np.maximum(part.max(axis=1), 0)
        scales[:, group] = np.maximum(-low, high) / 7.5 if symmetric else (high - low) / 15
        scale = scales[:, group].astype(np.float32)
        if not symmetric:
            zeros[:, group] = np.clip(np.rint(-low / scale), 0, 15)
        codes[:, inside] = np.clip(np.rint(part / scale[:, None]) + zeros[:, group, None], 0, 15)
    return codes, zeros, scales


def _pack_columns(values: Any, order: Any) -> Any:  # noqa: ANN401
    """Eight neighbours of the last dimension in an int32: nibble i holds the one that ``order`` names."""
    packed = np.zeros((values.shape[0], values.shape[1] // 8), np.uint32)
    for place, column in enumerate(order):
        packed |= values[:, column::8].astype(np.uint32) << np.uint32(4 * place)
    return packed.view(np.int32)
