"""The adapters of an OpenVINO stage: inputs of its graph, which a step binds to the rows that it needs."""

from __future__ import annotations

import agent.quiet  # noqa: F401  before openvino, which phones home without it

# isort: split
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from agent.engine.base import Batch
from agent.engine.weights_lora import AdapterStack

MASK = "adapter.mask"  # [tokens, rows] float32: ones where a row is of the token's adapter
DOWN = "adapter.down."  # + matrix: [rows, inputs] float32
UP = "adapter.up."  # + matrix: [rows, outputs] float32


def added(inputs: Any, down: Any, up: Any, mask: Any, sizes: tuple[int, int]) -> Any:  # noqa: ANN401
    """What adapters add to the product of [tokens, 1, inputs] with a matrix of these outputs and inputs.

    Between its two products a token is a row: a batch entry of its own, as elsewhere in the graph, would be multiplied
    by itself.
    """
    outputs, width = sizes
    rows = ops.reshape(inputs, ops.constant(np.array([-1, width], np.int64)), False)
    thin = ops.multiply(ops.matmul(rows, down, False, True), mask)
    return ops.reshape(ops.matmul(thin, up, False, False), ops.constant(np.array([-1, 1, outputs], np.int64)), False)


class BoundAdapters:
    """Sets the inputs of the adapters. Without any adapter in a step they have no rows, and cost nothing."""

    def __init__(self, stack: AdapterStack) -> None:
        self._stack = stack
        self._rows: slice | None = None  # that the request has now

    def bind(self, request: Any, batch: Batch) -> None:  # noqa: ANN401  openvino's InferRequest
        used = batch.adapters or (0,) * len(batch.chunks)
        rows = self._stack.rows(used)
        mask = self._stack.mask(used, [len(chunk.tokens) for chunk in batch.chunks], rows)
        request.set_tensor(MASK, ov.Tensor(mask))
        if rows == self._rows:
            return
        for before, stacked in ((DOWN, self._stack.down), (UP, self._stack.up)):
            for name, matrix in stacked.items():
                request.set_tensor(f"{before}{name}", ov.Tensor(matrix[rows], shared_memory=True))
        self._rows = rows
