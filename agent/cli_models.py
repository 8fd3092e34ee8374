"""``thox models``: what is on the device, on its disk and in its memory, through its API."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from rich.console import Console
from rich.text import Text

from agent.cli_access import add_key_argument, inference_client
from agent.cli_models_progress import load, pull
from agent.cli_models_tables import list_models, show_loaded, show_model, show_usage, size
from agent.cli_print import output
from agent.client import Client
from agent.config import Config
from agent.models.options import CACHE_TYPES, QUANTISATIONS

_HELP = {
    "list": "the models on this device (the default)",
    "ps": "the models in memory, and what they take",
    "show": "what one model says of itself, and what it would take",
    "load": "load a model into memory",
    "unload": "free its memory",
    "pull": "download a model, or go on with a pull that was cut",
    "cancel": "end a pull",
    "copy": "make a model of its own of the same files",
    "alias": "give a model a further name",
    "remove": "delete a model from the disk, or a further name of one",
    "usage": "what the models take on disk",
    "prune": "delete what no model needs",
}
_MODEL = "as `thox models` lists it; a further name of it, too"
_SOURCES = """where MODEL comes from:
  qwen3:0.6b                the registry that models.registry names
  host[:port]/org/name:tag  a registry (OCI; Ollama's and Docker's artifacts, too)
  hf.co/org/name            the Hugging Face hub; hf.co/org/name:Q4_K_M one of its GGUF files,
                            hf.co/org/name@v1 a branch, tag or commit
  ./folder, ./file.gguf     this device itself, with a key that has the permission admin
What a pull that was cut has brought is kept: the next one goes on from there."""
_TWO_NAMES, _NO_NAME = ("copy", "alias"), ("list", "ps", "usage", "prune")


def arguments(parser: argparse.ArgumentParser) -> None:
    add_key_argument(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    for name, text in _HELP.items():
        action = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == "remove":
            action.add_argument("models", metavar="MODEL", nargs="+", help=_MODEL)
        elif name not in _NO_NAME:
            action.add_argument("model", metavar="MODEL", help="see below" if name == "pull" else _MODEL)
        if name in _TWO_NAMES:
            action.add_argument("name", metavar="NAME", help="the further name")
        add_key_argument(action, again=True)
        if name == "load":
            action.add_argument("--context-length", type=int, metavar="N", help="tokens")
            action.add_argument("--slots", type=int, metavar="N", help="answers computed together")
            action.add_argument("--quantisation", choices=QUANTISATIONS, help="how the weights are kept")
            action.add_argument("--cache-type", choices=CACHE_TYPES, help="how the key-value cache is kept")
            action.add_argument("--draft", metavar="MODEL", help="a smaller model that guesses tokens for this one")
            text = "how long it stays after its last answer, e.g. 10m; -1: for ever"
            action.add_argument("--keep-alive", metavar="TIME", help=text)
        elif name == "unload":
            action.add_argument("--cancel", action="store_true", help="end answers that run, instead of waiting")
            action.add_argument("--wait", type=float, metavar="S", help="seconds to wait for answers that run")
        elif name == "pull":
            action.formatter_class, action.epilog = argparse.RawDescriptionHelpFormatter, _SOURCES
            action.add_argument("--name", metavar="NAME", help="of a folder or file taken in: what to call it")
        elif name == "prune":
            action.add_argument("--packed", action="store_true", help="packed weights of models not loaded, too")


def call(options: argparse.Namespace, config: Config) -> int:
    _ACTIONS[options.action or "list"](inference_client(options, config), options, output())
    return 0


def model_path(name: str) -> str:
    return f"/v1/models/{quote(name, safe='')}"


def _load(client: Client, options: argparse.Namespace, console: Console) -> None:
    names = ("context_length", "slots", "quantisation", "cache_type", "draft", "keep_alive")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    loaded = load(client, model_path(options.model), {"model": options.model, "options": given}, console)
    memory = loaded.get("memory")
    takes = f" and takes {size(memory['needed_bytes'])} of memory" if memory else ""
    console.print(Text(f"{options.model} is loaded{takes}."))


def _unload(client: Client, options: argparse.Namespace, console: Console) -> None:
    body: dict[str, object] = {"model": options.model, "cancel": options.cancel}
    client.post("/v1/models/unload", body if options.wait is None else {**body, "wait_s": options.wait})
    console.print(Text(f"{options.model} is unloaded."))


def _pull(client: Client, options: argparse.Namespace, console: Console) -> None:
    name = pull(client, _source(options.model), options.name, console)
    console.print(Text(f"{name} is here. `thox load {name}` loads it; so does the first request for it."))


def _source(model: str) -> str:
    """A folder or a file as people write it becomes the address that the device takes; names stay as they are."""
    if model.startswith(("/", "./", "../", "~")) or model in (".", ".."):
        return Path(model).expanduser().resolve().as_uri()
    return model


def _cancel(client: Client, options: argparse.Namespace, console: Console) -> None:
    client.delete("/v1/models/pull", {"model": options.model})
    console.print(Text(f"The pull of {options.model} is ended; the next one goes on from here."))


def _further(client: Client, options: argparse.Namespace, console: Console) -> None:
    client.post(f"/v1/models/{options.action}", {"source": options.model, "destination": options.name})
    said = "a copy of" if options.action == "copy" else "another name of"
    console.print(Text(f"{options.name} is {said} {options.model}."))


def _remove(client: Client, options: argparse.Namespace, console: Console) -> None:
    for model in options.models:
        client.delete(model_path(model))
        console.print(Text(f"{model} is removed."))


def _prune(client: Client, options: argparse.Namespace, console: Console) -> None:
    freed = client.post("/v1/models/prune", {"packed": options.packed})
    console.print(Text(f"{size(freed['freed_bytes'])} freed."))


_ACTIONS: dict[str, Callable[[Client, argparse.Namespace, Console], None]] = {
    "list": lambda client, _options, console: list_models(client.get("/v1/models")["data"], console),
    "ps": lambda client, _options, console: show_loaded(client.get("/v1/models")["data"], console),
    "show": lambda client, options, console: show_model(client.get(model_path(options.model)), console),
    "usage": lambda client, _options, console: show_usage(client.get("/v1/models/usage"), console),
    "load": _load,
    "unload": _unload,
    "pull": _pull,
    "cancel": _cancel,
    "copy": _further,
    "alias": _further,
    "remove": _remove,
    "prune": _prune,
}
