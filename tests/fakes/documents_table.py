"""Nodes that hear one another at a table: real documents, trust and files, no network, and a clock of the test."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trusting_device import Device, devices, together

from agent.cluster.documents.service import DocumentsService
from agent.cluster.documents.store import DocumentStore

Json = dict[str, Any]


class Table:
    """Where all hear one another. ``says`` instead of a node's own answer, where a test puts one."""

    def __init__(self) -> None:
        self.now = 0.0
        self.services: dict[str, DocumentsService] = {}
        self.answers: dict[str, Callable[[str, object], Json]] = {}
        self.digests: dict[str, str] = {}
        self.asked: list[str] = []

    def seat(self, device: Device) -> DocumentsService:
        store = DocumentStore(device.folder, device.trust)
        place = Seat(self, device.id)
        self.services[device.id] = DocumentsService(store, device.trust, place, place, lambda: self.now)
        self.digests[device.id] = store.read().digest
        return self.services[device.id]

    def look(self, rounds: int = 3) -> None:
        for _ in range(rounds):
            for service in self.services.values():
                service.look()


class Seat:
    """What one of them has of membership and links."""

    def __init__(self, table: Table, name: str) -> None:
        self.table, self.name = table, name

    def differing(self, digest: str) -> Mapping[str, str]:
        self.table.digests[self.name] = digest
        return {each: theirs for each, theirs in self.table.digests.items() if each != self.name and theirs != digest}

    def ask(self, node: str, _purpose: str, body: object, _timeout_s: float) -> Json:
        self.table.asked.append(node)
        assert len(self.table.asked) < 500, "somebody is asked without end"
        answer: Json = json.loads(json.dumps(self.table.answers[node](self.name, json.loads(json.dumps(body)))))
        return answer

    def serve(self, _purpose: str, answer: Callable[[str, object], Json]) -> None:
        self.table.answers[self.name] = answer


Room = tuple[Table, list[Device], list[DocumentsService]]


@contextlib.contextmanager
def table_of(folder: Path, names: str) -> Iterator[Room]:
    """A device for each letter, all members of one stack."""
    with devices(folder) as make:
        made = [make(name) for name in names]
        together(*made)
        table = Table()
        yield table, made, [table.seat(each) for each in made]
