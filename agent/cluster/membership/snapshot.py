"""From a run of membership to what the rest of the node sees: a frozen Cluster."""

from __future__ import annotations

from agent.cluster.membership.beacon import Touch
from agent.cluster.membership.run import Membership
from agent.cluster.state import Cluster, Link, Node, cluster_id


def snapshot(membership: Membership) -> Cluster:
    """The members of the epoch, each as it last spoke of itself. Before the first epoch: this node alone, unsettled."""
    own, epoch = membership.node, membership.epoch
    if epoch is None:
        return Cluster(cluster_id(own.id), membership.term, (own,), leader_id=own.id, settled=False)
    known: dict[str, Node] = {each: peer.beacon.node for each, peer in membership.peers.items()}
    known[own.id] = own
    nodes = tuple(known[each] for each in epoch.members if each in known)
    return Cluster(
        id=cluster_id(epoch.leader),
        epoch=epoch.term,
        nodes=nodes,
        links=_links(membership, {node.id for node in nodes}),
        leader_id=epoch.leader,
        settled=membership.settled,
        leader_reached=epoch.leader == own.id or epoch.leader in membership.mutual,
        token=epoch.token,
    )


def _links(membership: Membership, members: set[str]) -> tuple[Link, ...]:
    """Each contact once, though the readers of both sides may see it."""
    own = membership.node.id
    touches = [(own, each) for each in membership.said_touches]
    touches += [(name, each) for name, peer in membership.mutual.items() for each in peer.beacon.touched]
    found: dict[tuple[str, str], Link] = {}
    for name, touch in touches:
        link = _link(name, touch)
        if {link.lower, link.upper} <= members:
            found.setdefault((link.lower, link.upper), link)
    return tuple(found[ends] for ends in sorted(found))


def _link(name: str, touch: Touch) -> Link:
    if touch.face == "top":
        return Link(name, touch.other, touch.round_trip_ms, touch.gigabits, "top", touch.other_face)
    return Link(touch.other, name, touch.round_trip_ms, touch.gigabits, touch.other_face, "bottom")
