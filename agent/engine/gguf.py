"""Tensors of GGUF files through memory maps, unpacked some rows at a time by the ``gguf`` package."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from agent.engine.base import Floats
from agent.engine.gguf_families import family_of, name_of
from agent.engine.gguf_file import UNQUANTISED, GgufFile, StoredTensor
from agent.engine.quantise import Format, Packed, pair_nibbles
from agent.engine.weights_tensor import Tensor, to_float32
from agent.errors import ModelError

_FLOATS: Mapping[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
_Q4_0_GROUP, _Q4_0_BYTES = 32, 18  # a scale in float16, then 16 bytes: weights 0 to 15 low, 16 to 31 high


@dataclass(frozen=True)
class GgufTensor:
    """Rows of bytes, each a row of weights. ``order``: where each row of the original stands; ``added``: to them."""

    shape: tuple[int, ...]
    type: str
    raw: NDArray[Any]  # of floats in their own type, else uint8 [rows, bytes]
    order: NDArray[np.intp] | None
    added: float

    @property
    def quantised(self) -> bool:
        return self.type not in UNQUANTISED

    @property
    def native(self) -> Format | None:
        return Format(4, _Q4_0_GROUP) if self.type == "Q4_0" else None

    def whole(self) -> Floats:
        if self.type == "F32" and self.order is None and not self.added:
            return self.raw.reshape(self.shape)
        return self.rows(0, len(self.raw)).reshape(self.shape)

    def rows(self, start: int, stop: int) -> Floats:
        raw = self._raw(start, stop)
        if self.quantised:
            floats: Floats = dequantize(np.ascontiguousarray(raw), GGMLQuantizationType[self.type])
        else:
            floats = to_float32(raw)
        if self.added:
            floats += np.float32(self.added)
        return floats

    def pack(self, start: int, stop: int, packed: Packed) -> None:
        blocks = self._raw(start, stop).reshape(-1, packed.scales.shape[1], _Q4_0_BYTES)
        packed.scales[start:stop] = np.ascontiguousarray(blocks[..., :2]).view(np.float16)[..., 0]
        codes = np.concatenate([blocks[..., 2:] & 0xF, blocks[..., 2:] >> 4], axis=2)
        packed.values[start:stop] = pair_nibbles(codes.reshape(len(codes), -1) ^ np.uint8(8))  # they count from 8

    def _raw(self, start: int, stop: int) -> NDArray[Any]:
        return self.raw[start:stop] if self.order is None else self.raw[self.order[start:stop]]


def map_gguf(file: GgufFile) -> tuple[dict[str, Tensor], list[mmap.mmap]]:
    """All tensors by their Hugging Face names, and the maps they lie in. Raises ModelError for an unknown kind."""
    family, at = family_of(file), f"{file.architecture}.attention."
    heads = file.whole(f"{at}head_count")
    interleaved = {"attn_q": heads, "attn_k": file.whole(f"{at}head_count_kv", heads)} if family.interleaved else {}
    maps = {path: _map(path) for path in file.files}
    tensors: dict[str, Tensor] = {}
    for name, stored in file.tensors.items():
        known = name_of(family, name)
        if known is None:
            continue
        count = interleaved.get(name.split(".")[2]) if name.startswith("blk.") and name.count(".") > 2 else None
        order = None if count is None else _halves(name, stored.shape[0], count)
        added = -1.0 if family.norms_plus_one and name.endswith("norm.weight") else 0.0
        data = maps[stored.file]
        if len(stored.shape) == 3 and "{}" in known:  # experts, one matrix after the other
            raw = _raw(data, stored).reshape(stored.shape[0], stored.shape[1], -1)
            for expert, matrix in enumerate(raw):
                tensors[known.format(expert)] = GgufTensor(stored.shape[1:], stored.type, matrix, None, 0.0)
        else:
            tensors[known] = GgufTensor(stored.shape, stored.type, _raw(data, stored), order, added)
    return tensors, list(maps.values())


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            # A private map: it counts as writable, which the runtimes ask of arrays they share, and is never written.
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.name} cannot be read: {error}") from error


def _raw(data: mmap.mmap, stored: StoredTensor) -> NDArray[Any]:
    """Vectors as they are, matrices as rows of bytes."""
    if stored.offset + stored.size > len(data):
        raise ModelError(f"{stored.file.name} was cut short while it was read")
    bytes = np.frombuffer(data, np.uint8, stored.size, stored.offset)
    if len(stored.shape) > 1:
        bytes = bytes.reshape(stored.shape[0], -1)
    return bytes if stored.type not in _FLOATS else bytes.view(_FLOATS[stored.type])


def _halves(name: str, rows: int, heads: int) -> NDArray[np.intp]:
    """Where the rows of an original matrix stand in one whose heads llama.cpp put in pairs.

    Row i of a head's first half and row i of its second one are neighbours there, as its rotation takes them.
    """
    if heads < 1 or rows % (2 * heads):
        raise ModelError(f"{name} has {rows} rows, which are no pairs in {heads} heads")
    return np.arange(rows).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)
