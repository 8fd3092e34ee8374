"""The experts of a layer as one matrix, however a checkpoint keeps them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from agent.engine.base import Floats
from agent.engine.quantise import Format, Packed
from agent.engine.weights_tensor import Tensor
from agent.errors import ModelError

_EXPERT = re.compile(r"(?P<before>.+\.experts)\.(?P<index>[0-9]{1,5})\.(?P<after>.+)")


class StackedTensor:
    """Matrices of like shape, one below the other."""

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self._parts = parts
        self._rows = parts[0].shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        return (self._rows * len(self._parts), *self._parts[0].shape[1:])

    @property
    def quantised(self) -> bool:
        return any(part.quantised for part in self._parts)

    @property
    def native(self) -> Format | None:
        formats = {part.native for part in self._parts}
        return formats.pop() if len(formats) == 1 else None

    def whole(self) -> Floats:
        return np.concatenate([part.whole() for part in self._parts])

    def rows(self, start: int, stop: int) -> Floats:
        found = [part.rows(first, last) for part, first, last, _ in self._within(start, stop)]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def pack(self, start: int, stop: int, packed: Packed) -> None:
        for part, first, last, begin in self._within(start, stop):
            own = slice(begin, begin + self._rows)
            zeros = None if packed.zeros is None else packed.zeros[own]
            part.pack(
                first,
                last,
                replace(
                    packed,
                    shape=(self._rows, packed.shape[1]),
                    values=packed.values[own],
                    scales=packed.scales[own],
                    zeros=zeros,
                ),
            )

    def _within(self, start: int, stop: int) -> Iterator[tuple[Tensor, int, int, int]]:
        """The parts that have these rows: each with its own first and last, and where it begins."""
        stop = min(stop, self.shape[0])
        for index in range(start // self._rows, -(-stop // self._rows)):
            begin = index * self._rows
            yield self._parts[index], max(start - begin, 0), min(stop - begin, self._rows), begin


def stack_experts(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, with those of numbered experts joined. Raises ModelError where one of them is missing."""
    joined: dict[str, Tensor] = {}
    experts: dict[str, dict[int, Tensor]] = {}
    for name, tensor in tensors.items():
        found = _EXPERT.fullmatch(name)
        if found is None:
            joined[name] = tensor
        else:
            experts.setdefault(f"{found['before']}.{found['after']}", {})[int(found["index"])] = tensor
    for name, parts in experts.items():
        if set(parts) != set(range(len(parts))) or len({part.shape for part in parts.values()}) > 1:
            raise ModelError(
                f"the experts of {name} are not all there, or not alike",
                hint="the download may be incomplete: pull the model again",
            )
        joined[name] = StackedTensor([parts[index] for index in range(len(parts))])
    return joined
