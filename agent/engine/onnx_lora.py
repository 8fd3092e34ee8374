"""The adapters of an ONNX stage: inputs of its graph, which a pass binds to the rows that it needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.engine.onnx_graph import CONTRIB, Array, GraphBuilder
from agent.engine.weights_lora import AdapterStack

_MASK = "adapter.mask"  # [rows, 1, ranks] float32: ones where a rank is of the row's adapter
_DOWN = "adapter.down."  # + matrix: [ranks, inputs] float32
_UP = "adapter.up."  # + matrix: [ranks, outputs] float32


def mask_input(graph: GraphBuilder) -> str:
    return graph.input(_MASK, np.float32, ["rows", 1, "ranks"])


def adapters_added(graph: GraphBuilder, x: str, name: str, shape: tuple[int, ...], mask: str) -> str:
    """What adapters add to the product of [rows, length, inputs] with this matrix, [outputs, inputs]."""
    down = graph.input(f"{_DOWN}{name}", np.float32, ["ranks", shape[1]])
    up = graph.input(f"{_UP}{name}", np.float32, ["ranks", shape[0]])
    thin = graph.node("FusedMatMul", x, down, domain=CONTRIB, transB=1)
    return graph.node("MatMul", graph.node("Mul", thin, mask), up)


def adapter_feeds(stack: AdapterStack, used: Sequence[int]) -> dict[str, Array]:
    """The inputs of a pass; ``used``: the adapter of each of its rows, 0 for none."""
    rows = stack.rows(used)
    feeds: dict[str, Array] = {_MASK: stack.mask(used, [1] * len(used), rows)[:, None]}
    for before, stacked in ((_DOWN, stack.down), (_UP, stack.up)):
        feeds |= {f"{before}{name}": matrix[rows] for name, matrix in stacked.items()}
    return feeds
