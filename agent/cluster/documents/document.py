"""One shared document: its order among others of its name, what is signed of it, and its JSON."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

KINDS = frozenset({"key", "name", "model", "config"})
OWN_KINDS = frozenset({"model"})  # of what is so on its author's device alone: ``author/...``
Name = tuple[str, str]  # kind, key

MOST_KEY = 256  # characters
MOST_VALUE = 16_384
MOST_SIGNATURE = 128  # bytes; Ed25519 has 64
LATEST_MS = 4_102_444_800_000  # 2100-01-01
MOST_COUNT = 2**16 - 1
_PURPOSE = "thox document 1"


class DocumentError(ValueError):
    pass


@dataclass(frozen=True)
class Document:
    """``value`` is JSON; None: deleted. ``wall_ms`` and ``count``: hybrid logical clock of ``node``, who wrote it."""

    kind: str
    key: str
    value: str | None
    wall_ms: int
    count: int
    node: str
    signature: bytes

    @property
    def name(self) -> Name:
        return (self.kind, self.key)

    @cached_property
    def stamp(self) -> str:
        """Text that sorts as documents of one name do: the greatest counts. The latest; at one time, a deletion; then
        any order that is the same for all. Who wrote it is no part of that: signed anew by another, it is the same.
        """
        mark = hashlib.sha256(json.dumps(self.value).encode()).hexdigest()[:24]
        return f"{self.wall_ms:013d}.{self.count:05d}.{int(self.value is None)}.{mark}"

    @property
    def signed(self) -> bytes:
        """All of it but the signature, in one way only."""
        rows = [_PURPOSE, self.kind, self.key, self.value, self.wall_ms, self.count, self.node]
        return json.dumps(rows, separators=(",", ":")).encode()

    def check(self) -> None:
        """Raises DocumentError for what cannot be a document, whoever signed it."""
        if self.kind not in KINDS:
            raise DocumentError("a document of an unknown kind")
        if not 0 < len(self.key) <= MOST_KEY or not self.key.isprintable():
            raise DocumentError(f"the key of a document has 1 to {MOST_KEY} characters")
        if not 0 < len(self.node) <= MOST_KEY or not self.node.isascii() or not self.node.isprintable():
            raise DocumentError("a document that nobody wrote")
        if self.kind in OWN_KINDS and not self.key.startswith(f"{self.node}/"):
            raise DocumentError(f"{self.kind}/{self.key[:40]} is of another device than its author's")
        if self.value is not None and len(self.value.encode()) > MOST_VALUE:
            raise DocumentError(f"{self.kind}/{self.key[:40]} is larger than {MOST_VALUE} bytes")
        if not 0 <= self.wall_ms <= LATEST_MS or not 0 <= self.count <= MOST_COUNT:
            raise DocumentError(f"{self.kind}/{self.key[:40]} is of no time")
        if len(self.signature) > MOST_SIGNATURE:
            raise DocumentError(f"{self.kind}/{self.key[:40]} has a signature that is none")


def to_json(document: Document) -> list[object]:
    signature = base64.b64encode(document.signature).decode()
    return [
        document.kind, document.key, document.value, document.wall_ms, document.count, document.node, signature,
    ]  # fmt: skip


def from_json(row: Any) -> Document:  # noqa: ANN401  unchecked JSON
    """Raises DocumentError for whatever is not one in every part."""
    try:
        kind, key, value, wall, count, node, signature = row
        if not all(isinstance(each, str) for each in (kind, key, node, signature)):
            raise DocumentError("this is no document")
        if not (value is None or isinstance(value, str)):
            raise DocumentError("this is no document")
        if not all(type(each) is int for each in (wall, count)) or len(signature) > 2 * MOST_SIGNATURE:
            raise DocumentError("this is no document")
        document = Document(kind, key, value, wall, count, node, base64.b64decode(signature, validate=True))
        document.check()
        if value is not None:
            json.loads(value)
    except DocumentError:
        raise
    except (ValueError, TypeError, binascii.Error, RecursionError) as error:
        raise DocumentError("this is no document") from error
    return document
