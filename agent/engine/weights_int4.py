"""Int4 weights that others quantised, GPTQ and AWQ, taken as they are: only their bits move.

Both keep a matrix transposed, eight weights in an int32, with scales and zero points for each group of inputs:
weight = (code - zero) * scale. GPTQ (Frantar et al. 2022, arXiv:2210.17323; the layout is AutoGPTQ's) packs inputs and
stores zero - 1, or zero itself in its second version; AWQ (Lin et al. 2023, arXiv:2306.00978; the "gemm" layout of
AutoAWQ) packs outputs, in the order 0 2 4 6 1 3 5 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.engine.base import Floats
from agent.engine.quantise import Format, Packed, pair_nibbles
from agent.engine.weights_tensor import FloatTensor, Tensor
from agent.errors import ModelError

_SHIFTS = np.arange(0, 32, 4, dtype=np.uint32)
_AWQ_PLACES = np.array([0, 4, 1, 5, 2, 6, 3, 7])  # where in an int32 the outputs 0 to 7 are
_GROUPS = (128, 64, 32)  # what both runtimes multiply with; larger ones are cut
_KNOWN = "known: GPTQ and AWQ of 4 bits"


@dataclass(frozen=True, slots=True)
class _Kind:
    """What quantization_config says. ``added``: to a stored zero point; ``group``: inputs of one, 0: all."""

    awq: bool
    added: int
    group: int


@dataclass(frozen=True)
class Int4Tensor:
    """A matrix of 4-bit codes, [outputs, inputs]; ``groups`` is the group of each input."""

    shape: tuple[int, ...]
    kind: _Kind
    codes: NDArray[np.uint32]  # GPTQ [inputs / 8, outputs], AWQ [inputs, outputs / 8]
    zeros: NDArray[np.uint8]  # [groups, outputs]
    scales: NDArray[np.float16]  # [groups, outputs]
    groups: NDArray[np.intp]
    native: Format | None

    @property
    def quantised(self) -> bool:
        return True

    def whole(self) -> Floats:
        return self.rows(0, self.shape[0])

    def rows(self, start: int, stop: int) -> Floats:
        codes = self._unpacked(start, stop).astype(np.float32)
        codes -= self.zeros[:, start:stop].T[:, self.groups]
        codes *= self.scales[:, start:stop].T.astype(np.float32)[:, self.groups]
        return codes

    def pack(self, start: int, stop: int, packed: Packed) -> None:
        block = slice(start, stop)
        codes = self._unpacked(start, stop)
        # Without zero points values count from -8 where codes count from 0: the highest bit turned over.
        packed.values[block] = pair_nibbles(codes if packed.format.zeros else codes ^ np.uint8(8))
        times = packed.scales.shape[1] // len(self.scales)  # large groups are cut
        packed.scales[block] = np.repeat(self.scales[:, block].T, times, axis=1)
        if packed.zeros is not None:
            packed.zeros[block] = np.repeat(self.zeros[:, block].T, times, axis=1)

    def _unpacked(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Codes of some outputs, [outputs, inputs]."""
        stop = min(stop, self.shape[0])
        if not self.kind.awq:
            nibbles = (self.codes[:, start:stop].T[:, :, None] >> _SHIFTS) & 0xF
            return nibbles.astype(np.uint8).reshape(stop - start, -1)
        first = start // 8
        nibbles = (self.codes[:, first : -(-stop // 8), None] >> _SHIFTS[_AWQ_PLACES]) & 0xF
        outputs = nibbles.astype(np.uint8).reshape(len(self.codes), -1)
        return np.ascontiguousarray(outputs[:, start - first * 8 : stop - first * 8].T)


def join_int4(tensors: Mapping[str, Tensor], compression: Mapping[str, object] | None) -> dict[str, Tensor]:
    """The tensors of a checkpoint with each qweight, qzeros, scales and g_idx as one matrix by its plain name.

    ``compression`` is quantization_config of config.json. Raises ModelError where it is of an unknown kind.
    """
    if compression is None:
        return dict(tensors)
    kind = _kind(compression)
    joined = dict(tensors)
    for name in tensors:
        if name.endswith(".qweight"):
            prefix = name.removesuffix("qweight")
            parts = {part: joined.pop(prefix + part, None) for part in ("qweight", "qzeros", "scales", "g_idx")}
            joined[f"{prefix}weight"] = _join(prefix, parts, kind)
    return joined


def _kind(compression: Mapping[str, object]) -> _Kind:
    method, bits = compression.get("quant_method"), compression.get("bits", compression.get("w_bit"))
    if method not in ("gptq", "awq") or bits != 4:
        raise ModelError(
            f"this checkpoint is compressed in a way the engine cannot read: {method}, {bits} bits",
            hint=f"{_KNOWN}; else the original in bfloat16, float16 or float32, which the engine compresses itself",
        )
    group = compression.get("group_size", compression.get("q_group_size"))
    if isinstance(group, bool) or not isinstance(group, int) or group == 0:
        raise ModelError(f"group_size in config.json must be a whole number, not {group!r}")
    group = max(0, group)  # -1: all inputs are one group
    version = str(compression.get("version", "gemm")).lower()
    if method == "awq":
        if version != "gemm":
            raise ModelError(f"this AWQ checkpoint is of the layout {version!r}", hint="known: gemm")
        return _Kind(awq=True, added=0, group=group)
    return _Kind(awq=False, added=0 if compression.get("checkpoint_format") == "gptq_v2" else 1, group=group)


def _join(prefix: str, parts: Mapping[str, Tensor | None], kind: _Kind) -> Int4Tensor:
    codes, zeros = (_integers(prefix, part, parts[part]) for part in ("qweight", "qzeros"))
    scales = parts["scales"]
    if not isinstance(scales, FloatTensor) or scales.raw.dtype == np.int32 or scales.raw.ndim != 2:
        raise ModelError(f"{prefix}scales is missing or no matrix of floats")
    exact = scales.whole()
    halves = exact.astype(np.float16)
    inputs, outputs = (codes.shape[0], codes.shape[1] * 8) if kind.awq else (codes.shape[0] * 8, codes.shape[1])
    group = kind.group or inputs
    count = -(-inputs // group)
    if exact.shape != (count, outputs) or zeros.shape != (count, -(-outputs // 8)):
        raise ModelError(f"{prefix}qweight, qzeros and scales do not fit each other")
    places = _AWQ_PLACES if kind.awq else np.arange(8)
    plain = ((zeros[:, :, None] >> _SHIFTS[places]) & 0xF).reshape(count, -1)[:, :outputs]
    unpacked = ((plain + np.uint32(kind.added)) & 0xF).astype(np.uint8)  # a stored 15 is 0 - 1: it wraps around
    even = np.arange(inputs) // group
    order = parts["g_idx"]
    groups = even
    if isinstance(order, FloatTensor) and order.raw.dtype == np.int32 and order.raw.shape == (inputs,):
        groups = order.raw.astype(np.intp)
        if groups.min() < 0 or groups.max() >= count:
            raise ModelError(f"{prefix}g_idx names groups that are not there")
    native = None
    # Weights that were put into groups by their importance (desc_act) have no place in groups of neighbours.
    if np.array_equal(groups, even) and np.array_equal(halves, exact) and inputs % group == 0:
        size = next((size for size in _GROUPS if group % size == 0), None)
        if size is not None:
            native = Format(4, size, zeros=bool((unpacked != 8).any()))
    return Int4Tensor((outputs, inputs), kind, codes, unpacked, halves, groups, native)


def _integers(prefix: str, part: str, tensor: Tensor | None) -> NDArray[Any]:
    if not isinstance(tensor, FloatTensor) or tensor.raw.dtype != np.int32 or tensor.raw.ndim != 2:
        raise ModelError(f"{prefix}{part} is missing or no matrix of int32", hint=_KNOWN)
    return tensor.raw.view(np.uint32)
