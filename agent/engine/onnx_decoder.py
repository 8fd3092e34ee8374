"""A range of a decoder's layers as an ONNX graph: attention on cache rows of the caller, weights in few bits.

The operations beside the standard ones are onnxruntime's own (com.microsoft, described in its ContribOperators.md):
GroupQueryAttention rotates, appends to the cache and attends; MatMulNBits unpacks while it multiplies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.engine.base import Floats
from agent.engine.decoder import EMBEDDING, FINAL_NORM, HEAD, DecoderSpec, layer_prefix
from agent.engine.onnx_graph import CONTRIB, GraphBuilder
from agent.engine.onnx_window import local_window_size
from agent.engine.quantise import Packed
from agent.engine.weights_packed import Weights

# Inputs of a stage. The first stage has TOKENS, the others HIDDEN; the last has WANTED as well.
TOKENS = "tokens"  # [rows, length] int64
HIDDEN = "hidden"  # [rows, length, hidden] float32
LAST = "last"  # [rows] int32: position of the last token of each row
LONGEST = "longest"  # [] int32: tokens of the longest row after this step
WANTED = "wanted"  # [wanted] int64: after which tokens logits are wanted, counted over all rows
KEYS = "keys."  # + layer: [rows, kv heads, row tokens, head size] float32; updated in place
VALUES = "values."
# Outputs.
LOGITS = "logits"  # [wanted, vocab] float32, of the last stage
STATES = "states"  # [rows, length, hidden] float32, of the others
UPDATED = "updated."  # + the name of a cache input

_BLOCKS = (128, 64, 32, 16)  # inputs to a scale that MatMulNBits knows, of those that serve here


class DecoderGraph:
    """The graph of ``layers``, with the embedding if layer 0 is among them, with norm and head if the last one is."""

    def __init__(self, spec: DecoderSpec, layers: range, weights: Weights, *, row_tokens: int, exact: bool) -> None:
        self._spec, self._layers, self._weights = spec, layers, weights
        self._row_tokens = row_tokens
        self._accuracy = 1 if exact else 4  # of MatMulNBits: float32 throughout, or activations in int8 by block
        self._graph = GraphBuilder("stage")

    def build(self) -> GraphBuilder:
        graph, spec = self._graph, self._spec
        if self._layers.start == 0:
            x = self._embed(graph.input(TOKENS, np.int64, ["rows", "length"]))
        else:
            x = graph.input(HIDDEN, np.float32, ["rows", "length", spec.hidden])
        step = [graph.input(LAST, np.int32, ["rows"]), graph.input(LONGEST, np.int32, []), *self._angles()]
        for layer in self._layers:
            x = self._layer(x, layer, step)
        if self._layers.stop == spec.layers:
            flat = graph.node("Reshape", x, graph.constant(np.array([-1, spec.hidden], np.int64)))
            x = graph.node("Gather", flat, graph.input(WANTED, np.int64, ["wanted"]))
            head = self._multiply(self._norm(x, FINAL_NORM), [EMBEDDING if spec.tied else HEAD])
            graph.node("Identity", head, outputs=[graph.output(LOGITS, np.float32, ["wanted", spec.vocab])])
        else:
            states = graph.output(STATES, np.float32, ["rows", "length", spec.hidden])
            graph.node("Identity", x, outputs=[states])
        return graph

    def _layer(self, x: str, layer: int, step: Sequence[str]) -> str:
        graph, spec, at = self._graph, self._spec, layer_prefix(layer)
        y = self._attention(self._norm(x, f"{at}input_layernorm.weight"), layer, step)
        x = graph.node("Add", x, self._linear(y, [f"{at}self_attn.o_proj"], spec.output_bias))
        y = self._norm(x, f"{at}post_attention_layernorm.weight")
        gate = self._linear(y, [f"{at}mlp.gate_proj"], spec.ffn_bias)
        gate = graph.node("QuickGelu", gate, domain=CONTRIB, alpha=1.0)  # x * sigmoid(1.0 * x): SiLU
        y = graph.node("Mul", gate, self._linear(y, [f"{at}mlp.up_proj"], spec.ffn_bias))
        return graph.node("Add", x, self._linear(y, [f"{at}mlp.down_proj"], spec.ffn_bias))

    def _attention(self, x: str, layer: int, step: Sequence[str]) -> str:
        graph, spec, at = self._graph, self._spec, f"{layer_prefix(layer)}self_attn."
        qkv = self._linear(x, [f"{at}{name}_proj" for name in "qkv"], spec.qkv_bias)
        q, k, v = qkv, "", ""
        if spec.qk_norm:
            sizes = graph.constant(np.array([spec.query_size, spec.kv_size, spec.kv_size], np.int64))
            q, k, v = graph.outputs_of("Split", 3, qkv, sizes, axis=-1)
            q = self._norm_heads(q, f"{at}q_norm.weight", spec.heads)
            k = self._norm_heads(k, f"{at}k_norm.weight", spec.kv_heads)
        shape: list[int | str] = ["rows", spec.kv_heads, self._row_tokens, spec.head_dim]
        caches = [graph.input(f"{name}{layer}", np.float32, shape) for name in (KEYS, VALUES)]
        updated = [graph.output(f"{UPDATED}{name}", np.float32, shape) for name in caches]
        attended = f"attended.{layer}"
        return graph.node(
            "GroupQueryAttention",
            *(q, k, v, *caches, *step),
            domain=CONTRIB,
            outputs=[attended, *updated],
            num_heads=spec.heads,
            kv_num_heads=spec.kv_heads,
            scale=spec.head_dim**-0.5,
            do_rotary=1,
            local_window_size=local_window_size(spec.windows[layer]),
        )

    def _norm_heads(self, x: str, name: str, count: int) -> str:
        graph, size = self._graph, self._spec.head_dim
        heads = graph.node("Reshape", x, graph.constant(np.array([0, 0, count, size], np.int64)))
        flat = graph.constant(np.array([0, 0, count * size], np.int64))
        return graph.node("Reshape", self._norm(heads, name), flat)

    def _norm(self, x: str, name: str) -> str:
        """RMS norm over the last dimension (Zhang and Sennrich 2019, arXiv:1910.07467)."""
        weight = self._graph.constant(self._weights.vector(name))
        return self._graph.node("SimplifiedLayerNormalization", x, weight, axis=-1, epsilon=self._spec.eps)

    def _angles(self) -> list[str]:
        angles = np.arange(self._row_tokens)[:, None] * self._spec.inverse_frequencies()
        return [self._graph.constant(table.astype(np.float32)) for table in (np.cos(angles), np.sin(angles))]

    def _embed(self, tokens: str) -> str:
        graph, weight = self._graph, self._weights.matrix(EMBEDDING)
        if not isinstance(weight, Packed):
            return graph.node("Gather", graph.constant(weight), tokens)
        # The embedding is int8 with a scale for each token in every packed format.
        values = graph.node("Cast", graph.node("Gather", graph.constant(weight.values), tokens), to=1)  # FLOAT
        scales = graph.constant(weight.scales.astype(np.float32))
        return graph.node("Mul", values, graph.node("Gather", scales, tokens))

    def _linear(self, x: str, names: Sequence[str], biased: bool) -> str:
        product = self._multiply(x, [f"{name}.weight" for name in names])
        if not biased:
            return product
        bias = np.concatenate([self._weights.vector(f"{name}.bias") for name in names])
        return self._graph.node("Add", product, self._graph.constant(bias))

    def _multiply(self, x: str, names: Sequence[str]) -> str:
        """By matrices of like inputs, their outputs side by side."""
        graph = self._graph
        parts = [self._weights.matrix(name) for name in names]
        packed = [part for part in parts if isinstance(part, Packed)]
        if not packed:
            floats: list[Floats] = [part for part in parts if not isinstance(part, Packed)]
            return graph.node("MatMul", x, graph.constant((np.concatenate(floats) if floats[1:] else floats[0]).T))
        blocks = [_blocks(part) for part in packed]
        values, scales = (np.concatenate([block[part] for block in blocks]) for part in (0, 1))
        return graph.node(
            "MatMulNBits",
            x,
            graph.constant(values),
            graph.constant(scales),
            domain=CONTRIB,
            K=packed[0].shape[1],
            N=len(values),
            bits=packed[0].format.bits,
            block_size=values.shape[2] * 8 // packed[0].format.bits,
            accuracy_level=self._accuracy,
        )


def _blocks(packed: Packed) -> tuple[NDArray[Any], Floats]:
    """MatMulNBits' layout: values counted from 8 or 128, [outputs, blocks, bytes], scales float32 [outputs, blocks].

    Int8 has one scale for each output, which is repeated for each block; inputs that fill no whole blocks get zeros.
    """
    outputs, inputs = packed.shape
    if packed.format.bits == 4:
        values = (packed.values ^ 0x88).reshape(outputs, -1, packed.format.group // 2)
        return values, packed.scales.astype(np.float32)
    size = next((size for size in _BLOCKS if inputs % size == 0), 32)
    blocks = -(-inputs // size)
    values = packed.values.view(np.uint8) ^ 0x80
    if blocks * size > inputs:
        values = np.pad(values, ((0, 0), (0, blocks * size - inputs)), constant_values=0x80)
    return values.reshape(outputs, blocks, size), np.repeat(packed.scales.astype(np.float32), blocks, axis=1)
