"""Adapters on disk as PEFT writes them, and a base that fits them, without PEFT: small, and broken as asked."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from fake_models import write_checkpoint

Sizes = Mapping[str, tuple[int, int]]  # outputs and inputs of each matrix that is changed

HIDDEN = 16
CHANGES: Sizes = {"model.layers.0.self_attn.q_proj": (HIDDEN, HIDDEN), "model.layers.1.mlp.down_proj": (HIDDEN, 24)}


def write_base(folder: Path) -> Path:
    """A fake checkpoint whose config says all that a decoder needs."""
    write_checkpoint(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 24, "vocab_size": 32}))
    return folder


def write_adapter(
    folder: Path, base: str, changes: Sizes = CHANGES, *, rank: int = 4, strength: float = 0.0, **config: object
) -> Path:
    """An adapter with random tensors; ``strength`` 0: it changes nothing. ``config``: what differs in its config."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": sorted({name.rpartition(".")[2] for name in changes}),
        "bias": "none",
        **config,
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    draw = np.random.default_rng(rank)
    tensors = {}
    for name, (outputs, inputs) in changes.items():
        before = f"base_model.model.{name}.lora_"
        tensors[f"{before}A.weight"] = draw.normal(0, inputs**-0.5, (rank, inputs))
        tensors[f"{before}B.weight"] = draw.normal(0, 1, (outputs, rank)) * strength
    write_tensors(folder / "adapter_model.safetensors", tensors)
    return folder


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """A safetensors file of float32."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = tensor.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    told = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(told)) + told + data)
