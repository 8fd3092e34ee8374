"""What the power contract keeps over a restart: ``power.json`` in the state folder, replaced whole."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from agent import private_file
from agent.cluster.fields import Fields, each, number, one_of, or_none, whole
from agent.cluster.power.messages import NODE_ID, STEPS, TERM, WATTS, Term
from agent.cluster.power.rules import Member
from agent.cluster.state import MOST_NODES, Link, Side

_FIGURE = or_none(number(1e6))
_FACE = one_of(get_args(Side))
_log = logging.getLogger(__name__)


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
        except (OSError, ValueError) as error:
            _log.error("%s cannot be read, the power contract begins anew: %s", self._file, error)
        return Kept()


def _kept(body: object) -> Kept:
    """What another version kept, too: fields that are not known here are passed over."""
    fields = Fields("", body)
    return Kept(
        term=fields("term", or_none(TERM)),
        number=fields("number", whole()),
        bound_w=fields("bound_w", or_none(WATTS)),
        came_up_w=fields("came_up_w", or_none(WATTS)),
        members=fields("members", each(_member, 2 * MOST_NODES)),
        contacts=fields("contacts", each(_contact, 2 * MOST_NODES)),
    )


def _member(place: str, body: object) -> Member:
    fields = Fields(place, body)
    steps = fields("steps_w", or_none(STEPS))
    return Member(fields("node_id", NODE_ID), fields("floor_w", WATTS), fields("peak_w", WATTS), steps or ())


def _contact(place: str, body: object) -> Link:
    fields = Fields(place, body)
    return Link(
        fields("lower", NODE_ID),
        fields("upper", NODE_ID),
        fields("round_trip_ms", _FIGURE),
        fields("gigabits", _FIGURE),
        fields("lower_face", _FACE),
        fields("upper_face", _FACE),
    )
