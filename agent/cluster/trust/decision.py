"""Which of two devices that touched enters the stack of the other. Pure, and the same on both sides."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from agent.cluster.trust.identity import TrustError

Decision = Literal["host", "enter", "same"]
_KNOWN: Final = ("unknown", "allowed", "member", "forgotten")


@dataclass(frozen=True, slots=True)
class Standpoint:
    """What one side says of itself, and what it holds of the other."""

    stack: str
    members: int  # itself included
    locked: bool
    other: str  # unknown, allowed, member, forgotten

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def standpoint_from_json(body: object) -> Standpoint:
    """Raises TrustError."""
    try:
        if not isinstance(body, dict):
            raise ValueError
        said = Standpoint(**body)
        if (
            str(uuid.UUID(said.stack)) != said.stack
            or type(said.members) is not int
            or said.members < 1
            or type(said.locked) is not bool
            or said.other not in _KNOWN
        ):
            raise ValueError
    except (TypeError, ValueError, AttributeError) as error:
        raise TrustError("The other device does not say where it stands") from error
    return said


def decide(mine: Standpoint, theirs: Standpoint) -> Decision:
    """Raises TrustError, on both sides alike, when neither may enter.

    A device that is alone enters the stack of one that is not. Else the lower stack id stays: of two stacks of several,
    the other goes up in it, whoever touches whom, so that devices that are stacked all at once end as one.
    """
    if "forgotten" in (mine.other, theirs.other):
        raise TrustError("One of us forgot the other", hint="`thox trust allow` lets it enter by touch again.")
    same = mine.stack == theirs.stack
    if same and mine.other == theirs.other == "member":
        return "same"
    if mine.locked or theirs.locked:
        raise TrustError("The stack is locked", hint="`thox trust unlock` lets newcomers enter by touch.")
    if same:
        return "same"
    return "host" if (mine.members == 1, mine.stack) < (theirs.members == 1, theirs.stack) else "enter"
