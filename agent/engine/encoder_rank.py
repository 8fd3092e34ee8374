"""The head of a cross-encoder: pooled vectors to scores. Few numbers, so numpy does."""

from __future__ import annotations

import math

import numpy as np

from agent.engine.base import Floats
from agent.engine.encoder_config import Activation
from agent.engine.encoder_spec import EncoderSpec
from agent.engine.encoder_weights import Affine, RankHead

_erf = np.vectorize(math.erf, otypes=[np.float64])


def scores(spec: EncoderSpec, head: RankHead, pooled: Floats) -> Floats:
    """[inputs, hidden] -> [inputs, 1], each from 0 to 1: the logistic function of the model's only logit."""
    x = _activate(_affine(pooled.astype(np.float64), head.dense), spec.head_activation)
    if head.norm is not None:
        x = x - x.mean(axis=1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + spec.norm_eps)
        x = x * head.norm.weight + head.norm.bias
    logits = np.clip(_affine(x, head.out), -80.0, 80.0)  # beyond, float32 has nothing left to tell
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def _affine(x: Floats, part: Affine) -> Floats:
    y: Floats = x @ part.weight.T
    return y if part.bias is None else y + part.bias


def _activate(x: Floats, activation: Activation) -> Floats:
    y: Floats
    match activation:
        case "tanh":
            y = np.tanh(x)
        case "gelu":
            y = x * 0.5 * (1 + _erf(x / math.sqrt(2)))
        case "gelu_tanh":
            y = x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        case "silu":
            y = x / (1 + np.exp(-x))
        case "relu":
            y = np.maximum(x, 0)
    return y
