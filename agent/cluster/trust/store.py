"""What a device keeps of its trust: ``trust.json`` in the state folder, mode 0600, replaced whole under a lock.

The command line and a running device both write it; a running device sees a change at once, for the cost of one stat.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent import private_file
from agent.cluster.fields import Fields, number, whole
from agent.cluster.trust.clock import LAST
from agent.cluster.trust.identity import TrustError
from agent.cluster.trust.roster import Roster, roster_from_json
from agent.errors import ThoxError


class TrustFileError(ThoxError):
    """trust.json cannot be read. Never taken for a device that nobody has touched yet."""

    type = "trust_file_error"


@dataclass(frozen=True, slots=True)
class TrustState:
    """``incarnation`` grows with every start; ``time_s`` is the latest stack time that was worth keeping."""

    roster: Roster
    incarnation: int = 0
    time_s: float = 0.0


class TrustStore:
    """Safe to use from many threads and several processes."""

    def __init__(self, state_dir: Path, fresh: Callable[[], TrustState]) -> None:
        """``fresh`` makes the state of a device that has none. Raises TrustFileError."""
        self._file, self._lock_file = state_dir / "trust.json", state_dir / "trust.lock"
        self._fresh = fresh
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._state: TrustState | None = None
        self.change(lambda state: state)

    def read(self) -> TrustState:
        with self._lock:
            return self._read()

    def change(self, change: Callable[[TrustState], TrustState]) -> tuple[TrustState, TrustState]:
        """What was, and what is now. On the disk when this returns; what ``change`` raises leaves all as it was.

        Raises UnavailableError when another process holds the file, OSError where it cannot be written.
        """
        with self._lock, private_file.locked(self._lock_file):
            missing = not self._file.exists()
            before = self._fresh() if missing else self._read()
            after = change(before)
            if missing or after != before:
                private_file.replace(self._file, _encoded(after))
            return before, self._read()

    def _read(self) -> TrustState:
        try:
            status = self._file.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if self._state is None or seen != self._seen:
                self._state, self._seen = _decoded(json.loads(self._file.read_bytes())), seen
        except (OSError, ValueError, TrustError) as error:
            raise TrustFileError(
                f"{self._file} cannot be read",
                hint="Restore it; or remove it, and this device begins a stack of its own.",
            ) from error
        return self._state


def _encoded(state: TrustState) -> bytes:
    body = {"roster": state.roster.to_json(), "incarnation": state.incarnation, "time_s": state.time_s}
    return json.dumps(body, indent=1).encode()


def _decoded(body: object) -> TrustState:
    """Raises ValueError or TrustError."""
    fields = Fields("", body)
    return TrustState(
        fields("roster", lambda _place, roster: roster_from_json(roster)),
        fields("incarnation", whole()),
        fields("time_s", number(LAST)),
    )
