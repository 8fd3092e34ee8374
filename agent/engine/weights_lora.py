"""Adapters that are served together, stacked: which rows of the stack a step needs, and which token gets which.

The matrices of all adapters lie one below the other, so those of one adapter, or of neighbours, are one array without
a copy. A step computes the rows between the first and the last adapter that any of its tokens uses, and a mask leaves
to each token those of its own adapter. A step without adapters computes no rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from agent.engine.base import Floats
from agent.engine.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS, LoraSpec, matrices
from agent.engine.weights import map_tensors
from agent.engine.weights_tensor import Tensor
from agent.errors import ModelError


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter's changes, and the tensors that they name."""

    name: str
    spec: LoraSpec
    tensors: Mapping[str, Tensor]

    @classmethod
    def open(cls, name: str, folder: Path) -> Adapter:
        """Map an adapter's weights. Raises ModelError for what is broken, or cannot be served."""
        try:
            config = json.loads((folder / ADAPTER_CONFIG).read_text())
        except (OSError, ValueError) as error:
            raise ModelError(f"{ADAPTER_CONFIG} of {name} cannot be read: {error}") from error
        _, tensors = map_tensors(folder / ADAPTER_WEIGHTS)  # the tensors hold the map
        spec = LoraSpec.read(config, {tensor: found.shape for tensor, found in tensors.items()})
        for tensor, found in tensors.items():
            if not np.isfinite(found.whole()).all():
                raise ModelError(f"{tensor} of {name} has numbers that are not finite", hint="pull the adapter again")
        return cls(name, spec, tensors)


class AdapterStack:
    """The adapters of a stage. They are numbered from 1, in their order; 0 is none."""

    def __init__(self, adapters: Sequence[Adapter], base: Mapping[str, tuple[int, ...]]) -> None:
        """``base``: names and shapes of the stage's tensors; what belongs to other stages is left out."""
        ends = np.cumsum([0, *(adapter.spec.rank for adapter in adapters)])
        self._spans = [slice(0, 0), *(slice(int(a), int(b)) for a, b in pairwise(ends))]
        self.down: dict[str, Floats] = {}  # by matrix: [ranks of all, inputs]
        self.up: dict[str, Floats] = {}  # by matrix: [ranks of all, outputs], scaled
        for name, (outputs, inputs) in matrices(adapter.spec for adapter in adapters).items():
            if f"{name}.weight" not in base:
                continue
            down, up = (np.zeros((int(ends[-1]), width), np.float32) for width in (inputs, outputs))
            for adapter, span in zip(adapters, self._spans[1:], strict=True):
                change = adapter.spec.changes.get(name)
                if change is not None:  # fewer rows than its others: zeros add nothing
                    rows = slice(span.start, span.start + change.rank)
                    down[rows] = adapter.tensors[change.down].whole()
                    np.multiply(adapter.tensors[change.up].whole().T, np.float32(change.scale), out=up[rows])
            self.down[name], self.up[name] = down, up

    def rows(self, used: Sequence[int]) -> slice:
        """The rows of the stack for a step whose chunks use these adapters."""
        numbers = [number for number in used if number]
        if not numbers:
            return slice(0, 0)
        return slice(self._spans[min(numbers)].start, self._spans[max(numbers)].stop)

    def mask(self, used: Sequence[int], lengths: Sequence[int], rows: slice) -> Floats:
        """Ones where a token uses a row, [tokens, rows]; ``lengths``: of each chunk, in tokens."""
        mask = np.zeros((sum(lengths), rows.stop - rows.start), np.float32)
        begin = 0
        for number, length in zip(used, lengths, strict=True):
            own = self._spans[number]
            if number:
                mask[begin : begin + length, own.start - rows.start : own.stop - rows.start] = 1.0
            begin += length
        return mask
