"""Every error a client may see, and how it reads on the wire.

* ThoxError                  500  the server's own fault
  x RequestError             400  invalid parameters or body
    + TooLargeError          413  the body is larger than the server takes
    + MediaTypeError         415  the body is not JSON
    + MethodError            405  the path exists, the method does not
  x AuthenticationError      401  missing or invalid API key
  x PermissionDeniedError    403  the key lacks the permission
  x NotFoundError            404  no such endpoint or model
  x RateLimitError           429  too many requests; says when to try again
  x UnavailableError         503  for now; says when to try again
    + ModelLoadingError      503  the model is on its way into memory; says how far it is
    + OverloadedError        503  the waiting line is full
  x NoRoomError              507  no room for a model, on disk or in memory; says what is needed and what is there
  x EngineError              500  the engine broke while serving
  x ModelError               500  the files of a model are broken, or of a kind the engine does not know

On the wire, on either port and whatever raised it::

    {"error": {"code": 404, "message": "...", "type": "not_found_error", "param": null, "hint": "..."}}

``code``, ``message`` and ``type`` are always there; ``param`` names the field at fault, ``hint`` says what to do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping


class ThoxError(Exception):
    """Base of all errors that reach a client.

    ``message`` says what is wrong, ``hint`` what to do about it, ``param`` which field of the request is meant;
    ``details`` are further fields of the error object.
    """

    status = 500
    type = "internal_error"

    def __init__(self, message: str, *, hint: str | None = None, param: str | None = None, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.param = param
        self.details: Mapping[str, object] = details

    def to_json(self) -> dict[str, object]:
        """The body of the response, in the shape of the contract."""
        error: dict[str, object] = {
            "code": self.status,
            "message": self.message,
            "type": self.type,
            "param": self.param,
        }
        if self.hint is not None:
            error["hint"] = self.hint
        return {"error": {**error, **self.details}}

    def headers(self) -> dict[str, str]:
        """Headers that belong to this error, Retry-After for one."""
        return {}


class RequestError(ThoxError):
    status = 400
    type = "invalid_request_error"


class TooLargeError(RequestError):
    status = 413


class MediaTypeError(RequestError):
    status = 415


class MethodError(RequestError):
    status = 405

    def __init__(self, message: str, *, allowed: tuple[str, ...], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.allowed = allowed

    def headers(self) -> dict[str, str]:
        return {"Allow": ", ".join(self.allowed)}


class AuthenticationError(ThoxError):
    status = 401
    type = "authentication_error"

    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class PermissionDeniedError(ThoxError):
    status = 403
    type = "permission_error"


class NotFoundError(ThoxError):
    status = 404
    type = "not_found_error"


class RetryableError(ThoxError):
    """Base of the errors that pass: the client is told after how many seconds to try again."""

    def __init__(
        self,
        message: str,
        *,
        retry_after: float,
        hint: str | None = None,
        param: str | None = None,
        **details: object,
    ) -> None:
        super().__init__(message, hint=hint, param=param, **details)
        self.retry_after = retry_after

    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(max(1, math.ceil(self.retry_after)))}


class RateLimitError(RetryableError):
    status = 429
    type = "rate_limit_error"


class UnavailableError(RetryableError):
    status = 503
    type = "unavailable_error"


class ModelLoadingError(UnavailableError):
    type = "model_loading_error"


class OverloadedError(UnavailableError):
    type = "overloaded_error"


class NoRoomError(ThoxError):
    status = 507
    type = "no_room_error"


class EngineError(ThoxError):
    type = "engine_error"


class ModelError(ThoxError):
    """A checkpoint that cannot be used: a tensor missing, a shape wrong, an architecture unknown."""

    type = "model_error"
