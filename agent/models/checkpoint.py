"""What a model's folder says about itself, read without its weights: config.json, file sizes, safetensors headers."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

RECORD = ".thox.json"  # written by a pull: where the model came from
_LARGEST_HEADER = 100 * 1024 * 1024  # the safetensors format's own bound
_ENCODERS = ("bert", "nomic_bert", "roberta", "xlm-roberta", "distilbert", "mpnet", "modernbert")

Files = tuple[tuple[str, int, int], ...]  # path in the folder, bytes, mtime in ns


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One model on disk. Where ``broken`` says something, the model is listed and cannot be loaded."""

    name: str
    path: Path
    kind: Literal["text", "embedding"]
    architecture: str  # as config.json names it, e.g. LlamaForCausalLM
    parameters: int  # elements of all tensors
    bytes: int  # of all files
    context_length: int  # what config.json allows; 0: it does not say
    cache_values: int  # numbers the key-value cache keeps for one token; 0: none, or unknown
    created: int  # Unix time, s: when the files came
    modified: int  # Unix time, s: the newest file
    digest: str  # of the registry's manifest; else of names, sizes and times of the files, so it changes when they do
    source: str  # builtin, local, or the registry's reference
    broken: str = ""

    @property
    def short(self) -> str:
        """The digest in a length for people."""
        return self.digest[:12]

    @property
    def builtin(self) -> bool:
        return self.source == "builtin"


class _Unusable(Exception):
    """Why a folder is no model."""


def inspect(name: str, path: Path, *, builtin: bool) -> StoredModel:
    """Look at a folder. Never raises for what is wrong inside: ``broken`` says it."""
    try:
        files = _files(path)
    except OSError as error:  # it went away under our eyes, or may not be read
        return _broken(name, path, (), builtin, f"the folder cannot be read: {error.strerror}")
    try:
        return _inspect(name, path, files, builtin)
    except _Unusable as reason:
        return _broken(name, path, files, builtin, str(reason))


def _files(path: Path) -> Files:
    """Every file below the folder. Asked for at each request, so it is one pass over the directories."""
    found: list[tuple[str, int, int]] = []
    folders = [(str(path), "")]
    while folders:
        folder, prefix = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append((entry.path, f"{prefix}{entry.name}/"))
                elif entry.is_file():
                    stat = entry.stat()
                    found.append((prefix + entry.name, stat.st_size, stat.st_mtime_ns))
    return tuple(sorted(found))


@lru_cache(maxsize=256)
def _inspect(name: str, path: Path, files: Files, builtin: bool) -> StoredModel:
    """``files`` is the key of the cache: a folder whose files did not change is not read again."""
    present = {file for file, _, _ in files}
    config = _json(path, "config.json", present)
    if "tokenizer.json" not in present:
        raise _Unusable("tokenizer.json is missing")
    weights = _weights(path, present)
    record = _json(path, RECORD, present) if RECORD in present else {}
    # A multimodal checkpoint keeps the numbers of its decoder one level down.
    text = config["text_config"] if isinstance(config.get("text_config"), dict) else config
    encoder = config.get("model_type") in _ENCODERS or "modules.json" in present
    return StoredModel(
        name=name,
        path=path,
        kind="embedding" if encoder else "text",
        architecture=_architecture(config),
        parameters=sum(_parameters(path / file) for file in weights),
        bytes=sum(size for _, size, _ in files),
        context_length=_number(text, "max_position_embeddings", "n_positions"),
        cache_values=0 if encoder else _cache_values(text),
        created=_time(files, record.get("created")),
        modified=_time(files, None),
        digest=str(record.get("digest") or _digest(files)).removeprefix("sha256:"),
        source="builtin" if builtin else str(record.get("source") or "local"),
    )


def _broken(name: str, path: Path, files: Files, builtin: bool, reason: str) -> StoredModel:
    return StoredModel(
        name=name,
        path=path,
        kind="text",
        architecture="",
        parameters=0,
        bytes=sum(size for _, size, _ in files),
        context_length=0,
        cache_values=0,
        created=_time(files, None),
        modified=_time(files, None),
        digest=_digest(files),
        source="builtin" if builtin else "local",
        broken=reason,
    )


def _json(path: Path, file: str, present: set[str]) -> dict[str, Any]:
    if file not in present:
        raise _Unusable(f"{file} is missing")
    try:
        value = json.loads((path / file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _Unusable(f"{file} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise _Unusable(f"{file} is not a JSON object")
    return value


def _architecture(config: dict[str, Any]) -> str:
    names = config.get("architectures")
    if isinstance(names, list) and names and isinstance(names[0], str):
        return names[0]
    raise _Unusable("config.json names no architecture")


def _weights(path: Path, present: set[str]) -> list[str]:
    """The safetensors files of the model: those its index names, else all beside config.json."""
    index = "model.safetensors.index.json"
    if index in present:
        named = _json(path, index, present).get("weight_map")
        if not isinstance(named, dict) or not named:
            raise _Unusable(f"{index} has no weight_map")
        files = sorted({str(file) for file in named.values()})
        missing = [file for file in files if file not in present]
        if missing:
            raise _Unusable(f"{len(missing)} of {len(files)} weight files are missing, {missing[0]} for one")
        return files
    files = sorted(file for file in present if file.endswith(".safetensors") and "/" not in file)
    if not files:
        raise _Unusable("there are no weights: no file ends in .safetensors")
    return files


def _parameters(file: Path) -> int:
    """Elements of all tensors in a safetensors file: 8 bytes of length, then a JSON header, then data."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if not 2 <= length <= min(size - 8, _LARGEST_HEADER):
                raise _Unusable(f"{file.name} is cut short")
            header = json.loads(stream.read(length))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        if max((entry["data_offsets"][1] for entry in tensors), default=0) + 8 + length != size:
            raise _Unusable(f"{file.name} is cut short")
        return sum(math.prod(entry["shape"]) for entry in tensors)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error) as error:
        raise _Unusable(f"{file.name} is not a safetensors file") from error


def _cache_values(config: dict[str, Any]) -> int:
    """Keys and values of one token over all layers."""
    layers, heads = _number(config, "num_hidden_layers"), _number(config, "num_attention_heads")
    kv_heads = _number(config, "num_key_value_heads") or heads
    head_size = _number(config, "head_dim") or (_number(config, "hidden_size") // heads if heads else 0)
    return 2 * layers * kv_heads * head_size


def _number(config: dict[str, Any], *names: str) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0


def _time(files: Files, recorded: object) -> int:
    if isinstance(recorded, int) and recorded > 0:
        return recorded
    return max((mtime for _, _, mtime in files), default=0) // 1_000_000_000


def _digest(files: Files) -> str:
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()
