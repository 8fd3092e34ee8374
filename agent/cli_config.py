"""``thox config``: the settings that hold, and where each came from; those of the whole stack are set here.

Works on the state directory, so the device may run or not; one that runs tells its stack, and follows at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from agent.cli_print import output, print_table
from agent.cluster.documents.settings import SharedSettings, effective
from agent.cluster.documents.store import open_documents
from agent.config import SECRETS, Config, make_state_dir
from agent.config_shared import SHARED


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    put = actions.add_parser("set", help=f"set one of {', '.join(SHARED)}")
    put.add_argument("name", metavar="NAME")
    put.add_argument("value", metavar="VALUE")
    unset = actions.add_parser("unset", help="let each device's own hold again")
    unset.add_argument("name", metavar="NAME")
    for action in (put, unset):
        action.add_argument(
            "--stack", action="store_true", required=True, help="for all of the stack, where a device sets nothing else"
        )


def call(options: argparse.Namespace, config: Config) -> int:
    if options.action is None:
        _show(effective(config))
        return 0
    settings = SharedSettings(open_documents(make_state_dir(config)), config)
    if options.action == "set":
        settings.put(options.name, options.value)
    else:
        settings.remove(options.name)
    now = settings.now()
    value, source = _shown(options.name, _value(now, options.name)), now.sources[options.name]
    output().print(Text(f"On this device, {options.name} is {value} now (from: {source})."))
    return 0


def _show(config: Config) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("setting", "value", "from"):
        table.add_column(title, overflow="fold")
    for name, source in config.sources.items():
        style = "dim" if source == "default" else ""
        table.add_row(Text(name), Text(_shown(name, _value(config, name))), Text(source, style=style))
    print_table(table, output())


def _value(config: Config, name: str) -> object:
    section, _, key = name.partition(".")
    found = getattr(config, section)
    return getattr(found, key) if key else found


def _shown(name: str, value: object) -> str:
    if name in SECRETS and value:
        return f"set for {', '.join(value)}" if isinstance(value, Mapping) else "set"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={inner}" for key, inner in value.items()) or "none"
    return str(value) or "none"
