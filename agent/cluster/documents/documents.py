"""What all nodes of a stack share and any of them may change: signed, versioned documents that converge.

Keys, names, the manifest of models, settings. No quorum: each half of a divided stack goes on, and when they meet again
the last writer wins, document by document. Of two that were written at one time, a deletion wins: a key that somebody
took back must not come to life by a tie.

Documents come from other nodes and are hostile until checked: of a known kind and size, signed by a node that is known,
not of a clock far in the future (it would win for years). Merging is commutative, associative and idempotent, so
order, repetition and path of delivery do not matter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from agent.cluster.documents.document import MOST_COUNT, OWN_KINDS, Document, DocumentError, Name, from_json, to_json
from agent.errors import NoRoomError, RequestError

FUTURE_MS = 3_600_000  # how far ahead of this node's clock another's may be
BELIEVABLE_MS = 1_767_225_600_000  # 2026-01-01: a clock before that was never set (no battery behind it)
MOST_DOCUMENTS = 4096


class Signer(Protocol):
    """What documents need of trust."""

    def sign(self, data: bytes) -> bytes: ...

    def verify(self, node: str, data: bytes, signature: bytes) -> bool:
        """False for a wrong signature, and for a node that is not known or was forgotten."""
        ...


@dataclass(frozen=True, slots=True)
class Merged:
    """What came of documents from elsewhere."""

    accepted: tuple[Document, ...]
    refused: tuple[str, ...]  # why, one each


class Documents:
    """Not thread-safe. ``wall_ms`` is the wall clock, of which the order of writing is all that is used."""

    def __init__(self, node: str, signer: Signer, wall_ms: Callable[[], int], most: int = MOST_DOCUMENTS) -> None:
        """``node``: what the signer knows this one by."""
        self._node, self._signer, self._wall_ms, self._most = node, signer, wall_ms, most
        self._all: dict[Name, Document] = {}
        self._clock = (0, 0)  # hybrid logical clock: never behind the wall's, nor behind any that was seen
        self._digest: str | None = None
        self.revision = 0  # grows with each change, that of a signature, too

    # --- of this node ------------------------------------------------------------------------------------------------

    def get(self, kind: str, key: str) -> object | None:
        """Its value; None where there is none, or it was deleted."""
        document = self._all.get((kind, key))
        return None if document is None or document.value is None else json.loads(document.value)

    def of(self, kind: str) -> Mapping[str, object]:
        return {k: json.loads(d.value) for (of, k), d in self._all.items() if of == kind and d.value is not None}

    def knows(self, kind: str, key: str) -> bool:
        """Whether there is one, or was one that was deleted."""
        return (kind, key) in self._all

    def put(self, kind: str, key: str, value: object) -> Document:
        """``value``: anything that JSON can say, except null. Raises RequestError or NoRoomError, and loses nothing."""
        if value is None:
            raise RequestError("a document cannot be null", hint="delete it instead", param=key)
        return self._write(kind, key, json.dumps(value, separators=(",", ":"), sort_keys=True))

    def delete(self, kind: str, key: str) -> Document:
        """Leaves a tombstone, so that an older copy elsewhere does not bring it back."""
        return self._write(kind, key, None)

    def adopt(self) -> tuple[Document, ...]:
        """Sign anew, here, what is signed by nobody who counts any more: newcomers would not take it. What such a one
        said of its own device goes.

        Neither what it says nor its time is another then: every node may do so by itself, all still hold the same, and
        what was written meanwhile, a deletion above all, still wins.
        """
        adopted = []
        for old in tuple(self._all.values()):
            if self._is_signed(old):
                continue
            if old.kind in OWN_KINDS:
                del self._all[old.name]
                self._touched()
            else:
                mine = replace(old, node=self._node)
                adopted.append(replace(mine, signature=self._signer.sign(mine.signed)))
                self._keep(adopted[-1])
        return tuple(adopted)

    def copy(self) -> Documents:
        """Changes of the one are none of the other."""
        other = Documents(self._node, self._signer, self._wall_ms, self._most)
        other._all, other._clock, other._digest = dict(self._all), self._clock, self._digest
        other.revision = self.revision
        return other

    def changed_since(self, before: Documents) -> set[str]:
        """The kinds of what is not there as it was in ``before``."""
        old, new = before._all, self._all
        gone = {kind for kind, key in old if (kind, key) not in new}
        return gone | {name[0] for name, each in new.items() if name not in old or old[name].stamp != each.stamp}

    # --- between nodes -----------------------------------------------------------------------------------------------

    @property
    def digest(self) -> str:
        """16 hex digits, the same where the same documents are: what a beacon carries."""
        if self._digest is None:
            rows = "\n".join(f"{name}={stamp}" for name, stamp in sorted(self.summary().items()))
            self._digest = hashlib.sha256(rows.encode()).hexdigest()[:16] if rows else ""
        return self._digest

    def summary(self) -> dict[str, str]:
        """By ``kind/key``: a stamp of what is there. For a node whose digest differs."""
        return {f"{kind}/{key}": document.stamp for (kind, key), document in self._all.items()}

    def wanted(self, summary: Mapping[str, str]) -> tuple[str, ...]:
        """Of another node's summary, what is to be pulled: all that is not the same here, and not older."""
        own = self.summary()
        names = sorted(name for name, stamp in summary.items() if stamp > own.get(name, ""))
        return tuple(names[: self._most])

    def offered(self, names: Iterable[str]) -> tuple[Document, ...]:
        """The answer to a pull. Names that are not here are left out."""
        keys = (name.partition("/")[::2] for name in names)
        return tuple(self._all[kind, key] for kind, key in keys if (kind, key) in self._all)

    def merge(self, documents: Iterable[Document]) -> Merged:
        accepted: list[Document] = []
        refused: list[str] = []
        for document in documents:
            try:
                if self._take(document):
                    accepted.append(document)
            except DocumentError as error:
                refused.append(str(error))
        return Merged(tuple(accepted), tuple(refused))

    def merge_json(self, rows: object) -> Merged:
        """What another node sent, unchecked."""
        if not isinstance(rows, list):
            return Merged((), ("no list of documents",))
        documents: list[Document] = []
        refused: list[str] = []
        for row in rows[: self._most]:
            try:
                documents.append(from_json(row))
            except DocumentError as error:
                refused.append(str(error))
        merged = self.merge(documents)
        return Merged(merged.accepted, (*refused, *merged.refused))

    def to_json(self) -> list[object]:
        """For another node, or for the disk."""
        return [to_json(self._all[name]) for name in sorted(self._all)]

    def restore(self, rows: object) -> tuple[str, ...]:
        """What ``to_json`` gave before a restart, or in another process. Checked when it came; the clock may be another
        now, and so the trust. Returns what is wrong with the rows that are no documents; the others are taken.
        """
        if not isinstance(rows, list):
            return ("no list of documents",)
        wrong: list[str] = []
        for row in rows:
            try:
                document = from_json(row)
            except DocumentError as error:
                wrong.append(str(error))
                continue
            known = self._all.get(document.name)
            if known is None or self._wins(document, known):
                self._keep(document)
        return tuple(wrong)

    # --- how ---------------------------------------------------------------------------------------------------------

    def _write(self, kind: str, key: str, value: str | None) -> Document:
        if (kind, key) not in self._all and len(self._all) >= self._most:
            raise NoRoomError(
                f"the stack shares {self._most} documents already", hint="what was deleted counts, too", param=key
            )
        wall, number = self._next_clock()
        document = Document(kind, key, value, wall, number, self._node, b"")
        try:
            document.check()
        except DocumentError as error:
            raise RequestError(str(error), param=key) from error
        document = replace(document, signature=self._signer.sign(document.signed))
        self._keep(document)
        return document

    def _next_clock(self) -> tuple[int, int]:
        wall, number = self._wall_ms(), 0
        if wall <= self._clock[0]:
            wall, number = self._clock[0], self._clock[1] + 1
        return (wall, number) if number <= MOST_COUNT else (wall + 1, 0)

    def _take(self, document: Document) -> bool:
        """Whether it is new. Raises DocumentError."""
        document.check()
        known = self._all.get(document.name)
        if known is not None and not self._wins(document, known):
            return False
        if self._is_of_the_future(document):
            raise DocumentError(f"{document.kind}/{document.key} is of a time that is far from now")
        if known is None and len(self._all) >= self._most:
            raise DocumentError("more documents than a stack shares")
        if not self._is_signed(document):
            raise DocumentError(f"{document.kind}/{document.key} is not signed by {document.node}, or that is unknown")
        self._keep(document)
        return True

    def _wins(self, document: Document, known: Document) -> bool:
        return document.stamp > known.stamp

    def _is_of_the_future(self, document: Document) -> bool:
        """A clock that was never set judges nobody: then a stack of such devices could not share anything."""
        wall = self._wall_ms()
        return wall >= BELIEVABLE_MS and document.wall_ms > wall + FUTURE_MS

    def _is_signed(self, document: Document) -> bool:
        return self._signer.verify(document.node, document.signed, document.signature)

    def _keep(self, document: Document) -> None:
        self._all[document.name] = document
        self._clock = max(self._clock, (document.wall_ms, document.count))
        self._touched()

    def _touched(self) -> None:
        self.revision += 1
        self._digest = None
