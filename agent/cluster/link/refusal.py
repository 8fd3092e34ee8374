"""An error that another node told, raised here: what a client asked for by way of this node reads the same."""

from __future__ import annotations

from typing import Final

from agent.cluster.link.frames import LinkError
from agent.errors import NoRoomError, NotFoundError, RequestError, ThoxError, UnavailableError

_KINDS: Final[dict[int, type[ThoxError]]] = {400: RequestError, 404: NotFoundError, 507: NoRoomError}
_MOST_CHARACTERS: Final = 500


def refusal(node: str, error: object) -> ThoxError:
    """Of the error object in the answer of ``node``; what is not of a known kind is a LinkError."""
    fields = error if isinstance(error, dict) else {}
    message, hint, param = (_text(fields.get(name)) for name in ("message", "hint", "param"))
    code = fields.get("code")
    kind = _KINDS.get(code) if isinstance(code, int) else None
    if kind is not None and message:
        return kind(message, hint=hint, param=param)
    if code == UnavailableError.status and fields.get("type") != LinkError.type and message:
        return UnavailableError(message, retry_after=1.0, hint=hint, param=param)
    return LinkError(f"{node} answers: {message or str(error)[:_MOST_CHARACTERS]}", hint)


def _text(value: object) -> str | None:
    return value[:_MOST_CHARACTERS] if isinstance(value, str) else None
