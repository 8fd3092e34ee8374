"""Who leads: an order of precedence over what nodes say of themselves, the same to whoever hears the same beacons.

A node that leads others already keeps on leading (sticky). Among such leaders, whose stacks meet: the larger stack's,
then the one who has led for longer, then the lowest id. Among nodes that lead nobody: external power, then the highest
battery, then the lowest id.

A leader lays its lead down by itself when it has no external power while a node that it hears has some: a leader on
battery is throttled first, and gone when the battery is. This is said in its beacon (``reigns``), not judged by each
listener, so that the order is one and the same for nodes that hear different others. Batteries alone never move a lead:
they fall all the time, and a lead that follows them would move all the time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from agent.cluster.state import Node

Rank = tuple[int, float, float, str]  # the lowest leads

# How long somebody has led, in coarse classes: within one of them the ages differ by chance, and the id decides.
# Listeners hold ages that are a beacon old, so finer steps would be seen differently for as long as two ages differ.
LIVED_S = (10.0, 60.0, 600.0, 3600.0, 86400.0)


def lived(seconds: float) -> int:
    """The class of age, 0 to 5."""
    return bisect_right(LIVED_S, seconds)


def rank(node: Node, reigns: bool, present: int, age: int) -> Rank:
    """Of a node that leads ``present`` nodes, itself among them, for ``age``, if it ``reigns``."""
    if reigns:
        return (0, -float(present), -float(age), node.id)
    return (1, 0.0 if node.external_power else 1.0, -(node.battery_percent or 0.0), node.id)


def keeps_the_lead(node: Node, present: int, others: Iterable[Node]) -> bool:
    """Whether a leader of ``present`` nodes goes on when the rule would choose another. ``others``: those it hears.

    Who leads itself alone has nothing to keep: two single nodes that meet choose by rule.
    """
    return present > 1 and (node.external_power or not any(other.external_power for other in others))
