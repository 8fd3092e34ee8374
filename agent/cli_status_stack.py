"""The whole stack in text, for ``thox status``: its nodes upon one another, and what happens to it, line by line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent.cli_picture import box

Json = Mapping[str, Any]


def stack_text(cluster: Json, topology: Json, nodes: Json) -> str:
    """Of the answers of /v1/cluster, /v1/topology and /v1/nodes, as they come from one node."""
    members = {node["id"]: node for node in nodes["nodes"]}
    count = "1 node" if len(members) == 1 else f"{len(members)} nodes"
    rows = [f"stack {cluster['cluster_id']}: {count}, epoch {cluster['epoch']}"]
    rows += [f"  {reason}" for reason in cluster["reasons"]]
    contacts = {link["upper"]: link for link in topology["links"]}
    for pile in _piles(list(members), topology["links"]):
        for name in reversed(pile):
            rows += _node(members[name], name == nodes["node"])
            if name in contacts and contacts[name]["lower"] in members:
                rows.append(_contact(contacts[name]))
    return "\n".join(rows)


def event_text(name: str, event: Json) -> str:
    """One event in a sentence."""
    match name:
        case "snapshot":
            return _state(event["cluster"]) + f"; {event['cluster']['leader']} leads {_count(event['cluster'])}"
        case "joined":
            return f"{event['id']} joined: {event['address']}, {event['ram_gb']} GB, {event['tops']} TOPS"
        case "left":
            return f"{event['id']} left"
        case "leader":
            return f"{event['leader']} leads"
        case "epoch":
            return f"epoch {event['epoch']}: {', '.join(event['members'])}"
        case "status":
            return _state(event)
        case "member":
            return f"{event['id']} is {event['status']}" + (f": {event['reason']}" if event["reason"] else "")
        case "alert":
            return f"{event['id']}: {event['reason'] or 'the power alert is over'}"
        case "model":
            return f"{event['id']}: {event['model']} is {event['state']}"
        case "contract":
            watts = event["granted_w"]
            return f"{event['id']} of {event['node_id']} " + ("ended" if watts is None else f"gives {watts:g} W")
        case "lost":
            return f"{event['count']} events were too many at once and are lost"
    return name


def _state(status: Json) -> str:
    return f"the stack is {status['status']}" + "".join(f"; {reason}" for reason in status["reasons"])


def _count(cluster: Json) -> str:
    return "itself" if cluster["node_count"] == 1 else f"{cluster['node_count']} nodes"


def _piles(names: Sequence[str], links: Sequence[Json]) -> Iterator[list[str]]:
    """Each from the bottom to the top. Who is not known to touch anybody is a pile of its own."""
    above = {link["lower"]: link["upper"] for link in links}
    left = set(names)
    for start in [*(name for name in names if name not in above.values()), *names]:
        pile: list[str] = []
        name: str | None = start
        while name in left:
            assert name is not None
            left.remove(name)
            pile.append(name)
            name = above.get(name)
        if pile:
            yield pile


def _node(node: Json, own: bool) -> list[str]:
    title = f"{node['id']} · {node['role']} · {node['status']}" + (" · answers here" if own else "")
    parts = [f"{node['ram_gb']} GB", f"{node['tops']} TOPS"]
    power = node["power"]
    if power is not None:
        measured = (power["measured"] or {}).get("value")
        parts.append(f"{'?' if measured is None else measured} of {power['peak_w']:g} W")
    if node["temperature_c"] is not None:
        parts.append(f"{node['temperature_c']} °C")
    if node["battery_percent"] is not None:
        parts.append(f"battery {node['battery_percent']:.0f} %")
    models = [f"{one['model']} {one['state']}" for one in node["models"] or ()]
    lines = [title, "  " + " · ".join(parts), "  " + (", ".join(models) or "no model loaded")]
    if node["status"] == "silent":
        age = node["report_age_s"]
        lines.append("  " + ("it never told more" if age is None else f"as it was {age:g} s ago"))
    return box(lines, "external power" if node["external_power"] else "")


def _contact(link: Json) -> str:
    told = [f"{link['gigabits']:g} Gb/s"] if link["gigabits"] is not None else []
    told += [f"{link['round_trip_ms']:.1f} ms"] if link["round_trip_ms"] is not None else []
    return f"{'║':>31}  {', '.join(told)}".rstrip()
