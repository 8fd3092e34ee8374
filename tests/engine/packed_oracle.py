"""transformers with the weights that packed ones stand for."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from checkpoints import RandomCheckpoint, oracle
from stage_forms import read_spec

from agent.engine.base import Floats
from agent.engine.quantise import Packed, Quantisation
from agent.engine.weights import Checkpoint
from agent.engine.weights_packed import Weights


def unpacked(packed: Packed) -> Floats:
    """value * scale, [outputs, inputs]."""
    outputs, inputs = packed.shape
    values = packed.values.astype(np.int16)
    if packed.format.bits == 4:
        nibbles = np.stack([values & 0xF, values >> 4], axis=2).reshape(outputs, inputs)
        values = np.where(nibbles > 7, nibbles - 16, nibbles)
    groups = values.reshape(outputs, -1, packed.format.group) * packed.scales.astype(np.float32)[..., None]
    return groups.reshape(outputs, inputs).astype(np.float32)


@functools.cache
def packed_oracle(folder: Path, quantisation: Quantisation) -> RandomCheckpoint:
    """The oracle of a checkpoint whose matrices are packed and unpacked again."""
    import torch

    spec = read_spec(folder)
    layers = range(spec.layers)
    weights = Weights.open(Checkpoint.open(folder), spec, layers, quantisation, cache=None, threads=2)
    model = oracle(folder)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # transformers keeps the experts of a layer in two tensors, [experts, outputs, inputs].
            before, experts, after = name.partition(".experts.")
            parts = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}.get(after, ())
            names = [f"{before}{experts}{part}.weight" for part in parts] if experts else [name]
            matrices = [matrix for matrix in map(weights.matrix, names) if isinstance(matrix, Packed)]
            if matrices:
                shape = (parameter.shape[0], -1, parameter.shape[2]) if experts else parameter.shape
                floats = [unpacked(matrix).reshape(shape) for matrix in matrices]
                parameter.copy_(torch.from_numpy(np.concatenate(floats, axis=1 if experts else 0)))
    return RandomCheckpoint(f"{folder.name} {quantisation}", folder, model)
