"""What the ONNX graph of a decoder is put together from: matrices in few bits, norms, feed-forward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.engine.base import Floats
from agent.engine.decoder import DecoderSpec
from agent.engine.onnx_graph import CONTRIB, GraphBuilder
from agent.engine.onnx_lora import adapters_added, mask_input
from agent.engine.quantise import Packed, pair_nibbles
from agent.engine.weights_packed import Weights

_BLOCKS = (128, 64, 32, 16)  # inputs to a scale that MatMulNBits knows, of those that serve here


class Parts:
    """Adds them to a graph. Every method gives the name of its result."""

    def __init__(
        self,
        graph: GraphBuilder,
        spec: DecoderSpec,
        weights: Weights,
        exact: bool,
        adapted: frozenset[str] = frozenset(),
    ) -> None:
        self.graph = graph
        self.weights = weights
        self.accuracy = 1 if exact else 4  # of MatMulNBits: float32 throughout, or activations in int8 by block
        self._spec = spec
        self._adapted = adapted  # matrices that adapters change, without .weight
        self._mask = ""  # of the adapters, once one is in the graph

    def norm(self, x: str, name: str) -> str:
        """RMS norm over the last dimension (Zhang and Sennrich 2019, arXiv:1910.07467)."""
        weight = self.weights.vector(name) + np.float32(self._spec.norm_offset)
        eps = self._spec.eps
        return self.graph.node("SimplifiedLayerNormalization", x, self.graph.constant(weight), axis=-1, epsilon=eps)

    def feed_forward(self, x: str, prefix: str) -> str:
        """The gated feed-forward; ``prefix``: what the names of its matrices start with."""
        graph, spec = self.graph, self._spec
        if spec.fused:
            gate, up = graph.outputs_of(
                "Split", 2, self.linear(x, [f"{prefix}gate_up_proj"], spec.ffn_bias), axis=-1, num_outputs=2
            )
        else:
            gate, up = (self.linear(x, [f"{prefix}{name}_proj"], spec.ffn_bias) for name in ("gate", "up"))
        return self.linear(graph.node("Mul", self.activated(gate), up), [f"{prefix}down_proj"], spec.ffn_bias)

    def activated(self, gate: str) -> str:
        if self._spec.activation == "gelu_tanh":
            return self.graph.node("Gelu", gate, approximate="tanh")
        return self.graph.node("QuickGelu", gate, domain=CONTRIB, alpha=1.0)  # x * sigmoid(1.0 * x): SiLU

    def scaled(self, x: str, factor: float) -> str:
        """The value itself where there is nothing to scale."""
        return x if factor == 1.0 else self.graph.node("Mul", x, self.graph.constant(np.array(factor, np.float32)))

    def capped(self, x: str, cap: float) -> str:
        """cap * tanh(x / cap); the value itself where there is no cap."""
        return self.scaled(self.graph.node("Tanh", self.scaled(x, 1 / cap)), cap) if cap else x

    def linear(self, x: str, names: Sequence[str], biased: bool) -> str:
        if self._adapted.intersection(names):
            parts = [self._changed(x, name, self._plain(x, [name], biased)) for name in names]
            return self.graph.node("Concat", *parts, axis=-1) if parts[1:] else parts[0]
        return self._plain(x, names, biased)

    def _changed(self, x: str, name: str, product: str) -> str:
        """The product with what adapters add to it."""
        if name not in self._adapted:
            return product
        self._mask = self._mask or mask_input(self.graph)
        added = adapters_added(self.graph, x, name, self.weights.matrix(f"{name}.weight").shape, self._mask)
        return self.graph.node("Add", product, added)

    def _plain(self, x: str, names: Sequence[str], biased: bool) -> str:
        product = self.multiply(x, [f"{name}.weight" for name in names])
        if not biased:
            return product
        bias = np.concatenate([self.weights.vector(f"{name}.bias") for name in names])
        return self.graph.node("Add", product, self.graph.constant(bias))

    def multiply(self, x: str, names: Sequence[str]) -> str:
        """By matrices of like inputs, their outputs side by side."""
        graph = self.graph
        parts = [self.weights.matrix(name) for name in names]
        packed = [part for part in parts if isinstance(part, Packed)]
        if not packed:
            floats: list[Floats] = [part for part in parts if not isinstance(part, Packed)]
            return graph.node("MatMul", x, graph.constant((np.concatenate(floats) if floats[1:] else floats[0]).T))
        if len({part.format for part in packed}) > 1:  # other makers choose a format for each matrix
            return graph.node("Concat", *(self.multiply(x, [name]) for name in names), axis=-1)
        blocks = [_blocks(part) for part in packed]
        values, scales = (np.concatenate([block[part] for block in blocks]) for part in (0, 1))
        zeros = [pair_nibbles(_even(part.zeros)) for part in packed if part.zeros is not None]
        return graph.node(
            "MatMulNBits",
            x,
            graph.constant(values),
            graph.constant(scales),
            *([graph.constant(np.concatenate(zeros))] if zeros else []),
            domain=CONTRIB,
            K=packed[0].shape[1],
            N=len(values),
            bits=packed[0].format.bits,
            block_size=values.shape[2] * 8 // packed[0].format.bits,
            accuracy_level=self.accuracy,
        )


def _blocks(packed: Packed) -> tuple[NDArray[Any], Floats]:
    """MatMulNBits' layout: values counted from 8 or 128, [outputs, blocks, bytes], scales float32 [outputs, blocks].

    Int8 has one scale for each output, which is repeated for each block; inputs that fill no whole blocks get zeros.
    """
    outputs, inputs = packed.shape
    if packed.format.bits == 4:
        values = packed.values if packed.format.zeros else packed.values ^ 0x88
        return values.reshape(outputs, -1, packed.format.group // 2), packed.scales.astype(np.float32)
    size = next((size for size in _BLOCKS if inputs % size == 0), 32)
    blocks = -(-inputs // size)
    values = packed.values.view(np.uint8) ^ 0x80
    if blocks * size > inputs:
        values = np.pad(values, ((0, 0), (0, blocks * size - inputs)), constant_values=0x80)
    return values.reshape(outputs, blocks, size), np.repeat(packed.scales.astype(np.float32), blocks, axis=1)


def _even(zeros: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Zero points of an even count of blocks, as two to a byte must be."""
    return np.pad(zeros, ((0, 0), (0, zeros.shape[1] % 2)))
