"""How a World is reached from other processes: lines of JSON over a unix socket that only its user can open.

    client: {"world": 1, "module": "a"}                        null: it is hands alone
    host:   {"world": 1}                                       or {"error": ..., "hint": ...}, and it hangs up
    client: {"id": 1, "call": "look", "with": {"load": 0.4}}
    host:   {"id": 1, "value": {...}}                          or {"id": 1, "error": ..., "hint": ...}
    host:   {"event": "edge", "at": 12.5, "body": {...}}       of its module, at any time

Calls: ``look`` and ``tell`` of the connection's module; any of HANDS. Times are those of CLOCK_MONOTONIC, which all
processes of a machine share.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import socket
import types
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from hal.base import HardwareError
from hal.world import World
from hal.world_state import Json

VERSION = 1
LINE_BYTES = 64 * 1024  # no line is longer
SOCKET = "world.sock"  # its name in the state folder of a node that has a World of its own

HANDS = (
    *("add", "remove", "stack", "unstack", "plug", "unplug", "contact", "heat", "load", "drain"),
    *("fail", "mend", "cut", "join", "link", "write_tag", "reaches", "status"),
)


def pack(message: Json) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def unpack(line: bytes) -> Json:
    """Raises HardwareError when it is no object."""
    try:
        message = json.loads(line)
    except ValueError as error:
        raise HardwareError(f"this is no JSON: {line[:80]!r}") from error
    if not isinstance(message, dict):
        raise HardwareError(f"this is no object: {line[:80]!r}")
    return message


def at_path(path: Path, act: Callable[[str], None]) -> None:
    """Bind or connect at a path of any length: a socket's address has room for 107 bytes, and this goes around it."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        act(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def connect(path: Path, timeout: float) -> socket.socket:
    """Raises OSError when nobody serves there."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        end.settimeout(timeout)
        at_path(path, end.connect)
    except OSError:
        end.close()
        raise
    return end


def use_hand(world: World, name: str, arguments: object) -> Any:  # noqa: ANN401  whatever that hand returns
    """Call a hand by its name. Raises HardwareError where there is none such, or an argument does not fit."""
    if name not in HANDS:
        raise HardwareError(f"there is no hand {name!r}", "there are: " + ", ".join(HANDS))
    if not isinstance(arguments, dict):
        raise HardwareError(f"{name} takes its arguments by name")
    wanted = _parameters(name)
    for each, value in arguments.items():
        if each not in wanted:
            raise HardwareError(f"{name} takes no {each!r}", "it takes: " + (", ".join(wanted) or "nothing"))
        if not _fits(value, wanted[each]):
            raise HardwareError(f"{each} of {name} cannot be {value!r}")
    try:
        bound = inspect.signature(getattr(world, name)).bind(**arguments)
    except TypeError as error:
        raise HardwareError(f"{name}: {error}", "it takes: " + ", ".join(wanted)) from error
    return getattr(world, name)(*bound.args, **bound.kwargs)


@lru_cache
def _parameters(name: str) -> dict[str, Any]:
    """Name -> type, of those that can be written in JSON."""
    hints = get_type_hints(getattr(World, name))
    hints.pop("return")
    return {each: hint for each, hint in hints.items() if _kinds(hint) & {str, float, dict}}


def _fits(value: object, hint: Any) -> bool:  # noqa: ANN401  a type, or a union of some
    kinds = _kinds(hint)
    if isinstance(value, bool):
        return False
    if isinstance(value, (int, float)):
        return float in kinds and math.isfinite(value)
    return type(value) in kinds


def _kinds(hint: Any) -> set[type]:  # noqa: ANN401
    if get_origin(hint) in (Union, types.UnionType):
        return {kind for each in get_args(hint) for kind in _kinds(each)}
    return {get_origin(hint) or hint}
