"""The stack's documents in a running node: one thread that brings this node's and the others' together.

Beacons carry a digest of what each node has. Where another's is different, its summary is compared, and what is newer
there is pulled, over the link, in frames that fit. Each side pulls for itself, so what one learns all have within a
second or two. Who cannot be agreed with (its clock is wrong, its version is another) is asked again ever more rarely,
until one of the two digests, or the members, are others.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from agent.cluster.documents.document import to_json
from agent.cluster.documents.documents import MOST_DOCUMENTS, Documents
from agent.cluster.documents.store import DocumentStore
from agent.cluster.link.frames import Json, LinkError
from agent.cluster.trust.service import TrustService
from agent.errors import RequestError, ThoxError

PURPOSE: Final = "documents"
LOOK_S: Final = 0.2
TELL_S: Final = 5.0
ASK_S: Final = 3.0
EXCHANGE_S: Final = 15.0  # all that is asked of one node at one time
MOST_WAIT_S: Final = 30.0
PIECE_BYTES: Final = 1 << 19  # half a frame
PIECE_NAMES: Final = 256
MOST_PAGES: Final = 16  # of as many documents as there may be, with the longest names
_log = logging.getLogger(__name__)


class Others(Protocol):
    """What documents need of membership."""

    def differing(self, digest: str) -> Mapping[str, str]:
        """Who of the members has another digest, and which, by node id; all are told of ours from now on."""
        ...


class Asking(Protocol):
    """What documents need of the links."""

    def ask(self, node: str, purpose: str, body: object, timeout_s: float) -> Json: ...

    def serve(self, purpose: str, answer: Callable[[str, object], Json]) -> None: ...


@dataclass(slots=True)
class _Wait:
    """Until a node is asked again that was asked in vain, while both digests stay what they were."""

    digests: tuple[str, str]
    due: float
    tries: int = 0


class DocumentsService:
    """A thread of its own from ``start`` to ``close``."""

    def __init__(
        self,
        store: DocumentStore,
        trust: TrustService,
        others: Others,
        peers: Asking,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self._trust, self._others, self._peers, self._clock = trust, others, peers, clock
        self._telling: list[Callable[[], None]] = []
        self._told_at = clock() - TELL_S
        self._untold = ""  # why what is to be told could not be
        self._members: frozenset[str] = frozenset()  # fingerprints of whose signatures count, when that was looked at
        self._waits: dict[str, _Wait] = {}
        self._refused: dict[str, str] = {}  # why a node's documents are not taken
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="documents", daemon=True)
        peers.serve(PURPOSE, self.answer)

    def tell_also(self, tell: Callable[[], None]) -> None:
        """Call it every few seconds, from the thread, to write what this device is to tell. Before ``start``."""
        self._telling.append(tell)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(2 * ASK_S)

    @property
    def fault(self) -> str:
        """Why this node may not have what the others have; empty when nothing is wrong."""
        refused = tuple(self._refused.items())
        return self.store.fault or (f"of {refused[0][0]} is not taken: {refused[0][1]}" if refused else "")

    def answer(self, _node: str, body: object) -> Json:
        """To another node. ``{"after": name}``: the next names and stamps; ``{"pull": [name, ...]}``: documents, in the
        order of the names, as many as fit. Raises RequestError."""
        documents = self.store.read()
        if isinstance(body, dict) and isinstance(body.get("after"), str):
            return _page(documents, body["after"])
        names = body.get("pull") if isinstance(body, dict) else None
        if isinstance(names, list) and len(names) <= PIECE_NAMES and all(isinstance(each, str) for each in names):
            return _piece(documents, names)
        raise RequestError("documents are asked for by `after` or `pull`")

    def look(self) -> None:
        """Once round: this device's own file, its members, and who of them has other documents."""
        self._adopt()
        if self._clock() - self._told_at >= TELL_S:
            self._told_at = self._clock()
            self._tell()
        self.store.save()
        digest = self.store.read().digest
        others = self._others.differing(digest)
        self._waits = {node: wait for node, wait in self._waits.items() if node in others}
        self._refused = {node: why for node, why in self._refused.items() if node in others}
        for node, theirs in others.items():
            wait = self._waits.get(node)
            if wait is None or wait.digests != (digest, theirs):
                wait = self._waits[node] = _Wait((digest, theirs), self._clock())
            if self._clock() >= wait.due and not self._closed.is_set():
                self._pull(node)
                wait.due = self._clock() + min(LOOK_S * 2**wait.tries, MOST_WAIT_S)
                wait.tries += 1

    def _run(self) -> None:
        while not self._closed.wait(LOOK_S):
            try:
                self.look()
            except Exception:  # noqa: BLE001 - without this thread a revoked key would live on here
                _log.exception("documents go on after an error")

    def _adopt(self) -> None:
        """What was written by who is no member any more is signed anew, or newcomers would not take it."""
        members = frozenset(each.fingerprint for each in self._trust.roster().members)
        if members == self._members:
            return
        adopted = self.store.take(lambda documents: documents.adopt())
        if adopted:
            _log.info("%d documents of devices that are no members any more are signed by this one now", len(adopted))
        self._members = members
        self._waits.clear()

    def _tell(self) -> None:
        try:
            for tell in self._telling:
                tell()
            self._untold = ""
        except (ThoxError, OSError) as error:
            if str(error) != self._untold:
                _log.warning("the stack is not told what is on this device: %s", error)
            self._untold = str(error)

    def _pull(self, node: str) -> None:
        try:
            taken, refused = self._exchange(node)
        except ThoxError as error:
            _log.debug("documents of %s: %s", node, error.message)
            return
        if taken:
            _log.info("%d documents came from %s", taken, node)
        if refused and self._refused.get(node) != refused:
            _log.warning("documents of %s are not taken: %s", node, refused)
        self._refused.pop(node, None)
        if refused:
            self._refused[node] = refused
        else:
            self.store.healed()

    def _exchange(self, node: str) -> tuple[int, str]:
        """How many were taken, and why one was not. Raises ThoxError."""
        ends, taken, refused = self._clock() + EXCHANGE_S, 0, ""
        names = [name for page in self._pages(node) for name in self.store.read().wanted(page)]
        while names and self._clock() < ends and not self._closed.is_set():
            answer = self._peers.ask(node, PURPOSE, {"pull": names[:PIECE_NAMES]}, ASK_S)
            through = answer.get("through")
            if type(through) is not int or through < 1:
                raise LinkError(f"{node} does not answer with documents")
            merged = self.store.merge(answer.get("documents"))
            taken, refused = taken + len(merged.accepted), refused or next(iter(merged.refused), "")
            names = names[min(through, PIECE_NAMES) :]
        return taken, refused[:200]

    def _pages(self, node: str) -> Iterator[dict[str, str]]:
        """Its summary, page by page."""
        after, seen = "", 0
        for _ in range(MOST_PAGES):
            summary = self._peers.ask(node, PURPOSE, {"after": after}, ASK_S).get("summary")
            if not isinstance(summary, dict) or not all(isinstance(each, str) for each in summary.values()):
                raise LinkError(f"{node} does not tell which documents it has")
            if not summary:
                return
            yield summary
            after, seen = max(summary), seen + len(summary)
            if seen > MOST_DOCUMENTS:
                raise LinkError(f"{node} has more documents than a stack shares")


def _page(documents: Documents, after: str) -> Json:
    page: dict[str, str] = {}
    size, summary = 0, documents.summary()
    for name in sorted(each for each in summary if each > after):
        size += len(json.dumps(name)) + len(summary[name]) + 8
        if size > PIECE_BYTES:
            break
        page[name] = summary[name]
    return {"summary": page}


def _piece(documents: Documents, names: Sequence[str]) -> Json:
    """``through``: how many of the names that is the answer to."""
    rows: list[object] = []
    size = 0
    for number, name in enumerate(names):
        for document in documents.offered([name]):
            row = to_json(document)
            size += len(json.dumps(row)) + 8
            if rows and size > PIECE_BYTES:
                return {"documents": rows, "through": number}
            rows.append(row)
    return {"documents": rows, "through": len(names)}
