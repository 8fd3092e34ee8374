"""Other names of models that owners gave on any node of the stack: documents of kind ``name``, as a mapping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Final

from agent.cluster.documents.documents import Documents
from agent.cluster.documents.store import DocumentStore

KIND: Final = "name"


class SharedNames(MutableMapping[str, str]):
    """Name to model, as they are at this moment. Safe to use from many threads. What is set or deleted is so on all
    nodes soon, and on the disk when that returns; it raises what ``DocumentStore.change`` does."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents
        self._names = documents.view(_names)

    def __getitem__(self, name: str) -> str:
        return self._names()[name]

    def __setitem__(self, name: str, model: str) -> None:
        self._documents.change(lambda documents: documents.put(KIND, name, model))

    def __delitem__(self, name: str) -> None:
        if name not in self._names():
            raise KeyError(name)
        self._documents.change(lambda documents: documents.delete(KIND, name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())


def _names(documents: Documents) -> Mapping[str, str]:
    return {name: model for name, model in documents.of(KIND).items() if isinstance(model, str)}
