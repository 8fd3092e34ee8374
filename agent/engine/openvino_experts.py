"""Mixture of experts in an OpenVINO graph: only the experts that were chosen are read and computed.

The plugin turns GroupedMatMul over constant weights into its own product that gathers the rows of each expert, and
unpacks packed weights while it multiplies.
"""

from __future__ import annotations

import agent.quiet  # noqa: F401  before openvino, which phones home without it

# isort: split
from typing import Any

import numpy as np
from openvino import opset13 as ops
from openvino.opset17 import grouped_matmul

from agent.engine.experts import Experts
from agent.engine.openvino_parts import Graph, flat, int32, ints


def mixture(graph: Graph, inputs: Any, experts: Experts, prefix: str) -> Any:  # noqa: ANN401
    """The feed-forward of a layer with experts, [tokens, 1, hidden]; ``prefix``: of the names of its matrices."""
    tokens = flat(inputs, graph.spec.hidden)
    shares = ops.softmax(ops.matmul(tokens, graph.matrix(f"{prefix}gate.weight"), False, True), 1)
    weights, chosen = ops.topk(shares, int32(experts.chosen), 1, "max", "value").outputs()
    if experts.normalised:
        weights = ops.divide(weights, ops.reduce_sum(weights, ints([1]), True))

    # Each token goes to several experts: its rows are sorted by expert, computed, and sorted back.
    assigned = ops.reshape(chosen, ints([-1]), False)
    order = _sorted(assigned)
    rows = ops.gather(tokens, ops.divide(order, int32(experts.chosen)), ints(0))
    each = ops.constant(np.arange(experts.count, dtype=np.int32).reshape(-1, 1))
    until = ops.convert(ops.less_equal(ops.unsqueeze(assigned, ints([0])), each), "i32")
    ends = ops.reduce_sum(until, ints([1]), False)  # [experts]: where the rows of each end

    def product(rows: Any, name: str) -> Any:  # noqa: ANN401
        return grouped_matmul(rows, graph.stack(f"{prefix}experts.{name}_proj.weight", experts.count), ends)

    gated = ops.multiply(graph.activated(product(rows, "gate")), product(rows, "up"))
    told = ops.gather(product(gated, "down"), _sorted(order), ints(0))
    told = ops.reshape(told, ints([-1, experts.chosen, graph.spec.hidden]), False)
    mixed = ops.reduce_sum(ops.multiply(told, ops.unsqueeze(weights, ints([2]))), ints([1]), False)
    mixed = ops.unsqueeze(mixed, ints([1]))
    if not experts.shared:
        return mixed
    gate = ops.sigmoid(ops.matmul(inputs, graph.matrix(f"{prefix}shared_expert_gate.weight"), False, True))
    return ops.add(mixed, ops.multiply(gate, graph.feed_forward(inputs, f"{prefix}shared_expert.")))


def _sorted(values: Any) -> Any:  # noqa: ANN401
    """The order that sorts a vector."""
    count = ops.gather(ops.shape_of(values), ints(0), ints(0))
    return ops.topk(values, count, 0, "min", "value", stable=True).output(1)
