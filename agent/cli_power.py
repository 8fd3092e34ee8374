"""``thox power``: who may draw how many watts of the stack's supply, and contracts for more."""

from __future__ import annotations

import argparse
import time
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.cli_access import add_key_argument, cluster_client
from agent.cli_print import output, print_table
from agent.client import Client
from agent.cluster.power.rules import PRIORITIES
from agent.config import Config

PATH = "/v1/power/contract"
_HELP = {
    "list": "what each node may draw and draws, and the contracts in force (the default)",
    "request": "ask for watts for a node; its contract from before ends",
    "return": "give a contract back",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    add_key_argument(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    for name, text in _HELP.items():
        action = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        add_key_argument(action, again=True)
        if name == "request":
            action.add_argument("watts", type=float, metavar="WATTS", help="what the node could use")
            action.add_argument("--node", metavar="NODE", help="its id (default: the one that is asked)")
            action.add_argument("--min", type=float, default=0.0, metavar="WATTS", help="what must be promised (0)")
            action.add_argument("--priority", choices=PRIORITIES, default="normal")
            action.add_argument("--minutes", type=float, default=60.0, metavar="N", help="how long (default: 60)")
        elif name == "return":
            action.add_argument("contract", metavar="ID")


def call(options: argparse.Namespace, config: Config) -> int:
    client, console = cluster_client(options, config), output()
    if options.action == "request":
        _request(client, options, console)
    elif options.action == "return":
        client.delete(f"{PATH}/{options.contract}")
        console.print(Text(f"{options.contract} is given back."))
    else:
        _list(client.get(PATH), console)
    return 0


def _request(client: Client, options: argparse.Namespace, console: Console) -> None:
    body = {
        "requested_w": options.watts,
        "min_w": options.min,
        "priority": options.priority,
        "ttl": options.minutes * 60,
        **({"node_id": options.node} if options.node else {}),
    }
    got = client.post(PATH, body)
    console.print(Text(f"{got['id']}: {got['granted_w']:g} W for {got['node_id']}, {got['reason']}."))


def _list(answer: dict[str, Any], console: Console) -> None:
    supply, usable = answer["supply_w"], answer["usable_w"]
    if supply is None:
        console.print(Text("The supply does not say what it gives."))
    else:
        shared = "" if usable is None else f", of which {usable:g} W are shared out"
        console.print(Text(f"The supply gives {supply:g} W{shared}."))
    table = _table("node", "may draw", "draws", "step", "")
    for node in answer["nodes"]:
        said = "" if node["admitted"] else "load off: its floor does not fit"
        said = "silent" if node["silent"] else said
        table.add_row(
            *map(
                Text,
                (node["node_id"], _watts(node["planned_w"]), _watts(node["measured_w"]), _watts(node["applied_w"])),
            ),
            Text(said, style="yellow"),
        )
    print_table(table, console)
    if answer["data"]:
        console.print()
        table = _table("contract", "node", "granted", "of", "promised", "priority", "ends in", "")
        for one in answer["data"]:
            figures = (_watts(one[name]) for name in ("granted_w", "requested_w", "min_w"))
            left = f"{max(0.0, one['expires_at'] - time.time()) / 60:.0f} min"
            table.add_row(*map(Text, (one["id"], one["node_id"], *figures, one["priority"], left, one["reason"])))
        print_table(table, console)


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _watts(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g} W"
