"""One tensor of a checkpoint, whatever its file keeps it as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agent.engine.base import Floats
from agent.engine.quantise import Format, Packed


class Tensor(Protocol):
    """Bytes in a mapped file that stand for numbers. Read by many threads at once."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def quantised(self) -> bool:
        """Whether it has less than 16 bits a weight."""
        ...

    @property
    def native(self) -> Format | None:
        """The format in which ``pack`` gives it without any loss; None where there is none."""
        ...

    def whole(self) -> Floats:
        """All of it, float32: a view of the file where it is float32 there."""
        ...

    def rows(self, start: int, stop: int) -> Floats:
        """Some rows of a matrix as float32, always a copy."""
        ...

    def pack(self, start: int, stop: int, packed: Packed) -> None:
        """Write these rows into their place in ``packed``, which is of the format ``native``."""
        ...


@dataclass(frozen=True, slots=True)
class FloatTensor:
    """A tensor of float32, float16 or bfloat16, which numpy has only as uint16."""

    raw: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.raw.shape

    @property
    def quantised(self) -> bool:
        return False

    @property
    def native(self) -> Format | None:
        return None

    def whole(self) -> Floats:
        return self.raw if self.raw.dtype == np.float32 else to_float32(self.raw)

    def rows(self, start: int, stop: int) -> Floats:
        return to_float32(self.raw[start:stop])

    def pack(self, start: int, stop: int, packed: Packed) -> None:
        raise NotImplementedError("a tensor of floats has no packed form of its own")


def to_float32(raw: NDArray[Any]) -> Floats:
    """A copy as float32; uint16 stands for bfloat16."""
    if raw.dtype != np.uint16:
        return raw.astype(np.float32)
    wide = raw.astype(np.uint32)
    wide <<= 16  # bfloat16 is the upper half of a float32
    return wide.view(np.float32)
