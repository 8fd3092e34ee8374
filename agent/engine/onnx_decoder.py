"""A range of a decoder's layers as an ONNX graph: attention on cache rows of the caller, weights in few bits.

The operations beside the standard ones are onnxruntime's own (com.microsoft, described in its ContribOperators.md):
GroupQueryAttention rotates, appends to the cache and attends; MatMulNBits unpacks while it multiplies.
"""

from __future__ import annotations

import numpy as np

from agent.engine.decoder import EMBEDDING, FINAL_NORM, HEAD, DecoderSpec, layer_prefix
from agent.engine.onnx_experts import mixture
from agent.engine.onnx_graph import CONTRIB, GraphBuilder
from agent.engine.onnx_parts import Parts
from agent.engine.onnx_window import local_window_size
from agent.engine.quantise import Packed
from agent.engine.rope import Rope
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


class DecoderGraph:
    """The graph of ``layers``, with the embedding if layer 0 is among them, with norm and head if the last one is."""

    def __init__(
        self,
        spec: DecoderSpec,
        layers: range,
        weights: Weights,
        *,
        row_tokens: int,
        exact: bool,
        adapted: frozenset[str] = frozenset(),
    ) -> None:
        """``adapted``: the matrices that adapters change, which are further inputs (onnx_lora)."""
        self._spec, self._layers, self._weights = spec, layers, weights
        self._row_tokens = row_tokens
        self._graph = GraphBuilder("stage")
        self._parts = Parts(self._graph, spec, weights, exact, adapted)
        self._tables: dict[Rope, tuple[str, str]] = {}
        self._growth = ""  # what scales the queries of each token, where the decoder does so

    def build(self) -> GraphBuilder:
        graph, spec, parts = self._graph, self._spec, self._parts
        if self._layers.start == 0:
            x = parts.scaled(self._embed(graph.input(TOKENS, np.int64, ["rows", "length"])), spec.embedding_scale)
        else:
            x = graph.input(HIDDEN, np.float32, ["rows", "length", spec.hidden])
        step = (graph.input(LAST, np.int32, ["rows"]), graph.input(LONGEST, np.int32, []))
        if spec.query_growth:
            self._growth = self._query_growth(x, step[0])
        for layer in self._layers:
            x = self._layer(x, layer, step)
        if self._layers.stop == spec.layers:
            flat = graph.node("Reshape", x, graph.constant(np.array([-1, spec.hidden], np.int64)))
            x = graph.node("Gather", flat, graph.input(WANTED, np.int64, ["wanted"]))
            logits = parts.multiply(parts.norm(x, FINAL_NORM), [EMBEDDING if spec.tied else HEAD])
            logits = parts.capped(parts.scaled(logits, spec.logit_scale), spec.logit_cap)
            graph.node("Identity", logits, outputs=[graph.output(LOGITS, np.float32, ["wanted", spec.vocab])])
        else:
            states = graph.output(STATES, np.float32, ["rows", "length", spec.hidden])
            graph.node("Identity", x, outputs=[states])
        return graph

    def _layer(self, x: str, layer: int, step: tuple[str, str]) -> str:
        graph, spec, parts, at = self._graph, self._spec, self._parts, layer_prefix(layer)
        y = self._attention(parts.norm(x, f"{at}input_layernorm.weight"), layer, step)
        y = parts.linear(y, [f"{at}self_attn.o_proj"], spec.output_bias)
        if spec.post_norms:
            y = parts.norm(y, f"{at}post_attention_layernorm.weight")
        x = graph.node("Add", x, parts.scaled(y, spec.residual_scale))
        before = "pre_feedforward_layernorm" if spec.post_norms else "post_attention_layernorm"
        y = parts.norm(x, f"{at}{before}.weight")
        experts = spec.mixed(layer)
        y = parts.feed_forward(y, f"{at}mlp.") if experts is None else mixture(parts, y, experts, f"{at}mlp.")
        if spec.post_norms:
            y = parts.norm(y, f"{at}post_feedforward_layernorm.weight")
        return graph.node("Add", x, parts.scaled(y, spec.residual_scale))

    def _attention(self, x: str, layer: int, step: tuple[str, str]) -> str:
        graph, spec, at = self._graph, self._spec, f"{layer_prefix(layer)}self_attn."
        names = ["qkv"] if spec.fused else ["q", "k", "v"]
        qkv = self._parts.linear(x, [f"{at}{name}_proj" for name in names], spec.qkv_bias)
        q, k, v = qkv, "", ""
        if spec.qk_norm or self._growth:
            sizes = graph.constant(np.array([spec.query_size, spec.kv_size, spec.kv_size], np.int64))
            q, k, v = graph.outputs_of("Split", 3, qkv, sizes, axis=-1)
        if spec.qk_norm:
            q = self._norm_heads(q, f"{at}q_norm.weight", spec.heads)
            k = self._norm_heads(k, f"{at}k_norm.weight", spec.kv_heads)
        if self._growth:
            q = graph.node("Mul", q, self._growth)
        shape: list[int | str] = ["rows", spec.kv_heads, self._row_tokens, spec.head_dim]
        caches = [graph.input(f"{name}{layer}", np.float32, shape) for name in (KEYS, VALUES)]
        updated = [graph.output(f"{UPDATED}{name}", np.float32, shape) for name in caches]
        rope = spec.ropes[layer]
        return graph.node(
            "GroupQueryAttention",
            *(q, k, v, *caches, *step),
            *(() if rope is None else self._angles(rope)),
            domain=CONTRIB,
            outputs=[f"attended.{layer}", *updated],
            num_heads=spec.heads,
            kv_num_heads=spec.kv_heads,
            scale=spec.attention_scale,
            softcap=spec.attention_cap,
            do_rotary=int(rope is not None),
            local_window_size=local_window_size(spec.windows[layer]),
        )

    def _norm_heads(self, x: str, name: str, count: int) -> str:
        graph, size = self._graph, self._spec.head_dim
        heads = graph.node("Reshape", x, graph.constant(np.array([0, 0, count, size], np.int64)))
        flat = graph.constant(np.array([0, 0, count * size], np.int64))
        return graph.node("Reshape", self._parts.norm(heads, name), flat)

    def _angles(self, rope: Rope) -> tuple[str, str]:
        """Tables of cosine and sine, [row tokens, rotated size / 2], shared by the layers of like rotation."""
        if rope not in self._tables:
            angles = np.arange(self._row_tokens)[:, None] * rope.inverse_frequencies()
            cos, sin = (
                self._graph.constant((table * rope.amplitude).astype(np.float32))
                for table in (np.cos(angles), np.sin(angles))
            )
            self._tables[rope] = (cos, sin)
        return self._tables[rope]

    def _query_growth(self, x: str, last: str) -> str:
        """1 + growth * ln(1 + floor(position / length)), [rows, length, 1]: get_llama_4_attn_scale of transformers.

        It is the same before the rotation as after it.
        """
        graph, spec = self._graph, self._spec

        def constant(value: float) -> str:
            return graph.constant(np.array(value, np.float32))

        length = graph.node("Cast", graph.node("Shape", x, start=1, end=2), to=1)  # FLOAT
        zero, one = constant(0), constant(1)
        scalar = graph.node("Squeeze", length)
        offsets = graph.node("Sub", graph.node("Range", zero, scalar, one), graph.node("Sub", scalar, one))
        ends = graph.node("Unsqueeze", graph.node("Cast", last, to=1), graph.constant(np.array([1], np.int64)))
        positions = graph.node("Add", ends, offsets)
        steps = graph.node("Floor", graph.node("Div", positions, constant(spec.query_growth_length)))
        grown = graph.node("Mul", graph.node("Log", graph.node("Add", steps, one)), constant(spec.query_growth))
        return graph.node("Unsqueeze", graph.node("Add", grown, one), graph.constant(np.array([2], np.int64)))

    def _embed(self, tokens: str) -> str:
        graph, weight = self._graph, self._weights.matrix(EMBEDDING)
        if not isinstance(weight, Packed):
            return graph.node("Gather", graph.constant(weight), tokens)
        # The embedding is int8 with a scale for each token in every packed format.
        values = graph.node("Cast", graph.node("Gather", graph.constant(weight.values), tokens), to=1)  # FLOAT
        scales = graph.constant(weight.scales.astype(np.float32))
        return graph.node("Mul", values, graph.node("Gather", scales, tokens))
