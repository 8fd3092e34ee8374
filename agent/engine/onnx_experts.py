"""Mixture of experts in an ONNX graph, by onnxruntime's own operations MoE and QMoE (ContribOperators.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.engine.base import Floats
from agent.engine.experts import Experts
from agent.engine.onnx_graph import CONTRIB
from agent.engine.onnx_parts import Parts
from agent.engine.quantise import Packed
from agent.errors import ModelError

_INTERLEAVED = 1  # swiglu_fusion: rows of gate and up take turns


def mixture(parts: Parts, x: str, experts: Experts, prefix: str) -> str:
    """The feed-forward of a layer with experts; ``prefix``: what the names of its matrices start with."""
    graph = parts.graph
    scores = parts.multiply(x, [f"{prefix}gate.weight"])
    scores = graph.node("Reshape", scores, graph.constant(np.array([-1, experts.count], np.int64)))
    mixed = _experts(parts, x, scores, experts, prefix)
    if not experts.shared:
        return mixed
    gate = graph.node("Sigmoid", parts.multiply(x, [f"{prefix}shared_expert_gate.weight"]))
    shared = parts.feed_forward(x, f"{prefix}shared_expert.")
    return graph.node("Add", mixed, graph.node("Mul", gate, shared))


def _experts(parts: Parts, x: str, scores: str, experts: Experts, prefix: str) -> str:
    graph = parts.graph
    gate, up, down = (parts.weights.matrix(f"{prefix}experts.{name}_proj.weight") for name in ("gate", "up", "down"))
    attributes: dict[str, Any] = {
        "k": experts.chosen,
        "activation_type": "swiglu",
        "swiglu_fusion": _INTERLEAVED,
        "activation_alpha": 1.0,  # SwiGLU as it was published: gate * sigmoid(gate) * up
        "activation_beta": 0.0,
        "normalize_routing_weights": int(experts.normalised),
    }

    def stacked(matrix: NDArray[Any]) -> NDArray[Any]:
        return matrix.reshape(experts.count, -1, *matrix.shape[1:])

    def together(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
        return stacked(np.stack([first, second], axis=1).reshape(-1, *first.shape[1:]))

    if not (isinstance(gate, Packed) and isinstance(up, Packed) and isinstance(down, Packed)):
        floats: list[Floats] = [part for part in (gate, up, down) if not isinstance(part, Packed)]
        fc1, fc2 = graph.constant(together(floats[0], floats[1])), graph.constant(stacked(floats[2]))
        return graph.node("MoE", x, scores, fc1, "", fc2, domain=CONTRIB, **attributes)
    formats = {(part.format.bits, part.format.bits == 4 and part.format.group) for part in (gate, up, down)}
    if gate.format.zeros or len(formats) > 1:
        raise ModelError(
            "onnxruntime computes experts of one format without zero points alone",
            hint="choose int8 or int4-g32, or the original checkpoint where this one is quantised",
        )
    if gate.format.bits == 4:
        gate_values, up_values, values = (part.values ^ 0x88 for part in (gate, up, down))  # counted from 8
        gate_scales, up_scales, scales = (part.scales.astype(np.float32) for part in (gate, up, down))
        attributes["block_size"] = gate.format.group
        attributes["accuracy_level"] = parts.accuracy
    else:
        gate_values, up_values, values = (part.values.view(np.uint8) ^ 0x80 for part in (gate, up, down))  # from 128
        gate_scales, up_scales, scales = (part.scales.astype(np.float32)[:, 0] for part in (gate, up, down))
    fc1, fc2 = (graph.constant(array) for array in (together(gate_values, up_values), stacked(values)))
    scales1, scales2 = (graph.constant(array) for array in (together(gate_scales, up_scales), stacked(scales)))
    weights = graph.node("Softmax", scores, axis=-1)
    return graph.node(
        "QMoE",
        *(x, scores, fc1, scales1, "", fc2, scales2, "", "", "", "", "", "", "", weights),
        domain=CONTRIB,
        expert_weight_bits=gate.format.bits,
        **attributes,
    )
