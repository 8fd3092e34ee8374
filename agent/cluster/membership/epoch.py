"""Epochs: who leads whom, numbered so that whatever is older can be told and refused (fencing).

Only the leader of an epoch makes it, each time in a term above all that it and its members ever accepted, and keeps it
on disk before it tells anybody. So a pair (term, leader) names one set of members for ever.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Verdict = Literal["current", "older", "unknown"]

HIGHEST_TERM = 2**53  # every JSON reader keeps such a number exactly


@dataclass(frozen=True)
class Epoch:
    """``members`` are sorted and hold ``leader``. Two clusters that do not hear each other may share a term."""

    term: int
    leader: str
    members: tuple[str, ...]

    @cached_property
    def digest(self) -> str:
        """16 hex digits of the SHA-256 of the members."""
        return hashlib.sha256("\n".join(self.members).encode()).hexdigest()[:16]

    @cached_property
    def token(self) -> str:
        """What an order from node to node carries."""
        return f"{self.term}.{self.leader}.{self.digest}"


@dataclass(frozen=True)
class Stored:
    """What of membership must survive a reboot. A device that never ran has all zeros."""

    incarnation: int = 0  # of the run that wrote this
    term: int = 0  # of the last epoch that was accepted


def verdict(token: str, epoch: Epoch | None, term: int) -> Verdict:
    """On an order that carries ``token``, by a node in ``epoch`` (None: in none yet) that has accepted ``term``.

    ``older``: refuse for good. ``unknown``: of an epoch that this node is not in, or not yet: refuse; asking again
    may help.
    """
    if epoch is not None and token == epoch.token:
        return "current"
    number = token.partition(".")[0]
    if not number.isascii() or not number.isdecimal() or len(number) > 16:
        return "unknown"
    return "older" if int(number) <= term else "unknown"
