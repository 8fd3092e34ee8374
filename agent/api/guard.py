"""What stands in front of every route of both ports: request id, key, permission, rate, and the log line after it.

A route that says nothing needs a valid key; ``requires`` names permissions, of which the key must have one; ``public``
lets everybody in. Paths that do not exist need a key under /v1, so that nobody maps the API without one.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from flask import Flask, Response, g, request

from agent import log
from agent.api import errors
from agent.api.connection import Connection
from agent.auth import Key, KeyRing
from agent.config import Config, LimitsConfig
from agent.errors import AuthenticationError, PermissionDeniedError, RateLimitError
from agent.ratelimit import PortKind, RateLimiter, RateState

Permission = Literal["inference", "models", "cluster", "power", "admin"]
View = TypeVar("View", bound=Callable[..., object])

# Keys are 256 random bits, so guessing is hopeless at any rate; these bound what strangers cost. Per address a minute.
REFUSALS_PER_MINUTE = 120
PUBLIC_PER_MINUTE = 600

_NEEDS = "thox_needs"
_SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


class RequestMeter(Protocol):
    """Who wants to know of every request once it is answered; ``route`` is the rule, so its values are few."""

    def request(self, port: str, method: str, route: str, status: int, seconds: float) -> None: ...


@dataclass(slots=True)
class Tally:
    """Tokens of one request, for its line in the log; the route fills it in, a stream when it ends."""

    prompt: int | None = None
    completion: int | None = None


def requires(*permissions: Permission) -> Callable[[View], View]:
    """The key must have one of these permissions."""

    def mark(view: View) -> View:
        setattr(view, _NEEDS, permissions)
        return view

    return mark


def public(view: View) -> View:
    """No key needed."""
    setattr(view, _NEEDS, None)
    return view


def needs_of(view: Callable[..., object]) -> tuple[str, ...] | None:
    """Permissions of which the key must have one; empty: any key; None: no key at all."""
    needs: tuple[str, ...] | None = getattr(view, _NEEDS, ())
    return needs


def install(
    app: Flask,
    keys: KeyRing,
    limiter: RateLimiter,
    port: PortKind,
    config: Config,
    meter: RequestMeter | None = None,
    limits: Callable[[], LimitsConfig] | None = None,
) -> None:
    """Stand guard over every route of the app, those of blueprints registered later included; set its errors, too.
    ``limits``: those that hold now; None: always the configuration's.

    Within a request ``flask.g`` then has ``request_id``, ``connection``, ``tally`` and, unless it is public, ``key``.
    """
    app.config["MAX_CONTENT_LENGTH"] = config.server.max_body_bytes
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False  # a redirect is not an answer in our shape
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it
    errors.install(app)

    def count(bucket: str, limit: int) -> None:
        try:
            g.rate = limiter.check(bucket, port, limit)
        except RateLimitError as error:
            g.rate = RateState(limit, 0, error.retry_after)
            raise

    @app.before_request
    def admit() -> None:
        g.started = time.monotonic()
        g.tally = Tally()
        g.request_id = _request_id(request.headers.get("X-Request-ID"))
        log.request_id.set(g.request_id)
        g.connection = Connection.of(request.environ)
        g.connection.limit_stalls(config.server.receive_timeout_s)
        needs = _needs(app)
        if needs is None:
            count(f"address:{request.remote_addr}", PUBLIC_PER_MINUTE)
            return
        try:
            g.key = keys.verify(_bearer(request.headers.get("Authorization")))
        except AuthenticationError:
            count(f"refused:{request.remote_addr}", REFUSALS_PER_MINUTE)
            raise
        count(g.key.id, _per_minute(g.key, limits() if limits is not None else config.limits, port))
        if needs and not any(g.key.allows(name) for name in needs):
            wanted = " or ".join(f"'{name}'" for name in needs)
            raise PermissionDeniedError(
                f"this key lacks the permission {wanted}",
                hint=f"`thox key create NAME --permissions {needs[0]}` makes a key that has it",
            )

    @app.after_request
    def label(response: Response) -> Response:
        g.connection.limit_stalls(config.server.send_timeout_s)
        response.headers["X-Request-ID"] = g.request_id
        rate: RateState | None = g.get("rate")
        if rate is not None:
            response.headers["x-ratelimit-limit-requests"] = str(rate.limit)
            response.headers["x-ratelimit-remaining-requests"] = str(rate.remaining)
            response.headers["x-ratelimit-reset-requests"] = f"{rate.reset_s:.3f}s"
        response.call_on_close(_closing(port, response.status_code, meter))
        return response


def _per_minute(key: Key, limits: LimitsConfig, port: PortKind) -> int:
    if port == "inference":
        return limits.inference_per_minute if key.inference_per_minute is None else key.inference_per_minute
    return limits.cluster_per_minute if key.cluster_per_minute is None else key.cluster_per_minute


def _needs(app: Flask) -> tuple[str, ...] | None:
    if request.endpoint is None:
        return () if request.path.startswith("/v1/") else None
    return needs_of(app.view_functions[request.endpoint])


def _request_id(sent: str | None) -> str:
    return sent if sent is not None and _SANE_ID.fullmatch(sent) else str(uuid.uuid4())


def _bearer(header: str | None) -> str:
    if header is None:
        raise AuthenticationError("no API key", hint="send the header Authorization: Bearer <api-key>")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise AuthenticationError("Invalid API key", hint="send the header Authorization: Bearer <api-key>")
    return token.strip()


def _closing(port: PortKind, status: int, meter: RequestMeter | None) -> Callable[[], None]:
    """Runs when the last byte has been sent, or the client has left: a stream's time is the whole stream's."""
    started: float = g.started
    tally: Tally = g.tally
    key: Key | None = g.get("key")
    method, path = request.method, request.path
    route = request.url_rule.rule if request.url_rule is not None else "(none)"

    def close() -> None:
        seconds = time.monotonic() - started
        if meter is not None:
            meter.request(port, method, route, status, seconds)
        name = "" if key is None else key.name
        log.access(
            method, path, status, seconds, key=name, prompt_tokens=tally.prompt, completion_tokens=tally.completion
        )
        log.request_id.set("")  # the thread goes on to other requests

    return close
