"""A range of a decoder's layers as an OpenVINO graph: ragged batches, paged attention, weights in few bits.

Hidden states are [tokens, 1, hidden]: every token is a batch entry of its own, since sequences of any length lie one
after the other, and only the attention, which is told where each begins, knows of them. The graph is written in the
patterns that the CPU plugin fuses: RMS norm, rotary embedding, gated feed-forward, matrices unpacked while multiplied.
"""

from __future__ import annotations

import agent.quiet  # noqa: F401  before openvino, which phones home without it

# isort: split
from typing import Any

import numpy as np
import openvino as ov
from openvino import op
from openvino import opset13 as ops

from agent.engine.decoder import EMBEDDING, FINAL_NORM, HEAD, DecoderSpec, layer_prefix
from agent.engine.openvino_experts import mixture
from agent.engine.openvino_parts import Graph, capped, flat, floats, int32, ints, scaled
from agent.engine.rope import Rope
from agent.engine.weights_packed import Weights
from agent.errors import ModelError

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


def build_graph(spec: DecoderSpec, layers: range, weights: Weights, adapted: frozenset[str] = frozenset()) -> ov.Model:
    """The graph of these layers, with the embedding if layer 0 is among them, with norm and head if the last one is.

    Constants are views of ``weights``, which must outlive the graph. ``adapted``: the matrices that adapters change,
    which are further inputs (openvino_lora). Raises ModelError for a decoder that OpenVINO
    cannot compute.
    """
    if spec.attention_cap:
        raise ModelError(
            "OpenVINO's paged attention has no soft-capping, which this model was trained with",
            hint="pip install onnxruntime onnx: ONNX Runtime computes it",
        )
    graph = Graph(spec, weights, adapted=adapted)
    if layers.start == 0:
        tokens = graph.parameter(TOKENS, [-1], ov.Type.i64)
        embedded = ops.unsqueeze(ops.gather(graph.matrix(EMBEDDING), tokens, ints(0)), ints([1]))
        hidden = scaled(embedded, spec.embedding_scale)
    else:
        hidden = ops.unsqueeze(graph.parameter(HIDDEN, [-1, spec.hidden], ov.Type.f32), ints([1]))
    step = _Step(graph)
    for layer in layers:
        hidden = _layer(graph, step, layer, hidden)
    if layers.stop == spec.layers:
        rows = graph.parameter(ROWS, [-1], ov.Type.i64)
        last = graph.norm(ops.gather(hidden, rows, ints(0)), FINAL_NORM)
        head = graph.matrix(EMBEDDING if spec.tied else HEAD)
        logits = ops.reshape(ops.matmul(last, head, False, True), ints([-1, spec.vocab]), False)
        result = capped(scaled(logits, spec.logit_scale), spec.logit_cap)
    else:
        result = ops.reshape(hidden, ints([-1, spec.hidden]), False)
    return ov.Model([ops.result(result)], graph.parameters, "stage")


