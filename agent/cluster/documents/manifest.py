"""Which models are on which node of the stack: documents of kind ``model``, each node's own by its device id and name.

Nobody but a node itself can say what is on it, and what it said goes when it is a member no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Final

from agent.cluster.documents.documents import Documents
from agent.cluster.documents.store import DocumentStore
from agent.cluster.state import node_id
from agent.models.checkpoint import StoredModel

KIND: Final = "model"


@dataclass(frozen=True, slots=True)
class KeptModel:
    """A model as its node tells of it."""

    name: str
    kind: str  # text, embedding, reranker, adapter
    bytes: int  # of all files
    parameters: int
    quantisation: str  # of the files
    digest: str  # of the registry's manifest; of one that was put there by hand it says nothing to another node
    source: str  # builtin, local, or the registry's reference


class ModelManifest:
    """Safe to use from many threads."""

    def __init__(self, documents: DocumentStore, device_id: str, models: Callable[[], Iterable[StoredModel]]) -> None:
        """``models``: those on this device, as they are now."""
        self._documents, self._device_id, self._models = documents, device_id, models
        self._by_node = documents.view(_by_node)

    def tell(self) -> None:
        """Bring what the stack knows of this device up to date. Raises OSError, or NoRoomError for too many models."""
        prefix = f"{self._device_id}/"
        wanted = {prefix + each.name: _told(each) for each in self._models() if not each.broken}
        said = {key: value for key, value in self._documents.read().of(KIND).items() if key.startswith(prefix)}
        if wanted == said:
            return

        def change(documents: Documents) -> None:
            for key in said.keys() - wanted.keys():
                documents.delete(KIND, key)
            for key, value in wanted.items():
                if said.get(key) != value:
                    documents.put(KIND, key, value)

        self._documents.take(change)

    def models_of(self, node: str) -> tuple[KeptModel, ...]:
        """On that node, by name; empty for one that is not known."""
        return self._by_node().get(node, ())

    def nodes_with(self, model: str) -> tuple[str, ...]:
        """Ids of the nodes that have a model of this name."""
        return tuple(sorted(node for node, kept in self._by_node().items() if any(each.name == model for each in kept)))


def _by_node(documents: Documents) -> Mapping[str, tuple[KeptModel, ...]]:
    by_node: dict[str, list[KeptModel]] = {}
    for key, value in sorted(documents.of(KIND).items()):
        device, _, name = key.partition("/")
        try:
            by_node.setdefault(node_id(device), []).append(_kept(name, value))
        except (ValueError, TypeError):
            continue  # written by another version, or by nobody who means well
    return {node: tuple(models) for node, models in by_node.items()}


def _told(model: StoredModel) -> dict[str, object]:
    said = asdict(
        KeptModel(model.name, model.kind, model.bytes, model.parameters, model.quantisation, model.digest, model.source)
    )
    del said["name"]
    return said


def _kept(name: str, value: object) -> KeptModel:
    """Raises TypeError."""
    kept = KeptModel(name, **value) if isinstance(value, dict) else None
    if kept is None or not all(type(each) is int and each >= 0 for each in (kept.bytes, kept.parameters)):
        raise TypeError("no model")
    if not all(isinstance(each, str) for each in (kept.kind, kept.quantisation, kept.digest, kept.source)):
        raise TypeError("no model")
    return kept
