"""The forward pass of an encoder as an ONNX graph, built by hand: the form for arm64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.engine.base import Floats
from agent.engine.encoder_batch import ROW_TOKENS, EncoderBatch
from agent.engine.encoder_spec import EncoderSpec
from agent.engine.encoder_weights import Affine, EncoderLayer, EncoderWeights, Norm, rotary
from agent.engine.onnx_graph import CONTRIB, GraphBuilder, Session
from agent.errors import EngineError

_SHAPE = ["rows", "length"]


class OnnxEncoder:
    """An EncoderForm, float32."""

    def __init__(self, spec: EncoderSpec, weights: EncoderWeights, *, threads: int = 0) -> None:
        self._hidden = spec.hidden_size
        self._session: Session | None = _Graph(spec, weights).build().session(threads)

    def run(self, batch: EncoderBatch) -> Floats:
        if self._session is None:
            raise EngineError("The encoder was closed")
        hidden = np.empty((*batch.tokens.shape, self._hidden), np.float32)
        inputs = {"tokens": batch.tokens, "places": batch.places, "texts": batch.texts}
        if batch.types is not None:
            inputs["types"] = batch.types
        self._session.run({name: np.ascontiguousarray(array) for name, array in inputs.items()}, {"hidden": hidden})
        return hidden

    def close(self) -> None:
        self._session = None


@dataclass(frozen=True, slots=True)
class _Sight:
    """What a layer sees: cosines and sines of the positions; what is added to scores, -inf where out of sight."""

    angles: tuple[str, ...]  # tables
    places: str
    mask: str


class _Graph:
    def __init__(self, spec: EncoderSpec, weights: EncoderWeights) -> None:
        self._spec, self._weights = spec, weights
        self._graph = GraphBuilder("encoder")

    def build(self) -> GraphBuilder:
        """What an EncoderBatch holds, i64 [rows, length] -> hidden, f32 [rows, length, hidden_size]."""
        graph, spec, weights = self._graph, self._spec, self._weights
        tokens, places, texts = (graph.input(name, np.int64, _SHAPE) for name in ("tokens", "places", "texts"))
        added = graph.constant(weights.added)
        if len(weights.added) > 1:
            added = graph.node("Gather", added, places)
        x = graph.node("Add", graph.node("Gather", graph.constant(weights.tokens), tokens), added)
        if weights.types is not None:
            types = graph.input("types", np.int64, _SHAPE)
            x = graph.node("Add", x, graph.node("Gather", graph.constant(weights.types), types))
        x = self._norm(x, weights.norm)
        apart = graph.node("Not", graph.node("Equal", *self._crossed(texts)))
        mask = self._mask(apart)
        if weights.distances is not None:
            mask = graph.node("Add", mask, self._by_distance(weights.distances, places))
        whole = _Sight(self._angles(spec.rope_theta), places, mask)
        window, near = spec.window, whole
        if window is not None:
            distance = graph.node("Abs", graph.node("Sub", *self._crossed(places)))
            far = graph.node("Greater", distance, graph.constant(np.array(window.reach, np.int64)))
            near = _Sight(self._angles(window.rope_theta), places, self._mask(graph.node("Or", apart, far)))
        for index, layer in enumerate(weights.layers):
            sight = near if window is not None and index in window.layers else whole
            if weights.final is None:
                assert layer.attention_norm is not None, "post-norm"
                x = self._norm(graph.node("Add", x, self._attention(x, layer, sight)), layer.attention_norm)
                x = self._norm(graph.node("Add", x, self._feed_forward(x, layer)), layer.norm)
            else:
                seen = x if layer.attention_norm is None else self._norm(x, layer.attention_norm)
                x = graph.node("Add", x, self._attention(seen, layer, sight))
                x = graph.node("Add", x, self._feed_forward(self._norm(x, layer.norm), layer))
        if weights.final is not None:
            x = self._norm(x, weights.final)
        graph.node("Identity", x, outputs=["hidden"])
        graph.output("hidden", np.float32, ["inputs", "length", spec.hidden_size])
        return graph

    def _angles(self, theta: float | None) -> tuple[str, ...]:
        # The operator wants as many angles as a row has tokens, though none of its texts is that long.
        positions = max(self._spec.context_length, ROW_TOKENS)
        tables = () if theta is None else rotary(self._spec, theta, positions)
        return tuple(self._graph.constant(table) for table in tables)

    def _by_distance(self, table: Floats, places: str) -> str:
        """[rows, heads, length, length]"""
        graph = self._graph
        here, there = self._crossed(places)
        ahead = graph.node("Sub", there, here)
        row = graph.node("Add", ahead, graph.constant(np.array(self._spec.context_length - 1, np.int64)))
        return graph.node("Transpose", graph.node("Gather", graph.constant(table), row), perm=[0, 3, 1, 2])

    def _crossed(self, values: str) -> list[str]:
        """[rows, length] as [rows, length, 1] and [rows, 1, length]."""
        axes = (self._graph.constant(np.array([axis], np.int64)) for axis in (2, 1))
        return [self._graph.node("Unsqueeze", values, axis) for axis in axes]

    def _mask(self, hidden: str) -> str:
        graph = self._graph
        out, seen = (graph.constant(np.array(value, np.float32)) for value in (-np.inf, 0.0))
        mask = graph.node("Where", hidden, out, seen)
        return graph.node("Unsqueeze", mask, graph.constant(np.array([1], np.int64)))

    def _attention(self, x: str, layer: EncoderLayer, sight: _Sight) -> str:
        graph, heads = self._graph, self._spec.heads
        q, k, v = graph.outputs_of("Split", 3, self._affine(x, layer.qkv), axis=-1, num_outputs=3)
        if sight.angles:
            turn = (sight.places, *sight.angles)
            q, k = (graph.node("RotaryEmbedding", part, *turn, domain=CONTRIB) for part in (q, k))
        y = graph.node("MultiHeadAttention", q, k, v, "", "", sight.mask, domain=CONTRIB, num_heads=heads)
        return self._affine(y, layer.out)

    def _feed_forward(self, x: str, layer: EncoderLayer) -> str:
        up = self._affine(x, layer.up)
        if layer.gate is None:
            return self._affine(self._activate(up), layer.down)
        return self._affine(self._graph.node("Mul", up, self._activate(self._affine(x, layer.gate))), layer.down)

    def _activate(self, x: str) -> str:
        match self._spec.activation:
            case "gelu":
                return self._graph.node("Gelu", x, approximate="none")
            case "gelu_tanh":
                return self._graph.node("Gelu", x, approximate="tanh")
            case "silu":  # x * sigmoid(1.0 * x)
                return self._graph.node("QuickGelu", x, domain=CONTRIB, alpha=1.0)
            case "relu":
                return self._graph.node("Relu", x)
            case "tanh":
                return self._graph.node("Tanh", x)

    def _norm(self, x: str, norm: Norm) -> str:
        weight, bias = self._graph.constant(norm.weight), self._graph.constant(norm.bias)
        return self._graph.node("LayerNormalization", x, weight, bias, axis=-1, epsilon=self._spec.norm_eps)

    def _affine(self, x: str, part: Affine) -> str:
        y = self._graph.node("MatMul", x, self._graph.constant(part.weight.T))
        return y if part.bias is None else self._graph.node("Add", y, self._graph.constant(part.bias))
