"""Mixture of experts in an OpenVINO graph."""

from __future__ import annotations

from typing import Any

from agent.engine.experts import Experts
from agent.engine.openvino_parts import Graph


def mixture(graph: Graph, inputs: Any, experts: Experts, prefix: str) -> Any:  # noqa: ANN401
    raise NotImplementedError
