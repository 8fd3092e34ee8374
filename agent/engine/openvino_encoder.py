"""The forward pass of an encoder as an OpenVINO graph, built by hand: the form for x86_64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import agent.quiet  # noqa: F401  # before openvino: it sends nothing

# isort: split
import openvino
from openvino import Node, opset15

from agent.engine.base import Floats, Tokens
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

    def run(self, tokens: Tokens, types: Tokens | None = None) -> Floats:
        if self._request is None:
            raise EngineError("The encoder was closed")
        self._request.infer({0: tokens} if types is None else {0: tokens, 1: types}, share_inputs=True)
        hidden: Floats = self._request.get_output_tensor(0).data
        return hidden

    def close(self) -> None:
        self._request = None
        self._lent = []


@dataclass(frozen=True, slots=True)
class _Sight:
    """What a layer sees: cosines and sines of the positions; 0 or -inf, where out of sight, [1, 1, length, length]."""

    angles: tuple[Node, Node] | None
    mask: Node | None


class _Graph:
    def __init__(self, spec: EncoderSpec, weights: EncoderWeights) -> None:
        self._spec, self._weights = spec, weights
        self.lent: list[Floats] = []  # must live as long as the compiled graph

    def model(self) -> openvino.Model:
        """tokens and, where the weights have types, types, i64 [inputs, length] -> hidden states, f32 [..., hidden]."""
        spec, weights = self._spec, self._weights
        tokens = opset15.parameter([-1, -1], np.int64, name="tokens")
        inputs = [tokens]
        length = opset15.gather(opset15.shape_of(tokens), opset15.constant([1], np.int64), _scalar(0))
        x = opset15.gather(self._constant(weights.tokens), tokens, _scalar(0))
        x = opset15.add(x, self._first(weights.added, length))
        if weights.types is not None:
            types = opset15.parameter([-1, -1], np.int64, name="types")
            inputs.append(types)
            x = opset15.add(x, opset15.gather(self._constant(weights.types), types, _scalar(0)))
        x = self._norm(x, weights.norm)
        whole = self._sight(spec.rope_theta, None, length)
        window = spec.window
        near = whole if window is None else self._sight(window.rope_theta, window.reach, length)
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

    def _sight(self, theta: float | None, reach: int | None, length: Node) -> _Sight:
        angles = mask = None
        if theta is not None:
            cos, sin = rotary(self._spec, theta)
            angles = self._first(cos, length), self._first(sin, length)
        if reach is not None:
            end = opset15.squeeze(length, _scalar(0))
            place = opset15.convert(opset15.range(_scalar(0), end, _scalar(1), "i64"), np.float32)
            rows, columns = (opset15.unsqueeze(place, _scalar(axis)) for axis in (1, 0))
            apart = opset15.abs(opset15.subtract(rows, columns))
            mask = opset15.select(
                opset15.greater(apart, opset15.constant(reach, np.float32)),
                opset15.constant(-np.inf, np.float32),
                opset15.constant(0.0, np.float32),
            )
            mask = opset15.unsqueeze(mask, opset15.constant([0, 1], np.int64))
        return _Sight(angles, mask)

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

    def _first(self, table: Floats, length: Node) -> Node:
        """The first ``length`` rows; a table of one row is the same at each position."""
        if len(table) == 1:
            return self._constant(table)
        step = opset15.constant([1], np.int64)
        return opset15.slice(
            self._constant(table), opset15.constant([0], np.int64), length, step, opset15.constant([0], np.int64)
        )

    def _affine(self, x: Node, part: Affine) -> Node:
        y = opset15.matmul(x, self._constant(part.weight), False, True)
        return y if part.bias is None else opset15.add(y, self._constant(part.bias))

    def _constant(self, array: Floats) -> Node:
        self.lent.append(np.ascontiguousarray(array))
        return opset15.constant(self.lent[-1], shared_memory=True)


def _scalar(value: int) -> Node:
    return opset15.constant(value, np.int64)
