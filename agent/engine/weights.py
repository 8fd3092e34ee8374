"""A checkpoint's tensors, read from safetensors files through memory maps: nothing is in memory until it is used."""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from agent.engine.base import Floats
from agent.errors import ModelError

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_TYPES: Mapping[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}  # numpy has no bf16
_INCOMPLETE = "the download may be incomplete: pull the model again"


@dataclass(frozen=True, slots=True)
class _Tensor:
    """Where a tensor's bytes are: a typed view of the file's map."""

    type: str
    raw: NDArray[Any]


class Checkpoint:
    """Named tensors of a model's folder, one safetensors file or several. Closed by dropping every reference to it."""

    def __init__(self, tensors: Mapping[str, _Tensor], maps: Sequence[mmap.mmap], digest: str) -> None:
        self._tensors = tensors
        self._maps = maps
        self._digest = digest

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Map the files of a checkpoint. Raises ModelError where one is missing or broken."""
        tensors: dict[str, _Tensor] = {}
        maps: list[mmap.mmap] = []
        digest = hashlib.blake2b(digest_size=16)
        for path in _files(folder):
            try:
                status = path.stat()
                data, found = _map_file(path)
            except FileNotFoundError:
                raise ModelError(f"{path.name} is missing", hint=_INCOMPLETE) from None
            except (OSError, SafetensorError) as error:
                raise ModelError(f"{path.name} cannot be read: {error}", hint=_INCOMPLETE) from error
            tensors |= found
            maps.append(data)
            digest.update(f"{path.name}:{status.st_size}:{status.st_mtime_ns};".encode())
        return cls(tensors, maps, digest.hexdigest())

    @property
    def digest(self) -> str:
        """Changes when a file does: of names, sizes and times of change, so that it costs no reading."""
        return self._digest

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tensor.raw.shape for name, tensor in self._tensors.items()}

    def tensor(self, name: str) -> Floats:
        """A whole tensor as float32; a view of the file where it is float32 there. Raises ModelError without it."""
        tensor = self._tensor(name)
        return tensor.raw if tensor.type == "F32" else _to_float32(tensor.type, tensor.raw)

    def rows(self, name: str, start: int, stop: int) -> Floats:
        """Some rows of a matrix as float32, always a copy."""
        tensor = self._tensor(name)
        return _to_float32(tensor.type, tensor.raw[start:stop])

    def drop_pages(self) -> None:
        """Give mapped pages back when nothing more is to be read soon. They return when somebody reads them."""
        for data in self._maps:
            data.madvise(mmap.MADV_DONTNEED)

    def _tensor(self, name: str) -> _Tensor:
        tensor = self._tensors.get(name)
        if tensor is None:
            raise ModelError(f"the checkpoint lacks {name}", hint=_INCOMPLETE)
        return tensor


def _to_float32(kind: str, raw: NDArray[Any]) -> Floats:
    if kind != "BF16":
        return raw.astype(np.float32)
    wide = raw.astype(np.uint32)
    wide <<= 16  # bfloat16 is the upper half of a float32
    return wide.view(np.float32)


def _files(folder: Path) -> list[Path]:
    index = folder / _INDEX
    if not index.exists():
        if not (folder / _SINGLE).exists():
            raise ModelError(f"no {_SINGLE} and no {_INDEX} in {folder.name}", hint="only safetensors can be read")
        return [folder / _SINGLE]
    try:
        names = set(json.loads(index.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{_INDEX} cannot be read", hint=_INCOMPLETE) from error
    if not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise ModelError(f"{_INDEX} names files outside of its folder")
    return [folder / name for name in sorted(names)]


def _map_file(path: Path) -> tuple[mmap.mmap, dict[str, _Tensor]]:
    """A file's map, and views of all tensors in it."""
    with safe_open(path, framework="np"):
        pass  # the library has now checked the header: offsets lie in the file, one after the other, and fit the shapes
    with path.open("rb") as file:
        # A private map: it counts as writable, which the runtimes ask of arrays they share, and is never written.
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    tensors: dict[str, _Tensor] = {}
    for name, entry in header.items():
        kind, shape = entry["dtype"], tuple(entry["shape"])
        if kind == "I64":
            continue  # a buffer that was saved along, BERT's position_ids for one: no weight
        if kind not in _TYPES:
            raise ModelError(
                f"{name} is of type {kind}", hint="the engine reads BF16, F16 and F32 and compresses them by itself"
            )
        raw = np.frombuffer(data, _TYPES[kind], int(np.prod(shape)), start + entry["data_offsets"][0])
        tensors[name] = _Tensor(kind, raw.reshape(shape))
    return data, tensors
