"""Which of two devices that touched enters the stack of the other. Pure, and the same on both sides."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from agent.cluster.fields import FieldError, flag, one_of, record, uuid_text, whole
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


_STANDPOINT: Final = record(
    Standpoint, {"stack": uuid_text, "members": whole(least=1), "locked": flag, "other": one_of(_KNOWN)}
)


def standpoint_from_json(body: object) -> Standpoint:
    """Raises TrustError."""
    try:
        return _STANDPOINT("", body)
    except FieldError as error:
        raise TrustError(f"The other device does not say where it stands: {error}") from error


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
