"""``thox find``: the Thox devices of this LAN, by what they say of themselves. Exit status 1 when there is none.

A device that serves only itself (``server.bind = "127.0.0.1"``, the default) is not there to be found.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.cli_print import complain, output, print_table
from agent.cluster.mdns.find import Found, find
from agent.config import Config

SECONDS = 3.0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long to wait for answers (%(default)s)")
    parser.add_argument("--json", action="store_true", help="for programs")


def call(options: argparse.Namespace, config: Config) -> int:
    devices = find(options.seconds)
    if options.json:
        Console(soft_wrap=True).print_json(json.dumps({"devices": [asdict(device) for device in devices]}))
        return 0 if devices else 1
    if not devices:
        complain("no device answers on this network", 'One is found when its server.bind is "0.0.0.0".')
        return 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("device", "address", "cluster port", "inference port", "cluster", "role", "version"):
        table.add_column(title, overflow="fold")
    for device in devices:
        table.add_row(*map(Text, _row(device)))
    print_table(table, output())
    return 0


def _row(device: Found) -> tuple[str, ...]:
    role = f"{device.role} (simulated)" if device.simulated else device.role
    ports = [str(port) if port else "?" for port in (device.cluster_port, device.inference_port)]
    return device.host, ", ".join(device.addresses) or "?", *ports, device.cluster, role, device.version
