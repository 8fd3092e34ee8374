"""Which of two devices that touched enters the stack of the other. Pure, and the same on both sides."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from agent.cluster.trust_identity import TrustError

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

    A device that is alone enters the stack of one that is not; of two that are alone, the one of the higher stack id
    enters. Stacks of several are never joined by touch: then one touch would hand over all of one of them.
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
    if mine.members > 1 and theirs.members > 1:
        raise TrustError(
            "We belong to two stacks of several devices", hint="`thox trust leave` on one, and touch it again."
        )
    return "host" if (-mine.members, mine.stack) < (-theirs.members, theirs.stack) else "enter"
