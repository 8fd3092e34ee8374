"""Mixture of experts in an ONNX graph."""

from __future__ import annotations

from agent.engine.experts import Experts
from agent.engine.onnx_parts import Parts


def mixture(parts: Parts, x: str, experts: Experts, prefix: str) -> str:
    raise NotImplementedError
