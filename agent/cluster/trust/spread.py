"""Members tell one another whom the stack trusts, so that one that is forgotten is so everywhere within seconds.

One thread: whenever the roster is not what a member was told last, be it that a touch, a command or another member
changed it, it is exchanged with that member over a link, both ways. Members that do not answer are tried again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from agent.cluster.link.connection import Address, LinkConnection
from agent.cluster.link.frames import Json
from agent.cluster.trust.identity import TrustError
from agent.cluster.trust.service import TrustService
from agent.errors import ThoxError

PURPOSE: Final = "trust"
_LOOK_S, _RETRY_S = 1.0, 5.0
_log = logging.getLogger(__name__)


class TrustSpread:
    """``addresses``: of the members that are known to be somewhere, by device id."""

    def __init__(
        self,
        trust: TrustService,
        connect: Callable[[str, Address], LinkConnection],
        addresses: Callable[[], Mapping[str, Address]],
    ) -> None:
        self._trust, self._connect, self._addresses = trust, connect, addresses
        self._told: dict[str, str] = {}  # digest of the roster that a member has, by fingerprint
        self._due: dict[str, float] = {}
        self._wake, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="trust", daemon=True)
        trust.on_change(self._wake.set)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(15.0)

    def answer(self, node: str, body: object) -> Json:
        """To a member that tells us its roster: ours. Raises TrustError for what no member signed."""
        self._take(body)
        _log.debug("%s told its roster", node)
        return self._document()

    def look(self, now: float) -> None:
        """Tell everybody who does not know yet."""
        addresses = self._addresses()
        for member in self._trust.roster().members:
            address, digest = addresses.get(member.device_id), self._digest()
            known = self._told.get(member.fingerprint) == digest
            if member.fingerprint == self._trust.fingerprint or address is None or known:
                continue
            if now < self._due.get(member.fingerprint, now):
                continue
            try:
                connection = self._connect(member.device_id, address)
                try:
                    self._take(connection.request(self._document()).get(PURPOSE))
                finally:
                    connection.close()
                self._told[member.fingerprint] = self._digest()
            except ThoxError as error:
                self._due[member.fingerprint] = now + _RETRY_S
                _log.info("%s was not told whom the stack trusts: %s", member.device_id, error.message)

    def _run(self) -> None:
        while not self._closed.is_set():
            self._wake.wait(_LOOK_S)
            self._wake.clear()
            try:
                self.look(time.monotonic())
            except Exception:  # noqa: BLE001 - the top of the thread: the next look may do better
                _log.exception("telling whom the stack trusts broke")

    def _document(self) -> Json:
        return {PURPOSE: base64.b64encode(self._trust.document()).decode()}

    def _take(self, document_text: object) -> None:
        try:
            document = base64.b64decode(str(document_text), validate=True)
        except (binascii.Error, ValueError) as error:
            raise TrustError("This is no roster of a stack") from error
        self._trust.take(document)

    def _digest(self) -> str:
        return hashlib.sha256(json.dumps(self._trust.roster().to_json()).encode()).hexdigest()