class _Step:
    """What all layers share in one step: where tokens belong, and the angles of their positions."""

    def __init__(self, graph: Graph) -> None:
        spec = graph.spec
        positions = graph.parameter(POSITIONS, [-1], ov.Type.i64)
        self.past = graph.parameter(PAST, [-1], ov.Type.i32)
        self.begins = graph.parameter(BEGINS, [-1], ov.Type.i32)
        self.pages = graph.parameter(PAGES, [-1], ov.Type.i32)
        self.page_begins = graph.parameter(PAGE_BEGINS, [-1], ov.Type.i32)
        self.longest = graph.parameter(LONGEST, [], ov.Type.i32)
        self._positions = ops.convert(ops.unsqueeze(positions, ints([1, 2])), ov.Type.f32)  # [tokens, 1, 1]
        self._angles = {rope: self._turned(rope) for rope in spec.ropes if rope is not None}
        self._growth = self._query_growth(spec) if spec.query_growth else None

    def rotate(self, heads: Any, rope: Rope | None, size: int) -> Any:  # noqa: ANN401
        """Rotary embedding of the first dimensions of [tokens, heads, 1, size]; i is paired with i + half of them."""
        if rope is None:
            return heads
        cos, sin = self._angles[rope]
        whole, rest = heads, None
        if rope.size < size:
            sizes = ints([rope.size, size - rope.size])
            whole, rest = ops.variadic_split(heads, ints(3), sizes).outputs()
        first = ops.slice(whole, ints([0]), ints([rope.size // 2]), ints([1]), ints([3]))
        second = ops.slice(whole, ints([rope.size // 2]), ints([np.iinfo(np.int64).max]), ints([1]), ints([3]))
        turned = ops.concat([ops.multiply(second, floats(-1.0)), first], -1)
        rotated = ops.add(ops.multiply(whole, cos), ops.multiply(turned, sin))
        return rotated if rest is None else ops.concat([rotated, rest], -1)

    def grow(self, query: Any) -> Any:  # noqa: ANN401
        """The query, [tokens, size], scaled by its position where the decoder does so."""
        return query if self._growth is None else ops.multiply(query, self._growth)

    def _turned(self, rope: Rope) -> tuple[Any, Any]:
        """Cosine and sine, [tokens, 1, 1, rotated size]."""
        frequencies = rope.inverse_frequencies().astype(np.float32).reshape(1, 1, -1)
        half = ops.multiply(self._positions, ops.constant(frequencies))
        angles = ops.concat([half, half], -1)
        cos, sin = ops.cos(angles), ops.sin(angles)
        return ops.unsqueeze(scaled(cos, rope.amplitude), ints([1])), ops.unsqueeze(
            scaled(sin, rope.amplitude), ints([1])
        )

    def _query_growth(self, spec: DecoderSpec) -> Any:  # noqa: ANN401
        """1 + growth * ln(1 + floor(position / length)), [tokens, 1]: get_llama_4_attn_scale of transformers."""
        steps = ops.floor(ops.divide(self._positions, floats(spec.query_growth_length)))
        grown = ops.add(scaled(ops.log(ops.add(steps, floats(1.0))), spec.query_growth), floats(1.0))
        return flat(grown, 1)


def _layer(graph: Graph, step: _Step, layer: int, hidden: Any) -> Any:  # noqa: ANN401
    spec, prefix = graph.spec, layer_prefix(layer)
    inputs = graph.norm(hidden, f"{prefix}input_layernorm.weight")
    attended = _attention(graph, step, layer, inputs)
    added = graph.linear(attended, f"{prefix}self_attn.o_proj", spec.output_bias)
    if spec.post_norms:
        added = graph.norm(added, f"{prefix}post_attention_layernorm.weight")
    hidden = ops.add(hidden, scaled(added, spec.residual_scale))
    before = "pre_feedforward_layernorm" if spec.post_norms else "post_attention_layernorm"
    inputs = graph.norm(hidden, f"{prefix}{before}.weight")
    experts = spec.mixed(layer)
    if experts is None:
        added = graph.feed_forward(inputs, f"{prefix}mlp.")
    else:
        added = mixture(graph, inputs, experts, f"{prefix}mlp.")
    if spec.post_norms:
        added = graph.norm(added, f"{prefix}post_feedforward_layernorm.weight")
    return ops.add(hidden, scaled(added, spec.residual_scale))


def _attention(graph: Graph, step: _Step, layer: int, inputs: Any) -> Any:  # noqa: ANN401
    spec, prefix = graph.spec, f"{layer_prefix(layer)}self_attn."
    if spec.fused:
        together = graph.linear(inputs, f"{prefix}qkv_proj", spec.qkv_bias)
        sizes = ints([spec.query_size, spec.kv_size, spec.kv_size])
        projected = dict(zip("qkv", ops.variadic_split(together, ints(2), sizes).outputs(), strict=True))
    else:
        projected = {name: graph.linear(inputs, f"{prefix}{name}_proj", spec.qkv_bias) for name in "qkv"}

    def heads(name: str, count: int) -> Any:  # noqa: ANN401
        split = ops.reshape(projected[name], ints([0, 1, count, spec.head_dim]), True)
        if spec.qk_norm:
            split = graph.norm(split, f"{prefix}{name}_norm.weight", 4)
        rotated = step.rotate(ops.transpose(split, ints([0, 2, 1, 3])), spec.ropes[layer], spec.head_dim)
        return flat(ops.transpose(rotated, ints([0, 2, 1, 3])), count * spec.head_dim)

    key_cache = graph.parameter(f"{KEYS}{layer}", [-1, -1, -1, -1], ov.Type.dynamic)
    value_cache = graph.parameter(f"{VALUES}{layer}", [-1, -1, -1, -1], ov.Type.dynamic)
    no_ints, no_floats = np.zeros(0, np.int32), np.zeros(0, np.float32)
    # In the order of the op: openvino/op/paged_attention.hpp, 2026.4. Empty tensors and zeros switch a feature off.
    arguments = {
        "query": step.grow(heads("q", spec.heads)),
        "key": heads("k", spec.kv_heads),
        "value": flat(projected["v"], spec.kv_size),
        "key_cache": key_cache,
        "value_cache": value_cache,
        "past_lens": step.past,
        "subsequence_begins": step.begins,
        "block_indices": step.pages,
        "block_indices_begins": step.page_begins,
        "scale": floats(spec.attention_scale),
        "sliding_window": int32(spec.windows[layer]),
        "alibi_slopes": ops.constant(no_floats),
        "max_context_len": step.longest,
        "score_aggregation_window": ops.constant(no_ints),
        "rotated_block_indices": ops.constant(no_ints),
        "rotation_deltas": ops.constant(no_ints),
        "rotation_trig_lut": ops.constant(no_floats),
        "xattention_threshold": ops.constant(no_floats),
        "xattention_block_size": int32(0),
        "xattention_stride": int32(0),
        "sinks": ops.constant(no_floats.reshape(0, 0, 0, 0)),
        "adaptive_rkv_start_size": int32(0),
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
    return ops.reshape(attention.output(0), ints([-1, 1, spec.query_size]), False)
