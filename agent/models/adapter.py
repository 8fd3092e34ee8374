"""Adapters in the store: how they find the model that they change, whether they fit it, and what they take."""

from __future__ import annotations

from collections.abc import Iterable

from agent.engine.lora import matrices
from agent.errors import ModelError
from agent.models.checkpoint import StoredModel
from agent.models.spec import decoder_spec


def base_names(named: str) -> list[str]:
    """Under which names a device may have the base that an adapter's makers named so.

    They write where it was when they trained: ``org/Name`` of the hub, or a folder of theirs.
    """
    last = named.rstrip("/").rpartition("/")[2]
    return list(dict.fromkeys((named, f"hf.co/{named}", last, last.casefold())))


def misfit(adapter: StoredModel, base: StoredModel) -> str:
    """Why the adapter cannot be served on this base; empty where it can."""
    if adapter.lora is None or base.broken:
        return ""  # what is wrong is said where it is
    try:
        spec = decoder_spec(base.path, base.digest)
        adapter.lora.check(spec.tensors(range(spec.layers)))
    except ModelError as error:
        return f"{error.message} ({base.name})"
    return ""


def adapter_bytes(adapters: Iterable[StoredModel]) -> int:
    """Memory of adapters that are loaded together: float32, each matrix that any of them changes for all of them."""
    specs = [adapter.lora for adapter in adapters if adapter.lora is not None]
    ranks = sum(spec.rank for spec in specs)
    return 4 * ranks * sum(outputs + inputs for outputs, inputs in matrices(specs).values())


def holds(model: StoredModel, name: str) -> bool:
    """Whether an adapter of this name loads with the model."""
    return any(one.name == name for one in model.adapters)


def has(model: StoredModel, adapter: StoredModel | None) -> bool:
    """Whether exactly these files of an adapter load with the model; None is with every model."""
    return adapter is None or any((one.name, one.digest) == (adapter.name, adapter.digest) for one in model.adapters)
