"""The forward pass of an encoder as an OpenVINO graph, built by hand: the form for x86_64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import agent.quiet  # noqa: F401  # before openvino: it sends nothing

# isort: split
import openvino
from openvino import Node, opset15

from agent.engine.base import Floats
from agent.engine.encoder_batch import EncoderBatch
from agent.engine.encoder_spec import EncoderSpec
from agent.engine.encoder_weights import Affine, EncoderLayer, EncoderWeights, Norm, rotary
from agent.errors import EngineError


class OpenVinoEncoder:
    """An EncoderForm. Computes in float32 whatever the processor offers: a vector is compared with stored ones."""

    def __init__(self, spec: EncoderSpec, weights: EncoderWeights, *, threads: int = 0) -> None:
        graph = _Graph(spec, weights)
        settings: dict[str, str | int] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            # OpenVINO 2026.4's fused attention gives wrong vectors for good once its first input was one token long.
            "SNIPPETS_MODE": "DISABLE",
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = openvino.Core().compile_model(graph.model(), "CPU", settings)
        self._lent = graph.lent  # the graph's constants are these very arrays
        self._request: openvino.InferRequest | None = compiled.create_infer_request()

    def run(self, batch: EncoderBatch) -> Floats:
        if self._request is None:
            raise EngineError("The encoder was closed")
        inputs = {0: batch.tokens, 1: batch.places, 2: batch.texts}
        if batch.types is not None:
            inputs[3] = batch.types
        self._request.infer(inputs, share_inputs=True)
        hidden: Floats = self._request.get_output_tensor(0).data
        return hidden

    def close(self) -> None:
        self._request = None
        self._lent = []


@dataclass(frozen=True, slots=True)
class _Sight:
    """What a layer sees: cosines and sines of the positions; what is added to scores, -inf where out of sight."""

    angles: tuple[Node, Node] | None
    mask: Node


class _Graph:
    def __init__(self, spec: EncoderSpec, weights: EncoderWeights) -> None:
        self._spec, self._weights = spec, weights
        self.lent: list[Floats] = []  # must live as long as the compiled graph

    def model(self) -> openvino.Model:
        """What an EncoderBatch holds, i64 [rows, length] -> hidden states, f32 [rows, length, hidden_size]."""
        spec, weights = self._spec, self._weights
        names = ["tokens", "places", "texts", *(["types"] if weights.types is not None else [])]
        inputs = [opset15.parameter([-1, -1], np.int64, name=name) for name in names]
        tokens, places, texts = inputs[:3]
        x = opset15.gather(self._constant(weights.tokens), tokens, _scalar(0))
        x = opset15.add(x, self._rows(weights.added, places))
        if weights.types is not None:
            x = opset15.add(x, opset15.gather(self._constant(weights.types), inputs[3], _scalar(0)))
        x = self._norm(x, weights.norm)
        apart = opset15.not_equal(opset15.unsqueeze(texts, _scalar(2)), opset15.unsqueeze(texts, _scalar(1)))
        mask = _mask(apart)
        if weights.distances is not None:
            mask = opset15.add(mask, self._by_distance(weights.distances, places))
        whole = _Sight(self._angles(spec.rope_theta, places), mask)
        window, near = spec.window, whole
        if window is not None:
            far = opset15.subtract(opset15.unsqueeze(places, _scalar(2)), opset15.unsqueeze(places, _scalar(1)))
            far = opset15.greater(opset15.abs(far), _scalar(window.reach))
            near = _Sight(self._angles(window.rope_theta, places), _mask(opset15.logical_or(apart, far)))
        for index, layer in enumerate(weights.layers):
            sight = near if window is not None and index in window.layers else whole
            if weights.final is None:
                assert layer.attention_norm is not None, "post-norm"
                x = self._norm(opset15.add(x, self._attention(x, layer, sight)), layer.attention_norm)
                x = self._norm(opset15.add(x, self._feed_forward(x, layer)), layer.norm)
            else:
                seen = x if layer.attention_norm is None else self._norm(x, layer.attention_norm)
                x = opset15.add(x, self._attention(seen, layer, sight))
                x = opset15.add(x, self._feed_forward(self._norm(x, layer.norm), layer))
        if weights.final is not None:
            x = self._norm(x, weights.final)
        return openvino.Model([opset15.result(x)], inputs, "encoder")

    def _by_distance(self, table: Floats, places: Node) -> Node:
        """[rows, heads, length, length]"""
        ahead = opset15.subtract(opset15.unsqueeze(places, _scalar(1)), opset15.unsqueeze(places, _scalar(2)))
        row = opset15.add(ahead, _scalar(self._spec.context_length - 1))
        found = opset15.gather(self._constant(table), row, _scalar(0))
        return opset15.transpose(found, opset15.constant([0, 3, 1, 2], np.int64))

    def _angles(self, theta: float | None, places: Node) -> tuple[Node, Node] | None:
        """Of each token, [rows, 1, length, head_size / 2]."""
        if theta is None:
            return None
        cos, sin = (
            opset15.unsqueeze(self._rows(table, places), _scalar(1))
            for table in rotary(self._spec, theta, self._spec.context_length)
        )
        return cos, sin

    def _attention(self, x: Node, layer: EncoderLayer, sight: _Sight) -> Node:
        heads, size = self._spec.heads, self._spec.head_size
        qkv = opset15.reshape(self._affine(x, layer.qkv), opset15.constant([0, 0, 3 * heads, size], np.int64), True)
        qkv = opset15.transpose(qkv, opset15.constant([0, 2, 1, 3], np.int64))  # [inputs, heads, length, size]
        q, k, v = opset15.split(qkv, _scalar(1), 3).outputs()
        if sight.angles is not None:
            q, k = self._rotate(q, *sight.angles), self._rotate(k, *sight.angles)
        y = opset15.scaled_dot_product_attention(q, k, v, sight.mask, causal=False)
        y = opset15.transpose(y, opset15.constant([0, 2, 1, 3], np.int64))
        y = opset15.reshape(y, opset15.constant([0, 0, heads * size], np.int64), True)
        return self._affine(y, layer.out)

    def _rotate(self, x: Node, cos: Node, sin: Node) -> Node:
        a, b = opset15.split(x, _scalar(3), 2).outputs()
        left = opset15.subtract(opset15.multiply(a, cos), opset15.multiply(b, sin))
        right = opset15.add(opset15.multiply(b, cos), opset15.multiply(a, sin))
        return opset15.concat([left, right], 3)

    def _feed_forward(self, x: Node, layer: EncoderLayer) -> Node:
        up = self._affine(x, layer.up)
        if layer.gate is None:
            return self._affine(self._activate(up), layer.down)
        return self._affine(opset15.multiply(up, self._activate(self._affine(x, layer.gate))), layer.down)

    def _activate(self, x: Node) -> Node:
        match self._spec.activation:
            case "gelu":
                return opset15.gelu(x, "erf")
            case "gelu_tanh":
                return opset15.gelu(x, "tanh")
            case "silu":
                return opset15.swish(x)
            case "relu":
                return opset15.relu(x)
            case "tanh":
                return opset15.tanh(x)

    def _norm(self, x: Node, norm: Norm) -> Node:
        y = opset15.mvn(x, opset15.constant([-1], np.int64), True, self._spec.norm_eps, "inside_sqrt")
        return opset15.add(opset15.multiply(y, self._constant(norm.weight)), self._constant(norm.bias))

    def _rows(self, table: Floats, places: Node) -> Node:
        """The row of each place; a table of one row is the same at each."""
        if len(table) == 1:
            return self._constant(table)
        return opset15.gather(self._constant(table), places, _scalar(0))

    def _affine(self, x: Node, part: Affine) -> Node:
        y = opset15.matmul(x, self._constant(part.weight), False, True)
        return y if part.bias is None else opset15.add(y, self._constant(part.bias))

    def _constant(self, array: Floats) -> Node:
        self.lent.append(np.ascontiguousarray(array))
        return opset15.constant(self.lent[-1], shared_memory=True)


def _scalar(value: int) -> Node:
    return opset15.constant(value, np.int64)


def _mask(hidden: Node) -> Node:
    out, seen = (opset15.constant(value, np.float32) for value in (-np.inf, 0.0))
    return opset15.unsqueeze(opset15.select(hidden, out, seen), _scalar(1))
