"""How a command reaches the device: its address, and the key that it shows.

The key is ``--key``, else THOX_API_KEY, else one that the command line keeps for itself: a key named ``cli on node-…``,
made when it is first needed, in ``<state_dir>/cli.key`` (mode 0600). Who can read that file could make a key anyway, so
it gives nobody more than they have; revoking it is safe, since the next command makes a new one.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from agent.auth import KeyRing
from agent.client import Client
from agent.cluster.state import node_id
from agent.config import Config, client_key, make_state_dir
from agent.errors import AuthenticationError
from agent.identity import device_id

_PERMISSIONS = ("inference", "models", "cluster", "power")
_NAME = "cli on"  # the node: its stack may have others
LONGEST_LOAD_S = 660.0  # the device itself gives up on a load a little earlier


def add_key_argument(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """``again``: behind an action's name as well, where a missing one must not undo one before it."""
    text = "an API key (default: THOX_API_KEY, else one of this command's own)"
    parser.add_argument("--key", metavar="KEY", help=text, default=argparse.SUPPRESS if again else None)


def inference_client(options: argparse.Namespace, config: Config) -> Client:
    return Client(config.server.bind, config.server.inference_port, _key(options, config), timeout_s=LONGEST_LOAD_S)


def cluster_client(options: argparse.Namespace, config: Config) -> Client:
    return Client(config.server.bind, config.server.cluster_port, _key(options, config))


def _key(options: argparse.Namespace, config: Config) -> str:
    return options.key or client_key() or own_key(make_state_dir(config))


def own_key(state_dir: Path) -> str:
    """The command line's own key for the device of that state folder; made when there is none."""
    file, ring = state_dir / "cli.key", KeyRing(state_dir)
    try:
        text = file.read_text().strip()
        if ring.verify(text).permissions >= set(_PERMISSIONS):
            return text
        raise AuthenticationError("a key of an earlier version, which may do less")
    except (FileNotFoundError, AuthenticationError):
        name = f"{_NAME} {node_id(device_id(state_dir))}"
        if name in ring.names():
            ring.revoke(name)
        text = ring.create(name, _PERMISSIONS)[1]
        file.unlink(missing_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as stream:
            stream.write(text + "\n")
        return text
