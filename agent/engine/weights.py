"""A checkpoint's tensors, read from safetensors files through memory maps: nothing is in memory until it is used."""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from agent.engine.base import Floats
from agent.engine.families import tensor_name
from agent.engine.gguf_file import GgufFile, find_gguf
from agent.engine.quantise import Format, Packed
from agent.engine.weights_experts import stack_experts
from agent.engine.weights_int4 import join_int4
from agent.engine.weights_tensor import FloatTensor, Tensor
from agent.errors import ModelError

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_TYPES: Mapping[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I32": np.int32}
_INCOMPLETE = "the download may be incomplete: pull the model again"


class Checkpoint:
    """Named tensors of a model's folder, safetensors or GGUF. Closed by dropping every reference to it."""

    def __init__(self, tensors: Mapping[str, Tensor], maps: Sequence[mmap.mmap], digest: str) -> None:
        self._tensors = tensors
        self._maps = maps
        self._digest = digest

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Map the files of a checkpoint. Raises ModelError where one is missing or broken."""
        gguf = find_gguf(folder)
        if gguf is not None:
            from agent.engine.gguf import map_gguf  # the package behind it is not for every start

            file = GgufFile.read(gguf)
            found, maps = map_gguf(file)
            return cls(stack_experts(found), maps, _digest(file.files))
        tensors: dict[str, Tensor] = {}
        maps = []
        files = _files(folder)
        for path in files:
            data, found = map_tensors(path)
            tensors |= {tensor_name(name): tensor for name, tensor in found.items()}
            maps.append(data)
        return cls(stack_experts(join_int4(tensors, _compression(folder))), maps, _digest(files))

    @property
    def digest(self) -> str:
        """Changes when a file does: of names, sizes and times of change, so that it costs no reading."""
        return self._digest

    @property
    def quantised(self) -> bool:
        """Whether its makers quantised it: any tensor has less than 16 bits a weight."""
        return any(tensor.quantised for tensor in self._tensors.values())

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    def native(self, name: str) -> Format | None:
        """The format in which a matrix can be taken as it is; None where it must be quantised or unpacked."""
        return self._tensor(name).native

    def tensor(self, name: str) -> Floats:
        """A whole tensor as float32; a view of the file where it is float32 there. Raises ModelError without it."""
        return self._tensor(name).whole()

    def rows(self, name: str, start: int, stop: int) -> Floats:
        """Some rows of a matrix as float32, always a copy."""
        return self._tensor(name).rows(start, stop)

    def pack(self, name: str, start: int, stop: int, packed: Packed) -> None:
        """Write some rows of a matrix, packed in its native format, into their place."""
        self._tensor(name).pack(start, stop, packed)

    def drop_pages(self) -> None:
        """Give mapped pages back when nothing more is to be read soon. They return when somebody reads them."""
        for data in self._maps:
            data.madvise(mmap.MADV_DONTNEED)

    def _tensor(self, name: str) -> Tensor:
        tensor = self._tensors.get(name)
        if tensor is None:
            raise ModelError(f"the checkpoint lacks {name}", hint=_INCOMPLETE)
        return tensor


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        status = path.stat()
        digest.update(f"{path.name}:{status.st_size}:{status.st_mtime_ns};".encode())
    return digest.hexdigest()


def _compression(folder: Path) -> Mapping[str, object] | None:
    """What config.json says of weights that are quantised already."""
    try:
        found = json.loads((folder / "config.json").read_text()).get("quantization_config")
    except (OSError, ValueError, AttributeError):
        return None  # whoever needs the configuration says what is wrong with it
    return found if isinstance(found, Mapping) else None


def _files(folder: Path) -> list[Path]:
    index = folder / _INDEX
    if not index.exists():
        if not (folder / _SINGLE).exists():
            raise ModelError(f"no {_SINGLE} and no {_INDEX} in {folder.name}", hint="safetensors and GGUF can be read")
        return [folder / _SINGLE]
    try:
        names = set(json.loads(index.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{_INDEX} cannot be read", hint=_INCOMPLETE) from error
    if not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise ModelError(f"{_INDEX} names files outside of its folder")
    return [folder / name for name in sorted(names)]


def map_tensors(path: Path) -> tuple[mmap.mmap, dict[str, Tensor]]:
    """The map of a safetensors file, and views of all tensors in it. Raises ModelError."""
    try:
        return _map_file(path)
    except FileNotFoundError:
        raise ModelError(f"{path.name} is missing", hint=_INCOMPLETE) from None
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path.name} cannot be read: {error}", hint=_INCOMPLETE) from error


def _map_file(path: Path) -> tuple[mmap.mmap, dict[str, Tensor]]:
    with safe_open(path, framework="np"):
        pass  # the library has now checked the header: offsets lie in the file, one after the other, and fit the shapes
    with path.open("rb") as file:
        # A private map: it counts as writable, which the runtimes ask of arrays they share, and is never written.
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    tensors: dict[str, Tensor] = {}
    for name, entry in header.items():
        kind, shape = entry["dtype"], tuple(entry["shape"])
        if kind in ("I64", "BOOL"):
            continue  # a buffer that was saved along, BERT's position_ids for one: no weight
        if kind not in _TYPES:
            raise ModelError(
                f"{name} is of type {kind}", hint="the engine reads BF16, F16 and F32 and compresses them by itself"
            )
        raw = np.frombuffer(data, _TYPES[kind], int(np.prod(shape)), start + entry["data_offsets"][0])
        tensors[name] = FloatTensor(raw.reshape(shape))
    return data, tensors
