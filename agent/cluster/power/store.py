"""What the power contract keeps over a restart: ``power.json`` in the state folder, replaced whole."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent import private_file
from agent.cluster.power.fields import MAX_WATTS, count, number
from agent.cluster.power.messages import Term
from agent.cluster.power.rules import Member
from agent.cluster.state import MOST_NODES, Link

_log = logging.getLogger(__name__)
_watts = number(MAX_WATTS)


@dataclass(frozen=True, slots=True)
class Kept:
    """``bound_w`` None: this module did not share out a supply when it was last heard of, or has handed its book on."""

    term: Term | None = None  # the newest that this node has seen
    number: int = 0  # of the last term of its own
    bound_w: float | None = None  # what it may have shared out at most
    came_up_w: float | None = None  # where the cap stood before it was first held to a contract
    members: tuple[Member, ...] = ()  # who hung on its supply
    contacts: tuple[Link, ...] = ()


class PowerFile:
    """The newest Kept. ``fault``: why it cannot be kept."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / "power.json"
        self.kept = self._load()
        self.fault = ""

    def keep(self, kept: Kept) -> None:
        """On the disk when it returns, if it is new. A disk that fails stops nothing: its part in the rules is that a
        restart forgets nothing, and until one comes it is known here."""
        if kept == self.kept:
            return
        self.kept = kept
        try:
            private_file.replace(self._file, json.dumps(asdict(kept)).encode())
        except OSError as error:
            if not self.fault:
                _log.error("power contracts cannot be kept over a restart: %s", error)
            self.fault = f"cannot be kept over a restart: {error.strerror}"
        else:
            self.fault = ""

    def _load(self) -> Kept:
        """Nothing where there is none, or it cannot be read: a new office begins with a wait then."""
        try:
            return _kept(json.loads(self._file.read_bytes()))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.error("%s cannot be read, the power contract begins anew: %s", self._file, error)
        return Kept()


def _kept(body: dict[str, Any]) -> Kept:
    term = body["term"]
    members = tuple(
        Member(str(one["node_id"]), _watts("floor_w", one["floor_w"]), _watts("peak_w", one["peak_w"]))
        for one in body["members"]
    )
    contacts = tuple(Link(**one) for one in body["contacts"])
    if len(members) > 2 * MOST_NODES or len(contacts) > 2 * MOST_NODES:
        raise ValueError("more modules than a stack has")
    return Kept(
        term=None if term is None else Term(count("number", term["number"]), str(term["holder"]), str(term["birth"])),
        number=count("number", body["number"]),
        bound_w=_maybe_watts(body, "bound_w"),
        came_up_w=_maybe_watts(body, "came_up_w"),
        members=members,
        contacts=contacts,
    )


def _maybe_watts(body: dict[str, Any], name: str) -> float | None:
    return None if body[name] is None else _watts(name, body[name])
