"""Whatever goes wrong becomes one shape: ThoxError, werkzeug's own HTTP errors, and exceptions nobody expected."""

from __future__ import annotations

import logging

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from agent.api.connection import ClientGone
from agent.errors import (
    AuthenticationError,
    MediaTypeError,
    MethodError,
    NotFoundError,
    PermissionDeniedError,
    RequestError,
    ThoxError,
    TooLargeError,
)

log = logging.getLogger(__name__)

# Nobody reads this status: the client has left. nginx made the number known, so that logs and counters can tell.
CLIENT_GONE = 499

_BY_STATUS: dict[int, type[ThoxError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    413: TooLargeError,
    415: MediaTypeError,
}
_HINTS = {
    404: "GET /openapi.json lists the endpoints of this port",
    405: "GET /openapi.json lists the methods of each endpoint",
}


def from_http(error: HTTPException) -> ThoxError:
    """The same error in our tree. Statuses outside the contract become the nearest one inside it."""
    status = error.code or 500
    message = (error.description or error.name).rstrip(".")
    if isinstance(error, MethodNotAllowed):
        allowed = tuple(sorted(error.valid_methods or ()))
        return MethodError("this endpoint does not take that method", allowed=allowed, hint=_HINTS[405])
    if status == 404:
        return NotFoundError("no such endpoint", hint=_HINTS[404])
    if status in _BY_STATUS:
        return _BY_STATUS[status](message)
    return RequestError(message) if 400 <= status < 500 else ThoxError("internal error")


def render(error: ThoxError) -> Response:
    """The error as a response, with the headers that belong to it."""
    response = jsonify(error.to_json())
    response.status_code = error.status
    response.headers.update(error.headers())
    return response


def install(app: Flask) -> None:
    """Make every error of the app answer in the one shape."""

    @app.errorhandler(ThoxError)
    def thox_error(error: ThoxError) -> Response:
        if error.status == 500:
            log.error("request failed: %s", error.message, exc_info=error)
        return render(error)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        return render(from_http(error))

    @app.errorhandler(ClientGone)
    def client_gone(_error: ClientGone) -> Response:
        return Response(status=CLIENT_GONE)

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        log.error("unexpected error", exc_info=error)
        return render(ThoxError("internal error", hint="the device's log has the details under this X-Request-ID"))
