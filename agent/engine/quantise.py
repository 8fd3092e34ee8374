"""Weights in few bits: int8 with a scale for each output, int4 with a scale for each group of inputs. Pure.

All symmetric, so a weight is value * scale. One layout serves every form of the engine:

* int8: values int8 [outputs, inputs], scales float16 [outputs, 1].
* int4: values uint8 [outputs, inputs / 2]: two's-complement nibbles, the even input in the low half, rows contiguous;
  scales float16 [outputs, inputs / group]. OpenVINO takes it as i4 [outputs, groups, group]; ONNX Runtime's
  MatMulNBits counts from zero point 8, which is each nibble ^ 8 (each byte ^ 0x88), [outputs, groups, group / 2].
  Weights that others quantised may have a zero point for each group besides, uint8 where the scales are float16. Their
  nibbles are codes of 0 to 15, and the weight is (code - zero) * scale.

In int4 formats the embedding and the head stay int8, as NNCF does: every token passes through them, the head's
error goes straight to the logits, and they are a small part of what a decode step reads in all but tiny models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agent.engine.base import Floats
from agent.engine.decoder import EMBEDDING, HEAD
from agent.engine.experts import ROUTERS

# "stored": as the makers of a quantised checkpoint have it, int4 as it is and all other matrices int8.
Quantisation = Literal["float", "int8", "int4", "int4-g32", "stored"]

_SHORT = 256  # numbers in a row that is better halved
_SMALLEST_SCALE = 2.0**-24  # float16's smallest number above zero: all-zero groups get it, and their values are zero


@dataclass(frozen=True, slots=True)
class Format:
    """How one matrix is stored; ``group`` inputs share a scale and, where there are ``zeros``, a zero point."""

    bits: Literal[4, 8]
    group: int
    zeros: bool = False


@dataclass(frozen=True, slots=True)
class Packed:
    """One weight matrix, [outputs, inputs], in the layout above."""

    shape: tuple[int, int]
    format: Format
    values: NDArray[Any]  # int8 [outputs, inputs] or uint8 [outputs, inputs / 2]
    scales: NDArray[np.float16]  # [outputs, inputs / group]
    zeros: NDArray[np.uint8] | None = None  # [outputs, inputs / group], 0 to 15


def choose_format(
    quantisation: Quantisation, name: str, shape: tuple[int, int], native: Format | None = None
) -> Format | None:
    """The format of a matrix, None for float. Inputs that make no whole groups fall back to 32, then to int8.

    Routers of experts stay float: they are small, and what they choose between is often close.
    ``native``: the int4 that its makers gave it. It is never quantised a second time to any other int4.
    """
    if quantisation == "float" or name.endswith(ROUTERS):
        return None
    inputs = shape[1]
    whole = Format(8, inputs)
    if quantisation == "int8" or name in (EMBEDDING, HEAD):
        return whole
    if native is not None or quantisation == "stored":
        return native or whole
    groups = (128, 32) if quantisation == "int4" else (32,)
    return next((Format(4, group) for group in groups if inputs % group == 0), whole)


def value_layout(format: Format, shape: tuple[int, int]) -> tuple[type[np.int8] | type[np.uint8], tuple[int, int]]:
    """Type and shape of a packed matrix's values."""
    outputs, inputs = shape
    return (np.int8, (outputs, inputs)) if format.bits == 8 else (np.uint8, (outputs, inputs // 2))


def quantise(rows: Floats, format: Format, values: NDArray[Any], scales: NDArray[np.float16]) -> None:
    """Pack some rows of a matrix, [rows, inputs], into their places in ``values`` and ``scales``. Overwrites ``rows``.

    The scale is rounded to float16 first and the values are fitted to the rounded one. Int4 reaches from -8 to 7: the
    scale takes the sign that puts the largest weight of the group at -8, as llama.cpp's Q4_0 does. Weights that are not
    finite give scales that are not.
    """
    groups = rows.reshape(-1, format.group)
    high, low = _extremes(np.maximum, groups), _extremes(np.minimum, groups)
    exact = np.maximum(high, -low) / 127 if format.bits == 8 else np.where(high > -low, high, low) / -8
    exact = np.where(np.abs(exact) < _SMALLEST_SCALE, _SMALLEST_SCALE, exact)
    with np.errstate(over="ignore", invalid="ignore"):
        scales[...] = exact.reshape(scales.shape)
        # In place: new arrays of this size would cost more in page faults than the arithmetic.
        groups *= (1 / scales.reshape(-1).astype(np.float32))[:, None]
        np.rint(groups, out=groups)
        if format.bits == 8:
            np.clip(rows, -127, 127, out=rows)
            values[...] = rows
            return
        np.clip(rows, -8, 7, out=rows)
        pairs = rows.astype(np.int8).view("<u2")  # the even input is the low byte
    np.bitwise_or(pairs & 0x0F, (pairs >> 4) & 0xF0, out=values, casting="unsafe")


def _extremes(function: np.ufunc, groups: Floats) -> Floats:
    """The largest or smallest of each row. Halves against halves: numpy is slow at many short rows."""
    width = groups.shape[1]
    while 16 < width <= _SHORT and width % 2 == 0:
        width //= 2
        groups = function(groups[:, :width], groups[:, width:])
    if width > _SHORT:
        return np.asarray(function.reduce(groups, axis=1), np.float32)
    return np.asarray(function.reduce(np.ascontiguousarray(groups.T)), np.float32)


def pair_nibbles(nibbles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Values of int4, one a byte and no bit above the fourth, as two a byte."""
    return nibbles[:, 0::2] | (nibbles[:, 1::2] << np.uint8(4))
