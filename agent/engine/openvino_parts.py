"""What the OpenVINO graph of a decoder is put together from: matrices in few bits, norms, feed-forward."""

from __future__ import annotations

import agent.quiet  # noqa: F401  before openvino, which phones home without it

# isort: split
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import openvino as ov
from openvino import op
from openvino import opset13 as ops

from agent.engine.base import Floats
from agent.engine.decoder import DecoderSpec
from agent.engine.openvino_lora import DOWN, MASK, UP, added
from agent.engine.quantise import Packed
from agent.engine.weights_packed import Weights


@dataclass
class Graph:
    """What all parts of a graph need: the sizes, the weights, and the parameters made so far."""

    spec: DecoderSpec
    weights: Weights
    parameters: list[Any] = field(default_factory=list)
    adapted: frozenset[str] = frozenset()  # matrices that adapters change, without .weight
    mask: Any = None  # of the adapters, once one is in the graph

    def parameter(self, name: str, shape: Sequence[int], kind: ov.Type) -> Any:  # noqa: ANN401  openvino's Node
        node = ops.parameter(shape, kind)
        node.set_friendly_name(name)
        node.output(0).get_tensor().set_names({name})
        self.parameters.append(node)
        return node

    def matrix(self, name: str) -> Any:  # noqa: ANN401
        """A matrix, [outputs, inputs] float32, unpacked by the graph where it is packed."""
        weight = self.weights.matrix(name)
        if not isinstance(weight, Packed):
            return ops.constant(weight)  # copied: nobody else keeps it
        return _unpacked(weight, weight.shape)

    def stack(self, name: str, count: int) -> Any:  # noqa: ANN401
        """A matrix that is ``count`` matrices, [count, outputs of each, inputs] float32."""
        weight = self.weights.matrix(name)
        shape = (count, weight.shape[0] // count, weight.shape[1])
        return _unpacked(weight, shape) if isinstance(weight, Packed) else ops.constant(weight.reshape(shape))

    def linear(self, inputs: Any, name: str, biased: bool) -> Any:  # noqa: ANN401
        product = ops.matmul(inputs, self.matrix(f"{name}.weight"), False, True)
        if biased:
            product = ops.add(product, self.row(f"{name}.bias", 3))
        return ops.add(product, self._adapters(inputs, name)) if name in self.adapted else product

    def _adapters(self, inputs: Any, name: str) -> Any:  # noqa: ANN401
        outputs, width = self.weights.matrix(f"{name}.weight").shape
        if self.mask is None:
            self.mask = self.parameter(MASK, [-1, -1], ov.Type.f32)
        down = self.parameter(f"{DOWN}{name}", [-1, width], ov.Type.f32)
        up = self.parameter(f"{UP}{name}", [-1, outputs], ov.Type.f32)
        return added(inputs, down, up, self.mask, (outputs, width))

    def row(self, name: str, rank: int) -> Any:  # noqa: ANN401
        """A vector that spreads over all but the last of ``rank`` dimensions."""
        return _spread(self.weights.vector(name), rank)

    def feed_forward(self, inputs: Any, prefix: str) -> Any:  # noqa: ANN401
        """The gated feed-forward of [tokens, 1, hidden]; ``prefix``: what the names of its matrices start with."""
        spec = self.spec
        if spec.fused:
            together = self.linear(inputs, f"{prefix}gate_up_proj", spec.ffn_bias)
            gate, up = ops.split(together, ints(2), 2).outputs()
        else:
            gate = self.linear(inputs, f"{prefix}gate_proj", spec.ffn_bias)
            up = self.linear(inputs, f"{prefix}up_proj", spec.ffn_bias)
        return self.linear(ops.multiply(self.activated(gate), up), f"{prefix}down_proj", spec.ffn_bias)

    def activated(self, gate: Any) -> Any:  # noqa: ANN401
        return ops.swish(gate) if self.spec.activation == "silu" else ops.gelu(gate, "tanh")

    def norm(self, inputs: Any, name: str, rank: int = 3) -> Any:  # noqa: ANN401
        """RMS norm over the last dimension (Zhang and Sennrich 2019, arXiv:1910.07467)."""
        square = ops.reduce_mean(ops.power(inputs, floats(2.0)), ints([-1]), True)
        scale = ops.divide(floats(1.0), ops.sqrt(ops.add(square, floats(self.spec.eps))))
        weight = self.weights.vector(name) + np.float32(self.spec.norm_offset)
        return ops.multiply(_spread(weight, rank), ops.multiply(inputs, scale))


def shared_constant(array: Any, kind: ov.Type, shape: Sequence[int]) -> Any:  # noqa: ANN401
    """A constant that reads the array in place; its owner keeps it alive."""
    return op.Constant(ov.Tensor(array, ov.Shape(list(shape)), kind), shared_memory=True)


def _unpacked(weight: Packed, shape: Sequence[int]) -> Any:  # noqa: ANN401
    """Packed weights as float32 of this shape, whose last dimension is the matrix's inputs."""
    if weight.format.bits == 8:
        values = shared_constant(weight.values, ov.Type.i8, shape)
        scales = shared_constant(weight.scales, ov.Type.f16, (*shape[:-1], 1))
        unpacked = ops.multiply(ops.convert(values, ov.Type.f16), scales)
    else:
        groups = shape[-1] // weight.format.group
        kind = ov.Type.i4 if weight.zeros is None else ov.Type.u4
        values = ops.convert(
            shared_constant(weight.values, kind, (*shape[:-1], groups, weight.format.group)), ov.Type.f16
        )
        scales = shared_constant(weight.scales, ov.Type.f16, (*shape[:-1], groups, 1))
        if weight.zeros is not None:
            zeros = shared_constant(weight.zeros, ov.Type.u8, (*shape[:-1], groups, 1))
            values = ops.subtract(values, ops.convert(zeros, ov.Type.f16))
        grouped = ops.multiply(values, scales)
        unpacked = ops.reshape(grouped, ints(shape), False)
    return ops.convert(unpacked, ov.Type.f32)


def flat(node: Any, size: int) -> Any:  # noqa: ANN401
    return ops.reshape(node, ints([-1, size]), False)


def ints(values: int | Sequence[int]) -> Any:  # noqa: ANN401
    return ops.constant(np.asarray(values, np.int64))


def int32(value: int) -> Any:  # noqa: ANN401
    return ops.constant(np.asarray(value, np.int32))


def floats(value: float) -> Any:  # noqa: ANN401
    return ops.constant(np.asarray(value, np.float32))


def scaled(node: Any, factor: float) -> Any:  # noqa: ANN401
    """The node itself where there is nothing to scale."""
    return node if factor == 1.0 else ops.multiply(node, floats(factor))


def capped(node: Any, cap: float) -> Any:  # noqa: ANN401
    """cap * tanh(x / cap); the node itself where there is no cap."""
    return scaled(ops.tanh(scaled(node, 1 / cap)), cap) if cap else node


def _spread(vector: Floats, rank: int) -> Any:  # noqa: ANN401
    return ops.constant(vector.reshape((1,) * (rank - 1) + (-1,)))
