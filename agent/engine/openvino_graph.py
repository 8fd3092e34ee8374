"""A range of a decoder's layers as an OpenVINO graph: ragged batches, paged attention, weights in few bits.

Hidden states are [tokens, 1, hidden]: every token is a batch entry of its own, since sequences of any length lie one
after the other, and only the attention, which is told where each begins, knows of them. The graph is written in the
patterns that the CPU plugin fuses: RMS norm, rotary embedding, gated feed-forward, matrices unpacked while multiplied.
"""

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

from agent.engine.decoder import EMBEDDING, FINAL_NORM, HEAD, DecoderSpec, layer_prefix
from agent.engine.quantise import Packed
from agent.engine.weights_packed import Weights

# Inputs of a stage. The first stage has TOKENS, the others HIDDEN; the last has ROWS as well.
TOKENS = "tokens"  # [tokens] int64
HIDDEN = "hidden"  # [tokens, hidden] float32
POSITIONS = "positions"  # [tokens] int64
PAST = "past"  # [sequences] int32: tokens in the cache before this step
BEGINS = "begins"  # [sequences + 1] int32: where each sequence's tokens begin
PAGES = "pages"  # [pages of all sequences] int32
PAGE_BEGINS = "page_begins"  # [sequences + 1] int32: where each sequence's pages begin
LONGEST = "longest"  # [] int32: the longest sequence after this step
ROWS = "rows"  # [rows] int64: after which tokens logits are wanted
KEYS = "keys."  # + layer: [pages, kv heads, page tokens, head size and scales], of the type that the plugin chose
VALUES = "values."


def build_graph(spec: DecoderSpec, layers: range, weights: Weights) -> ov.Model:
    """The graph of these layers, with the embedding if layer 0 is among them, with norm and head if the last one is.

    Constants are views of ``weights``, which must outlive the graph.
    """
    graph = _Graph(spec, weights)
    if layers.start == 0:
        tokens = graph.parameter(TOKENS, [-1], ov.Type.i64)
        hidden = ops.unsqueeze(ops.gather(graph.matrix(EMBEDDING), tokens, _ints(0)), _ints([1]))
    else:
        hidden = ops.unsqueeze(graph.parameter(HIDDEN, [-1, spec.hidden], ov.Type.f32), _ints([1]))
    step = _Step(graph)
    for layer in layers:
        hidden = _layer(graph, step, layer, hidden)
    if layers.stop == spec.layers:
        rows = graph.parameter(ROWS, [-1], ov.Type.i64)
        last = graph.norm(ops.gather(hidden, rows, _ints(0)), FINAL_NORM)
        head = graph.matrix(EMBEDDING if spec.tied else HEAD)
        result = ops.reshape(ops.matmul(last, head, False, True), _ints([-1, spec.vocab]), False)
    else:
        result = ops.reshape(hidden, _ints([-1, spec.hidden]), False)
    return ov.Model([ops.result(result)], graph.parameters, "stage")


