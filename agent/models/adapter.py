"""Adapters in the store: how they find the model that they change, whether they fit it, and what they take."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from agent.engine.decoder import DecoderSpec
from agent.engine.gguf_families import config_of
from agent.engine.gguf_file import GgufFile, find_gguf
from agent.engine.lora import matrices
from agent.errors import ModelError
from agent.models.checkpoint import StoredModel


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
        adapter.lora.check(_tensors(base.path, base.digest))
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


@lru_cache(maxsize=64)
def _tensors(path: Path, digest: str) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of a decoder's tensors; ``digest`` tells the cache when the files are others."""
    file = find_gguf(path)
    try:
        config = json.loads((path / "config.json").read_text()) if file is None else config_of(GgufFile.read(file))
    except (OSError, ValueError) as error:
        raise ModelError(f"config.json cannot be read: {error}") from error
    spec = DecoderSpec.from_config(config)
    return spec.tensors(range(spec.layers))
