"""Notices touch: writes this device's tag, meets whoever the readers see, and lets the others meet us.

One thread, which looks at lines and readers five times a second. It takes no edge and no sighting away from others who
wait for them.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Final

from agent.cluster.trust.service import TrustService
from agent.cluster.trust.touch import meet
from agent.errors import ThoxError
from hal.base import Face, HardwareError, OwnTag, StackLines, TagReader, TagRecord

_LOOK_S: Final = 0.2
_FIRST_RETRY_S, _LAST_RETRY_S = 0.5, 10.0
_UNHEARD_S: Final = 1.0  # after which somebody who was met, and touches us still, should have been heard
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Try:
    """What came of meeting the record that a reader sees."""

    record: TagRecord
    due: float
    wait_s: float = _FIRST_RETRY_S
    met: bool = False
    said: str = ""


class TouchWatch:
    """Give it to a TouchHost, too: it is the Worn of this device."""

    def __init__(
        self,
        trust: TrustService,
        lines: StackLines,
        readers: Mapping[Face, TagReader],
        tag: OwnTag | None,
        describe: Callable[[str], TagRecord],
        port: int,
        heard: Callable[[], Container[str]],
    ) -> None:
        """``describe``: what the tag is to say, with the given nonce; asked anew all the time, so that it is true.
        ``heard``: device ids of those whose sealed words came lately, and so are of one stack with us."""
        self._trust, self._lines, self._readers, self._tag = trust, lines, readers, tag
        self._describe, self._port, self._heard = describe, port, heard
        self._lock = threading.Lock()
        self._nonce = secrets.token_hex(16)
        self._spent_by = ""
        self._left = False  # the face of the tag was open since the nonce was made
        self._lay = False
        self._published: TagRecord | None = None
        self._tries: dict[Face, _Try] = {}
        self._said = ""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="touch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(10.0)

    # --- Worn --------------------------------------------------------------------------------------------------------

    def nonce(self) -> str:
        with self._lock:
            return self._nonce

    def refusal(self, fingerprint: str, nonce: str) -> str:
        with self._lock:
            published, spent_by = self._published, self._spent_by
        if published is None:
            return "this device has no tag"
        if spent_by not in ("", fingerprint):
            return "another device entered by this touch; lift this one off and put it back"
        face = published.face
        try:
            if not self._lines.closed().get(face, False):
                return f"nothing touches the {face} face of this device"
            reader = self._readers.get(face)
            seen = None if reader is None else reader.seen()
        except HardwareError as error:
            return f"this device cannot feel a touch: {error}"
        if reader is not None and (seen is None or (seen.fingerprint, seen.boot_nonce) != (fingerprint, nonce)):
            return f"another device touches the {face} face"
        return ""

    def spend(self, fingerprint: str) -> None:
        with self._lock:
            self._spent_by = fingerprint

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed.wait(_LOOK_S):
            try:
                self.look(time.monotonic())
                self._said = ""
            except (HardwareError, OSError, ThoxError) as error:
                if str(error) != self._said:  # once for each fault, not five times a second
                    self._said = str(error)
                    _log.warning("touch: %s", error)
            except Exception:  # noqa: BLE001 - the top of the thread: trust must not end with one bad look
                _log.exception("touch broke")

    def look(self, now: float) -> None:
        """Once over everything. Raises HardwareError for what cannot be looked at."""
        closed = self._lines.closed()
        self._keep_tag(closed)
        for face, reader in self._readers.items():
            record = reader.seen() if closed.get(face, False) else None
            if record is None or record.fingerprint == self._trust.fingerprint:
                self._tries.pop(face, None)
            else:
                self._meet(face, record, now)

    def _keep_tag(self, closed: Mapping[Face, bool]) -> None:
        """The tag says what is true. Its nonce is another one as soon as its face was left."""
        if self._tag is None:
            return
        with self._lock:
            nonce = self._nonce
        wanted = self._describe(nonce)
        lies = closed.get(wanted.face, False)
        self._left, self._lay = self._left or (self._lay and not lies), lies
        if self._left:
            wanted = self._describe(secrets.token_hex(16))
        elif wanted == self._published:
            return
        self._tag.publish(wanted)  # while this fails, what stands on the tag is what is asked for
        with self._lock:
            self._published = wanted
            if self._left:
                self._nonce, self._spent_by, self._left = wanted.boot_nonce, "", False

    def _meet(self, face: Face, record: TagRecord, now: float) -> None:
        attempt = self._tries.get(face)
        if attempt is None or attempt.record != record:  # another one, or of another stack now
            attempt = self._tries[face] = _Try(record, now)
        if attempt.met and record.device_id in self._heard():
            attempt.due, attempt.wait_s = now + _UNHEARD_S, _UNHEARD_S
            return
        # Who was met and is not heard went on into another stack, by a touch at its other end, before we could follow.
        if now < attempt.due or not record.addresses:
            return
        try:
            address = (record.addresses[0], self._port)
            meet(self._trust, record, self.nonce(), address, lambda: self._lines.closed().get(face, False))
            attempt.met, attempt.wait_s = True, max(attempt.wait_s, _UNHEARD_S)
        except ThoxError as error:
            if error.message != attempt.said:
                attempt.said = error.message
                _log.warning("touching %s: %s", record.device_id, error.message)
        attempt.due, attempt.wait_s = now + attempt.wait_s, min(2 * attempt.wait_s, _LAST_RETRY_S)
