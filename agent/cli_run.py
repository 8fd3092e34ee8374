"""``thox run``: check what can be checked, say who is there, and serve until told to stop."""

from __future__ import annotations

import argparse
import fcntl
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

from rich.table import Table
from rich.text import Text

from agent import log
from agent.auth import KeyRing
from agent.cli_print import output, print_table
from agent.client import Client
from agent.cluster.documents.settings import effective
from agent.config import Config, ConfigError, HardwareConfig, make_state_dir
from agent.identity import device_id
from agent.server import Served, check_ports, serve
from hal.boards import linux_machine, recognise

_SIMULATED = "simulated: this machine is no Thox board, its watts and degrees are made up (`thox sim` moves them)"


def arguments(_parser: argparse.ArgumentParser) -> None:
    """None: everything is configuration, so that a device starts the same way whoever starts it."""


def call(_options: argparse.Namespace, config: Config) -> int:
    log.setup(config.log.level, config.log.format)
    check_ports(config)
    state_dir = make_state_dir(config)
    alone = _alone(state_dir)
    owner_key = KeyRing(state_dir).create_owner()
    _greet(effective(config), device_id(state_dir), owner_key)
    with alone:
        serve(config, _build)
    return 0


def _alone(state_dir: Path) -> BinaryIO:
    """A file that is locked while it is open, here or in the worker. Raises ConfigError when another process has it:

    two devices would take one another's identity, keys and models for their own.
    """
    lock = (state_dir / "run.lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise ConfigError(
            f"Another device runs with the state folder {state_dir}",
            "Stop it, or set THOX_STATE_DIR to a folder of this one's own.",
        ) from error
    return lock


def _build(config: Config) -> Served:
    from agent.node import build  # here, in the worker: the master needs no inference runtime in its memory

    return build(config)


def _hardware(its: HardwareConfig) -> str:
    board = recognise()
    if its.world:
        return f"simulated: {its.module} of the World at {its.world}"
    if its.mode == "real" or (its.mode == "auto" and board is not None):
        return (board or linux_machine()).name
    return _SIMULATED


def _greet(config: Config, device: str, owner_key: str | None) -> None:
    inference = Client(config.server.bind, config.server.inference_port)
    cluster = Client(config.server.bind, config.server.cluster_port)
    rows = [
        ("device", device),
        ("hardware", _hardware(config.hardware)),
        ("inference", f"{inference.url}  (OpenAI's API)"),
        ("cluster", cluster.url),
        ("models", ", ".join(config.models.preload) or "none at start"),
        ("state", str(config.state_dir)),
    ]
    console = output()
    console.print(Text.assemble(("Thox agent ", "bold"), version("thox-agent")))
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(f"  {name}"), Text(text))
    print_table(table, console)
    if owner_key is None:
        return
    # A line is short enough to stay whole on a narrow terminal: it is there to be copied.
    body = f'{{"model":"{config.models.default}","messages":[{{"role":"user","content":"Hello!"}}]}}'
    lines = [
        "",
        "The owner's API key, shown this once:",
        "",
        f"  {owner_key}",
        "",
        "Try it in another terminal:",
        "",
        f"curl {inference.url}/v1/chat/completions \\",
        f"  -H 'Authorization: Bearer {owner_key}' \\",
        "  -H 'Content-Type: application/json' \\",
        f"  -d '{body}'",
        "",
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)
