"""``thox key``: API keys. Works on the state directory, so the device may run or not; one that runs tells its stack."""

from __future__ import annotations

import argparse
import re
import sys
import time
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.auth import PERMISSIONS, Key, KeyRing
from agent.cli_print import output, print_records
from agent.config import Config, make_state_dir

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a key and show it, once")
    create.add_argument("name", metavar="NAME", help="what the key is for, e.g. laptop")
    create.add_argument(
        "--permissions",
        default="inference",
        metavar="A,B",
        help=f"any of {', '.join(PERMISSIONS)}; admin implies all (default: inference)",
    )
    create.add_argument("--expires", type=_duration, metavar="30d", help="a number and s, m, h, d or w")
    create.add_argument("--limit-inference", type=int, metavar="N", help="requests a minute on that port, 0: no limit")
    create.add_argument("--limit-cluster", type=int, metavar="N", help="the same on the cluster port")
    create.add_argument("--quiet", action="store_true", help="print the key and nothing else")
    actions.add_parser("list", help="show the keys: names, never the keys themselves")
    revoke = actions.add_parser("revoke", help="end a key: it is refused at once, by all of the stack soon")
    revoke.add_argument("name", metavar="NAME", help="its name, or its id where several have that name")


def call(options: argparse.Namespace, config: Config) -> int:
    ring = KeyRing(make_state_dir(config))
    if ring.fault:
        sys.stderr.write(f"thox: {ring.fault}; keys may be missing\n")
    if options.action == "create":
        return _create(options, ring)
    if options.action == "revoke":
        key = ring.revoke(options.name)
        output().print(Text(f"The key {key.name} is revoked."))
        return 0
    _list(ring.keys())
    return 0


def _create(options: argparse.Namespace, ring: KeyRing) -> int:
    key, text = ring.create(
        options.name,
        [name.strip() for name in options.permissions.split(",") if name.strip()],
        expires_at=None if options.expires is None else time.time() + options.expires,
        inference_per_minute=options.limit_inference,
        cluster_per_minute=options.limit_cluster,
    )
    if options.quiet:
        sys.stdout.write(text + "\n")
        return 0
    console = Console(soft_wrap=True)
    console.print(Text.assemble("The key ", (key.name, "bold"), f" may: {', '.join(sorted(key.permissions))}."))
    console.print(Text.assemble(("It is shown this once: ", ""), (text, "bold")))
    return 0


def _list(keys: tuple[Key, ...]) -> None:
    if not keys:
        Console().print("There are no keys. `thox key create NAME` makes one.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "id", "permissions", "made", "on", "expires", "inference", "cluster"):
        table.add_column(title, overflow="fold")
    for key in keys:
        expired = key.expires_at is not None and key.expires_at <= time.time()
        expires = "never" if key.expires_at is None else _day(key.expires_at) + (" (over)" if expired else "")
        limits = [
            "default" if n is None else str(n or "none") for n in (key.inference_per_minute, key.cluster_per_minute)
        ]
        may = " ".join(sorted(key.permissions))
        row = (key.name, key.id, may, _day(key.created_at), key.made_on, expires, *limits)
        table.add_row(*map(Text, row))
    print_records(table, output())


def _day(when: float) -> str:
    return datetime.fromtimestamp(when).astimezone().strftime("%Y-%m-%d")


def _duration(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    if not match or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 12h or 30d")
    return int(match[1]) * _UNITS[match[2]]
