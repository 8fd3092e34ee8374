"""This node in its stack: trust by touch, links to those it trusts, membership over them, and what all share. Made once
by the node."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from agent.cluster.documents.service import DocumentsService
from agent.cluster.documents.store import DocumentStore
from agent.cluster.link.frames import LinkError
from agent.cluster.link.peers import Peers
from agent.cluster.membership.service import EpochFile, MembershipService
from agent.cluster.state import Cluster, Node
from agent.cluster.trust.service import TrustService
from agent.cluster.trust.spread import PURPOSE as TRUST
from agent.cluster.trust.spread import TrustSpread
from agent.cluster.trust.touch import TouchHost
from agent.cluster.trust.watch import TouchWatch
from hal.base import Hardware, HardwareError, TagRecord

_log = logging.getLogger(__name__)


class StackService:
    """Threads of its own from ``start`` to ``close``. ``peers`` asks the others, ``membership`` tells who they are,
    ``documents`` is what all of them share."""

    def __init__(
        self,
        state_dir: Path,
        device_id: str,
        facts: Callable[[], Node],
        hardware: Hardware,
        version: str,
        link_port: int,
    ) -> None:
        """``facts``: this node as it is now. ``link_port``: of the links of every node, 0 for none.

        Raises ConfigError, TrustFileError, or OSError for documents that cannot be read."""
        self._hardware, self._version, self._port = hardware, version, link_port
        self.trust = TrustService(state_dir, device_id)
        self.membership = MembershipService(
            facts, self.trust.new_seal(), hardware.link, EpochFile(state_dir), hardware.lines, hardware.readers
        )
        self._watch = TouchWatch(
            self.trust,
            hardware.lines,
            hardware.readers,
            hardware.tag,
            self._describe,
            link_port,
            self.membership.addresses,
        )
        self.peers = Peers(self.trust, TouchHost(self.trust, self._watch), self.membership.addresses, link_port)
        self._spread = TrustSpread(self.trust, self.peers.connect, self.peers.addresses)
        self.peers.serve(TRUST, self._spread.answer)
        store = DocumentStore(state_dir, self.trust)
        self.documents = DocumentsService(store, self.trust, self.membership, self.peers)
        self._deaf = ""  # why no links are served

    def start(self) -> None:
        if self._port:
            try:
                self.peers.listen(self._hardware.link.address())
            except (LinkError, HardwareError) as error:
                self._deaf = str(error)
                _log.error("no other node can reach this one: %s", error)
        self.membership.start()
        self._spread.start()
        self.documents.start()
        if self._hardware.tag is not None or self._hardware.readers:
            self._watch.start()

    def close(self) -> None:
        self._watch.close()
        self._spread.close()
        self.documents.close()
        self.membership.close()
        self.peers.close()

    def cluster(self) -> Cluster:
        """As it is now."""
        return self.membership.cluster()

    @property
    def fault(self) -> str:
        """Why this node cannot be part of its stack as it should; empty when it can."""
        return self._deaf or self.membership.fault

    def _describe(self, nonce: str) -> TagRecord:
        """What this device's tag is to say."""
        hardware = self._hardware
        assert hardware.tag is not None, "who has no tag is not asked what is to stand on it"
        return TagRecord(
            device_id=self.trust.device_id,
            fingerprint=self.trust.fingerprint,
            face=hardware.tag.face,
            firmware=self._version,
            ram_bytes=hardware.board.memory_bytes,
            tops=hardware.board.tops,
            floor_w=hardware.cap.floor_w,
            peak_w=hardware.cap.peak_w,
            addresses=(hardware.link.address(),),
            boot_nonce=nonce,
            cluster_id=self.cluster().id,
        )
