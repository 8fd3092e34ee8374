"""Who hangs on the supply electrically, and through which contacts. Pure.

What touches is told by tags (the links of a Cluster) and by the lines of the modules' faces. A contact that was seen
once stays until one of its two faces is open: an agent that is silent draws its floor all the same. A face that is
closed, and that no tag explains, has a module on it whose agent was never heard: that draws its floor, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from agent.cluster.power.rules import Limit
from agent.cluster.state import MOST_NODES, Cluster, Link, Side

Faces = Mapping[Side, bool]  # whether something lies on that face


def touches_nobody(cluster: Cluster, own: str, faces: Faces | None) -> bool:
    """Whether this module stands by itself, for certain: no face is closed, and nobody's reader says otherwise."""
    linked = any(own in (link.lower, link.upper) for link in cluster.links)
    return faces is not None and not any(faces.values()) and not linked


def feeder(cluster: Cluster, contacts: Iterable[Link], own: str, external: bool) -> str | None:
    """Whose supply feeds this module: of several in its chain the lowest. None: nobody's.

    ``contacts``: what touches what, by tags, also where a module between has fallen silent. ``external``: whether a
    supply is plugged into this one, as it sees itself; of the others the Cluster tells. Where tags do not tell of any
    in the chain, it is the one in the cluster with the lowest id.
    """
    powered = {node.id for node in cluster.nodes if node.external_power} - {own}
    if external:
        powered.add(own)
    in_chain = [node for node in chain(contacts, own) if node in powered]
    return in_chain[0] if in_chain else min(powered, default=None)


def chain(links: Iterable[Link], node: str) -> tuple[str, ...]:
    """All that touch one another with ``node`` among them, the lowest first."""
    known = tuple(links)
    below = {link.upper: link.lower for link in known}
    above = {link.lower: link.upper for link in known}
    under = _walk(below, node)[::-1]
    return (*under, node, *(one for one in _walk(above, node) if one not in under))


def _walk(step: Mapping[str, str], node: str) -> tuple[str, ...]:
    way = [node]
    while step.get(way[-1]) is not None and step[way[-1]] not in way:  # tags that lie may close a circle
        way.append(step[way[-1]])
    return tuple(way[1:])


class Topology:
    """What stands on what, as the module at the supply knows it. ``contacts``: from before a restart."""

    def __init__(self, own: str, contact_w: float, contacts: Iterable[Link] = ()) -> None:
        """``contact_w``: what each contact of the stack carries."""
        self._own, self._contact_w = own, contact_w
        self._faces: dict[str, dict[Side, bool]] = {}
        self._told: frozenset[Link] = frozenset()
        self.contacts: tuple[Link, ...] = tuple(contacts)

    def look(self, links: Sequence[Link], faces: Faces | None, keep: bool) -> None:
        """What is true now: the links of the cluster, and this module's faces (None: they cannot be read).

        Contacts that are told no more stay as long as no face of them is open. ``keep``: all of them, for who hears of
        all faces; else those alone that join others to this module, however many stand between."""
        if faces is not None:
            self._faces[self._own] = dict(faces)
        new = [_plain(link) for link in links]
        for node, face in (end for link in new if link not in self._told for end in _ends(link)):
            if node != self._own:
                self._faces.get(node, {}).pop(face, None)  # its tag was read since: what it said of it is older
        self._told = frozenset(new)
        taken = {end for link in new for end in _ends(link)}  # one face touches one other
        found = sorted((*(link for link in self.contacts if not taken & set(_ends(link))), *new), key=_ends)
        opened = [link for link in found if self._open(link)]
        closed = tuple(link for link in found if link not in opened)
        near = chain(closed, self._own)
        self.contacts = closed if keep else tuple(link for link in closed if link in new or link.lower in near)
        for node, face in (end for link in opened for end in _ends(link)):
            if node != self._own and face in self._faces.get(node, {}):  # a silent one cannot say so itself
                self._faces[node][face] = False

    def said(self, node: str, faces: Faces) -> None:
        """What another node says of its faces."""
        self._faces[node] = dict(faces)

    def attached(self, loose: Iterable[str] = ()) -> tuple[str, ...]:
        """Who hangs on this module's supply, itself included; ``loose``: who says so, and no tag joins them to it."""
        return tuple(node for part in self._parts(loose) for node in part)

    def unexplained(self, node: str) -> int:
        """How many faces of the modules that touch ``node``, and of itself, are closed by something no tag tells of."""
        joined = {end for link in self.contacts for end in _ends(link)}
        faces = [
            (one, face) for one in chain(self.contacts, node) for face, on in self._faces.get(one, {}).items() if on
        ]
        return sum(end not in joined for end in faces)

    def unheard(self, loose: Iterable[str] = ()) -> int:
        """How many modules hang on this supply at least that were never heard of, as closed faces tell.

        The parts of the stack that no tag joins stand somewhere in the same chain. Something lies on each unexplained
        face at their ends; between two parts one silent module may close a face of both.
        """
        parts = self._parts(loose)
        ends = [self.unexplained(part[0]) for part in parts]
        gaps = sum(count > 0 for count in ends[1:])
        return max(0, min(sum(ends) - gaps, MOST_NODES - sum(len(part) for part in parts)))

    def limits(self, loose: Iterable[str] = ()) -> tuple[Limit, ...]:
        """Each contact, with all that stand behind it, seen from the supply. The loose may stand behind any of them."""
        order, *others = self._parts(loose)
        place, beyond = order.index(self._own), frozenset(node for part in others for node in part)
        sides = [order[upper:] for upper in range(place + 1, len(order))]
        sides += [order[: lower + 1] for lower in range(place)]
        if beyond and not sides:
            sides = [()]
        return tuple(Limit(self._contact_w, frozenset(side) | beyond) for side in sides)

    def _parts(self, loose: Iterable[str]) -> list[tuple[str, ...]]:
        """What tags join to this module, then what they join to each of the loose."""
        parts = [chain(self.contacts, self._own)]
        for node in sorted(set(loose)):
            if not any(node in part for part in parts):
                parts.append(chain(self.contacts, node))
        return parts

    def _open(self, link: Link) -> bool:
        return any(self._faces.get(node, {}).get(face) is False for node, face in _ends(link))


def _ends(link: Link) -> tuple[tuple[str, Side], tuple[str, Side]]:
    return (link.lower, link.lower_face), (link.upper, link.upper_face)


def _plain(link: Link) -> Link:
    """What does not change with every beacon."""
    return Link(link.lower, link.upper, None, None, link.lower_face, link.upper_face)