@dataclass
class _Graph:
    """What all parts of a graph need: the sizes, the weights, and the parameters made so far."""

    spec: DecoderSpec
    weights: Weights
    parameters: list[Any] = field(default_factory=list)

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
        outputs, inputs = weight.shape
        if weight.format.bits == 8:
            values = _constant(weight.values, ov.Type.i8, (outputs, inputs))
            scales = _constant(weight.scales, ov.Type.f16, (outputs, 1))
            unpacked = ops.multiply(ops.convert(values, ov.Type.f16), scales)
        else:
            groups = inputs // weight.format.group
            values = _constant(weight.values, ov.Type.i4, (outputs, groups, weight.format.group))
            scales = _constant(weight.scales, ov.Type.f16, (outputs, groups, 1))
            grouped = ops.multiply(ops.convert(values, ov.Type.f16), scales)
            unpacked = ops.reshape(grouped, _ints([outputs, inputs]), False)
        return ops.convert(unpacked, ov.Type.f32)

    def linear(self, inputs: Any, name: str, biased: bool) -> Any:  # noqa: ANN401
        product = ops.matmul(inputs, self.matrix(f"{name}.weight"), False, True)
        return ops.add(product, self.row(f"{name}.bias", 3)) if biased else product

    def row(self, name: str, rank: int) -> Any:  # noqa: ANN401
        """A vector that spreads over all but the last of ``rank`` dimensions."""
        return ops.constant(self.weights.vector(name).reshape((1,) * (rank - 1) + (-1,)))

    def norm(self, inputs: Any, name: str, rank: int = 3) -> Any:  # noqa: ANN401
        """RMS norm over the last dimension (Zhang and Sennrich 2019, arXiv:1910.07467)."""
        square = ops.reduce_mean(ops.power(inputs, _float(2.0)), _ints([-1]), True)
        scale = ops.divide(_float(1.0), ops.sqrt(ops.add(square, _float(self.spec.eps))))
        return ops.multiply(self.row(name, rank), ops.multiply(inputs, scale))


