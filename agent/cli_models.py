"""``thox models``: what is on the device and what is loaded, through its API."""

from __future__ import annotations

import argparse
from urllib.parse import quote

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from agent.cli_access import add_key_argument, inference_client
from agent.client import Client
from agent.config import Config
from agent.models.options import QUANTISATIONS


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
            action.add_argument("--slots", type=int, metavar="N", help="answers computed together")
            action.add_argument("--quantisation", choices=QUANTISATIONS)


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
    elif options.action == "pull":
        _pull(client, options.model, console)
    else:
        client.post(f"/v1/models/{options.action}", _body(options))
        console.print(Text(f"{options.model} is {options.action}ed."))
    return 0


def _body(options: argparse.Namespace) -> dict[str, object]:
    wanted = {name: getattr(options, name, None) for name in ("context_length", "slots", "quantisation")}
    given = {name: value for name, value in wanted.items() if value is not None}
    return {"model": options.model, **({"options": given} if given else {})}


def _pull(client: Client, model: str, console: Console) -> None:
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(model, total=None)
        for step in client.stream("/v1/models/pull", {"model": model}):
            progress.update(task, completed=step["completed"], total=step["total"] or None)
    console.print(Text(f"{model} is here. `thox models load {model}` loads it."))
