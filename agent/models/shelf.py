"""The engines in memory: who has borrowed which, which one nobody needs any more, and which would make room.

Decides, and closes nothing. Not thread-safe by itself: the host holds its lock around every call.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from agent.errors import NoRoomError, ThoxError, UnavailableError
from agent.models.adapter import holds
from agent.models.checkpoint import StoredModel
from agent.models.lease import Loaded
from agent.models.memory import Memory
from agent.models.options import FOR_EVER


class Shelf:
    """Loaded models by name."""

    def __init__(self) -> None:
        self._loaded: dict[str, Loaded] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._loaded

    def __iter__(self) -> Iterator[Loaded]:
        return iter(self._loaded.values())

    def get(self, name: str) -> Loaded | None:
        return self._loaded.get(name)

    def with_adapter(self, name: str) -> Loaded | None:
        """The engine that has an adapter of this name."""
        return next((one for one in self._loaded.values() if holds(one.model, name)), None)

    def forget_adapter(self, name: str) -> None:
        """An adapter was deleted: its weights stay until its base goes, and nobody asks for them."""
        for one in self._loaded.values():
            left = tuple(adapter for adapter in one.model.adapters if adapter.name != name)
            one.model = replace(one.model, adapters=left)

    def put(self, loaded: Loaded) -> Loaded | None:
        """Add an engine; the one that it replaces is given back when it can be closed now, else with its last lease."""
        old = self._loaded.get(loaded.model.name)
        self._loaded[loaded.model.name] = loaded
        return None if old is None else self._retire(old)

    def take(self, name: str) -> Loaded | None:
        """Remove an engine, whatever its leases: from here on nobody can borrow it."""
        return self._loaded.pop(name, None)

    def discard(self, name: str) -> Loaded | None:
        """Remove an engine; it is given back when it can be closed now, else it is closed with its last lease."""
        loaded = self.take(name)
        return None if loaded is None else self._retire(loaded)

    def clear(self) -> list[Loaded]:
        loaded, self._loaded = list(self._loaded.values()), {}
        return loaded

    def lend(self, name: str, *, use: bool) -> Loaded | None:
        """Count one more lease. ``use``: the model counts as used, and is the active one if it writes text."""
        loaded = self._loaded.get(name)
        if loaded is not None:
            loaded.leases += 1
            if use:
                loaded.used_at = time.monotonic()
        return loaded

    def give_back(self, loaded: Loaded, *, use: bool) -> bool:
        """Count one lease less. True when the engine must be closed now."""
        loaded.leases -= 1
        if use:
            loaded.used_at = time.monotonic()
        return loaded.retired and loaded.leases == 0

    def active(self) -> str | None:
        """The text model that was used last."""
        text = [one for one in self._loaded.values() if one.model.kind == "text"]
        return max(text, key=lambda one: one.used_at).model.name if text else None

    def expired(self) -> list[Loaded]:
        """Remove those that nobody used for as long as they are kept."""
        now = time.monotonic()
        gone = [one for one in self._loaded.values() if one.expires_at <= now]
        for one in gone:
            del self._loaded[one.model.name]
        return gone

    def next_expiry_s(self) -> float | None:
        """Seconds until ``expired`` may have something; None: never, as things stand."""
        soonest = min((one.expires_at for one in self._loaded.values()), default=FOR_EVER)
        return None if soonest == FOR_EVER else max(0.0, soonest - time.monotonic())

    def promised(self) -> int:
        """Bytes that the loaded models take once their caches are full."""
        return sum(one.memory.total for one in self._loaded.values())

    def victims(self, model: StoredModel, needed: Memory, free: int, *, auto_unload: bool) -> list[str]:
        """Which models to unload so that ``needed`` fits; the longest unused first, never one with answers running.

        The model's own engine of other options goes first of all: it is to be replaced. Raises NoRoomError where no
        unloading helps, UnavailableError where it would once answers have ended.
        """
        chosen: list[str] = []
        idle = [one for one in self._loaded.values() if not one.leases] if auto_unload else []
        for one in sorted(idle, key=lambda one: (one.model.name != model.name, one.used_at)):
            if needed.total <= free:
                break
            chosen.append(one.model.name)
            free += one.memory.total
        if needed.total > free:
            raise self._refusal(model, needed, free, auto_unload)
        return chosen

    def _refusal(self, model: StoredModel, needed: Memory, free: int, auto_unload: bool) -> ThoxError:
        free = max(0, free)
        message = f"{model.name} needs about {needed.total >> 20} MiB of memory and {free >> 20} MiB are free"
        numbers: dict[str, Any] = {**needed.to_json(), "available_bytes": free}
        busy = [one for one in self._loaded.values() if one.leases]
        if auto_unload and busy and needed.total <= free + sum(one.memory.total for one in busy):
            names = ", ".join(one.model.name for one in busy)
            return UnavailableError(
                f"{message} until the answers of {names} have ended",
                retry_after=10,
                hint='ask again later, or unload one with "cancel": true',
                **numbers,
            )
        others = ", ".join(self._loaded)
        smaller = "" if needed.quantisation.startswith("int4") else "int4, "
        hint = f"choose {smaller}a shorter context_length or a smaller model"
        return NoRoomError(message, hint=f"unload one of {others}" if others and not auto_unload else hint, **numbers)

    def _retire(self, loaded: Loaded) -> Loaded | None:
        loaded.retired = True
        return loaded if loaded.leases == 0 else None