class _Step:
    """What all layers share in one step: where tokens belong, and the angles of their positions."""

    def __init__(self, graph: _Graph) -> None:
        positions = graph.parameter(POSITIONS, [-1], ov.Type.i64)
        self.past = graph.parameter(PAST, [-1], ov.Type.i32)
        self.begins = graph.parameter(BEGINS, [-1], ov.Type.i32)
        self.pages = graph.parameter(PAGES, [-1], ov.Type.i32)
        self.page_begins = graph.parameter(PAGE_BEGINS, [-1], ov.Type.i32)
        self.longest = graph.parameter(LONGEST, [], ov.Type.i32)
        frequencies = graph.spec.inverse_frequencies().astype(np.float32).reshape(1, 1, -1)
        half = ops.multiply(
            ops.convert(ops.unsqueeze(positions, _ints([1, 2])), ov.Type.f32), ops.constant(frequencies)
        )
        angles = ops.concat([half, half], -1)
        self.cos = ops.unsqueeze(ops.cos(angles), _ints([1]))  # [tokens, 1, 1, head size]
        self.sin = ops.unsqueeze(ops.sin(angles), _ints([1]))

    def rotate(self, heads: Any, size: int) -> Any:  # noqa: ANN401
        """Rotary embedding of [tokens, heads, 1, size]; dimension i is paired with i + size / 2."""
        first = ops.slice(heads, _ints([0]), _ints([size // 2]), _ints([1]), _ints([3]))
        second = ops.slice(heads, _ints([size // 2]), _ints([np.iinfo(np.int64).max]), _ints([1]), _ints([3]))
        turned = ops.concat([ops.multiply(second, _float(-1.0)), first], -1)
        return ops.add(ops.multiply(heads, self.cos), ops.multiply(turned, self.sin))


def _layer(graph: _Graph, step: _Step, layer: int, hidden: Any) -> Any:  # noqa: ANN401
    spec, prefix = graph.spec, layer_prefix(layer)
    inputs = graph.norm(hidden, f"{prefix}input_layernorm.weight")
    attended = _attention(graph, step, layer, inputs)
    hidden = ops.add(hidden, graph.linear(attended, f"{prefix}self_attn.o_proj", spec.output_bias))
    inputs = graph.norm(hidden, f"{prefix}post_attention_layernorm.weight")
    gate = ops.swish(graph.linear(inputs, f"{prefix}mlp.gate_proj", spec.ffn_bias))
    gated = ops.multiply(gate, graph.linear(inputs, f"{prefix}mlp.up_proj", spec.ffn_bias))
    return ops.add(hidden, graph.linear(gated, f"{prefix}mlp.down_proj", spec.ffn_bias))


def _attention(graph: _Graph, step: _Step, layer: int, inputs: Any) -> Any:  # noqa: ANN401
    spec, prefix = graph.spec, f"{layer_prefix(layer)}self_attn."

    def heads(name: str, count: int) -> Any:  # noqa: ANN401
        projected = graph.linear(inputs, f"{prefix}{name}_proj", spec.qkv_bias)
        split = ops.reshape(projected, _ints([0, 1, count, spec.head_dim]), True)
        if spec.qk_norm:
            split = graph.norm(split, f"{prefix}{name}_norm.weight", 4)
        rotated = step.rotate(ops.transpose(split, _ints([0, 2, 1, 3])), spec.head_dim)
        return _flat(ops.transpose(rotated, _ints([0, 2, 1, 3])), count * spec.head_dim)

    key_cache = graph.parameter(f"{KEYS}{layer}", [-1, -1, -1, -1], ov.Type.dynamic)
    value_cache = graph.parameter(f"{VALUES}{layer}", [-1, -1, -1, -1], ov.Type.dynamic)
    no_ints, no_floats = np.zeros(0, np.int32), np.zeros(0, np.float32)
    # In the order of the op: openvino/op/paged_attention.hpp, 2026.4. Empty tensors and zeros switch a feature off.
    arguments = {
        "query": heads("q", spec.heads),
        "key": heads("k", spec.kv_heads),
        "value": _flat(graph.linear(inputs, f"{prefix}v_proj", spec.qkv_bias), spec.kv_size),
        "key_cache": key_cache,
        "value_cache": value_cache,
        "past_lens": step.past,
        "subsequence_begins": step.begins,
        "block_indices": step.pages,
        "block_indices_begins": step.page_begins,
        "scale": _float(spec.head_dim**-0.5),
        "sliding_window": _int32(spec.windows[layer]),
        "alibi_slopes": ops.constant(no_floats),
        "max_context_len": step.longest,
        "score_aggregation_window": ops.constant(no_ints),
        "rotated_block_indices": ops.constant(no_ints),
        "rotation_deltas": ops.constant(no_ints),
        "rotation_trig_lut": ops.constant(no_floats),
        "xattention_threshold": ops.constant(no_floats),
        "xattention_block_size": _int32(0),
        "xattention_stride": _int32(0),
        "sinks": ops.constant(no_floats.reshape(0, 0, 0, 0)),
        "adaptive_rkv_start_size": _int32(0),
        "adaptive_rkv_evictable_sizes": ops.constant(no_ints),
        "adaptive_rkv_diversity_block_set_indices": ops.constant(no_ints),
        "adaptive_rkv_diversity_block_set_indices_begins": ops.constant(no_ints),
        "token_type_ids": ops.constant(no_ints),
        "qq_bias": ops.constant(np.zeros(0, np.uint8)),
        "qq_bias_begins": ops.constant(no_ints),
    }
    attention = op._PagedAttentionExtension([node.output(0) for node in arguments.values()])
    # The plugin lays out its cache by these.
    information = attention.get_rt_info()
    information["num_k_heads"] = information["num_v_heads"] = spec.kv_heads
    information["k_head_size"] = information["v_head_size"] = spec.head_dim
    return ops.reshape(attention.output(0), _ints([-1, 1, spec.query_size]), False)


def _constant(array: Any, kind: ov.Type, shape: Sequence[int]) -> Any:  # noqa: ANN401
    """A constant that reads the array in place; its owner keeps it alive."""
    return op.Constant(ov.Tensor(array, ov.Shape(list(shape)), kind), shared_memory=True)


def _flat(node: Any, size: int) -> Any:  # noqa: ANN401
    return ops.reshape(node, _ints([-1, size]), False)


def _ints(values: int | Sequence[int]) -> Any:  # noqa: ANN401
    return ops.constant(np.asarray(values, np.int64))


def _int32(value: int) -> Any:  # noqa: ANN401
    return ops.constant(np.asarray(value, np.int32))


def _float(value: float) -> Any:  # noqa: ANN401
    return ops.constant(np.asarray(value, np.float32))
