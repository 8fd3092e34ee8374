"""Who hears whom: the largest group around a candidate in which everybody hears everybody."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations

from agent.cluster.state import MOST_NODES


def largest_clique(
    centre: str, hears: Mapping[str, Collection[str]], keep: Collection[str] = (), most: int = MOST_NODES
) -> tuple[str, ...]:
    """Sorted ids of the largest group that holds ``centre`` and whose members all hear one another.

    ``hears``: by node, whom it hears; both must. Among groups of one size, the one with most of ``keep`` (who are in
    the cluster already stay in it), then the lowest ids. At most ``most`` nodes.
    """
    others = sorted(each for each in hears if each != centre and _both(centre, each, hears))
    apart = {one: frozenset(two for two in others if two != one and not _both(one, two, hears)) for one in others}
    if len(others) < most and not any(apart.values()):
        return tuple(sorted([centre, *others]))
    free = [each for each in others if not apart[each]]
    torn = [each for each in others if apart[each]]
    best: tuple[tuple[int, int], tuple[str, ...]] | None = None
    for size in range(len(torn), -1, -1):
        for some in combinations(torn, size):
            if any(apart[one] & set(some) for one in some):
                continue
            group = _fit(some, free, keep, most - 1)
            worth = (len(group), sum(each in keep for each in group))
            if best is None or worth > best[0] or (worth == best[0] and group < best[1]):
                best = (worth, group)
        if best is not None and best[0][0] > min(size - 1 + len(free), most - 1):
            break  # fewer of them cannot be more
    assert best is not None  # size 0 always fits
    return tuple(sorted([centre, *best[1]]))


def _fit(some: Collection[str], free: Collection[str], keep: Collection[str], most: int) -> tuple[str, ...]:
    chosen = sorted([*some, *free], key=lambda each: (each not in keep, each))[:most]
    return tuple(sorted(chosen))


def _both(one: str, two: str, hears: Mapping[str, Collection[str]]) -> bool:
    return two in hears[one] and one in hears[two]
