"""The forward pass of an embedding model as an ONNX graph, built by hand: the form for arm64."""

from __future__ import annotations

import numpy as np

from agent.engine.base import Floats, Tokens
from agent.engine.encoder_spec import EncoderSpec
from agent.engine.encoder_weights import Affine, EncoderLayer, EncoderWeights, Norm, rotary
from agent.engine.onnx_graph import CONTRIB, GraphBuilder, Session
from agent.errors import EngineError


class OnnxEncoder:
    """An EncoderForm, float32."""

    def __init__(self, spec: EncoderSpec, weights: EncoderWeights, *, threads: int = 0) -> None:
        self._hidden = spec.hidden_size
        self._session: Session | None = _Graph(spec, weights).build().session(threads)

    def run(self, tokens: Tokens) -> Floats:
        if self._session is None:
            raise EngineError("The embedding model was closed")
        hidden = np.empty((*tokens.shape, self._hidden), np.float32)
        self._session.run({"tokens": np.ascontiguousarray(tokens)}, {"hidden": hidden})
        return hidden

    def close(self) -> None:
        self._session = None


class _Graph:
    def __init__(self, spec: EncoderSpec, weights: EncoderWeights) -> None:
        self._spec, self._weights = spec, weights
        self._graph = GraphBuilder("encoder")

    def build(self) -> GraphBuilder:
        """tokens, i64 [inputs, length] -> hidden, f32 [inputs, length, hidden_size]."""
        graph, spec, weights = self._graph, self._spec, self._weights
        tokens = graph.input("tokens", np.int64, ["inputs", "length"])
        added = graph.constant(weights.added)
        if len(weights.added) > 1:
            length = graph.node("Shape", tokens, start=1, end=2)
            zero = graph.constant(np.array([0], np.int64))
            added = graph.node("Slice", added, zero, length, zero)
        x = graph.node("Gather", graph.constant(weights.tokens), tokens)
        x = self._norm(graph.node("Add", x, added), weights.norm)
        angles = [graph.constant(table) for table in rotary(spec)] if spec.rope_theta is not None else []
        for layer in weights.layers:
            x = self._norm(graph.node("Add", x, self._attention(x, layer, angles)), layer.attention_norm)
            x = self._norm(graph.node("Add", x, self._feed_forward(x, layer)), layer.norm)
        graph.node("Identity", x, outputs=["hidden"])
        graph.output("hidden", np.float32, ["inputs", "length", spec.hidden_size])
        return graph

    def _attention(self, x: str, layer: EncoderLayer, angles: list[str]) -> str:
        graph, heads = self._graph, self._spec.heads
        q, k, v = graph.outputs_of("Split", 3, self._affine(x, layer.qkv), axis=-1, num_outputs=3)
        if angles:
            first = graph.constant(np.array([0], np.int64))  # one position: that of the first token of every input
            q, k = (graph.node("RotaryEmbedding", part, first, *angles, domain=CONTRIB) for part in (q, k))
        y = graph.node("MultiHeadAttention", q, k, v, domain=CONTRIB, num_heads=heads)
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

    def _norm(self, x: str, norm: Norm) -> str:
        weight, bias = self._graph.constant(norm.weight), self._graph.constant(norm.bias)
        return self._graph.node("LayerNormalization", x, weight, bias, axis=-1, epsilon=self._spec.norm_eps)

    def _affine(self, x: str, part: Affine) -> str:
        y = self._graph.node("MatMul", x, self._graph.constant(part.weight.T))
        return y if part.bias is None else self._graph.node("Add", y, self._graph.constant(part.bias))
