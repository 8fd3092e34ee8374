"""``thox config``: the settings that hold, and where each came from."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from agent.cli_print import output, print_table
from agent.config import SECRETS, Config


def arguments(_parser: argparse.ArgumentParser) -> None:
    """None."""


def call(_options: argparse.Namespace, config: Config) -> int:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("setting", "value", "from"):
        table.add_column(title, overflow="fold")
    for name, source in config.sources.items():
        style = "dim" if source == "default" else ""
        table.add_row(Text(name), Text(_shown(name, _value(config, name))), Text(source, style=style))
    print_table(table, output())
    return 0


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
