"""Shares moved to the steps on which caps can stand: watts between two steps are drawn by nobody. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, MutableMapping


def whole_mw_up(watts: float) -> float:
    """What a module says of a step: rounded up, so that a grant of it, which is rounded down, still reaches it."""
    return math.ceil(watts * 1000 - 1e-6) / 1000


def to_steps(
    watts: MutableMapping[str, float],
    least: Mapping[str, float],
    most: Mapping[str, float],
    steps: Mapping[str, tuple[float, ...]],
    nodes: Iterable[str],
    fits: Callable[[str, float], bool],
) -> None:
    """Of ``nodes``, which have risen evenly, those that want more go down to their step, and then up by steps: who has
    least goes first, of equals the lowest id, which is the same wherever it is decided, until nobody's next step
    ``fits`` what is left.

    ``least``, ``most``: what each has for certain, and will have at most. A node without steps stays where it is.
    """
    between = [node for node in nodes if steps.get(node) and watts[node] < most[node]]
    for node in between:
        watts[node] = max((step for step in steps[node] if least[node] <= step <= watts[node]), default=least[node])
    while True:
        nexts = ((watts[node], node, _next(steps[node], watts[node])) for node in between)
        rises = [(held, node, step) for held, node, step in nexts if step <= most[node] and fits(node, step - held)]
        if not rises:
            return
        _, node, step = min(rises)
        watts[node] = step


def _next(steps: tuple[float, ...], watts: float) -> float:
    return min((step for step in steps if step > watts), default=math.inf)
