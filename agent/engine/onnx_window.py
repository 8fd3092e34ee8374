"""How GroupQueryAttention is asked for a sliding window: releases of onnxruntime count its tokens differently."""

from __future__ import annotations

import functools

import numpy as np

from agent.engine.onnx_graph import CONTRIB, Array, GraphBuilder
from agent.errors import ModelError

_LENGTH, _SIZE = 4, 8  # tokens and head size of the trial


def local_window_size(window: int) -> int:
    """The attribute by which a token sees ``window`` tokens, itself included; 0: all. Raises ModelError."""
    return window - _excess() if window else -1


@functools.cache
def _excess() -> int:
    """How many tokens more than it says a window has: 1 in 1.23, 0 in 1.32, so it is tried out.

    All keys are zero, so a token gets the mean of the values it sees, which are 1, 2, 4 and 8.
    """
    graph = GraphBuilder("trial")
    cache: list[int | str] = ["rows", 1, _LENGTH, _SIZE]
    inputs = [graph.input("qkv", np.float32, ["rows", _LENGTH, 3 * _SIZE]), "", ""]
    inputs += [graph.input(name, np.float32, cache) for name in ("keys", "values")]
    inputs += [graph.input("last", np.int32, ["rows"]), graph.input("longest", np.int32, [])]
    outputs = [graph.output("attended", np.float32, ["rows", _LENGTH, _SIZE])]
    outputs += [graph.output(f"updated.{name}", np.float32, cache) for name in ("keys", "values")]
    graph.node(
        "GroupQueryAttention",
        *inputs,
        domain=CONTRIB,
        outputs=outputs,
        num_heads=1,
        kv_num_heads=1,
        local_window_size=2,
    )
    keys, values = (np.zeros((1, 1, _LENGTH, _SIZE), np.float32) for _ in range(2))
    qkv = np.zeros((1, _LENGTH, 3 * _SIZE), np.float32)
    qkv[0, :, 2 * _SIZE] = 2.0 ** np.arange(_LENGTH)
    attended = np.empty((1, _LENGTH, _SIZE), np.float32)
    feeds: dict[str, Array] = {"qkv": qkv, "keys": keys, "values": values}
    feeds |= {"last": np.array([_LENGTH - 1], np.int32), "longest": np.array(_LENGTH, np.int32)}
    results: dict[str, Array] = {"attended": attended, "updated.keys": keys, "updated.values": values}
    graph.session(1).run(feeds, results)
    for excess in (0, 1):
        if np.isclose(attended[0, -1, 0], qkv[0, -2 - excess :, 2 * _SIZE].mean()):
            return excess
    raise ModelError(
        "the attention of this onnxruntime has no sliding window that works",
        hint="install a release between 1.23.2 and 1.32",
    )
