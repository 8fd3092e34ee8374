"""``thox models``: what is on the device and what is loaded, through its API."""

from __future__ import annotations

import argparse
from urllib.parse import quote

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.cli_access import add_key_argument, inference_client
from agent.config import Config


def arguments(parser: argparse.ArgumentParser) -> None:
    add_key_argument(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    add_key_argument(actions.add_parser("list", help="the models on this device (the default)"), again=True)
    for name, text in (
        ("load", "load a model into memory"),
        ("unload", "free its memory"),
        ("pull", "download a model from its registry"),
        ("remove", "delete a model from the disk"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("model", metavar="MODEL")
        add_key_argument(action, again=True)
        if name == "load":
            action.add_argument("--context-length", type=int, metavar="N", help="tokens")


def call(options: argparse.Namespace, config: Config) -> int:
    client, console = inference_client(options, config), Console()
    if options.action in (None, "list"):
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("model", "kind", "state", "parameters", "context"):
            table.add_column(title)
        for model in client.get("/v1/models")["data"]:
            row = (
                model["id"],
                model.get("kind"),
                model.get("state"),
                model.get("parameters"),
                model.get("context_length"),
            )
            table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
        console.print(table)
    elif options.action == "remove":
        client.delete(f"/v1/models/{quote(options.model, safe='')}")
        console.print(Text(f"{options.model} is removed."))
    else:
        body: dict[str, object] = {"model": options.model}
        if options.action == "load" and options.context_length:
            body["options"] = {"context_length": options.context_length}
        client.post(f"/v1/models/{options.action}", body)
        done = {"load": "loaded", "unload": "unloaded", "pull": "here"}[options.action]
        console.print(Text(f"{options.model} is {done}."))
    return 0
