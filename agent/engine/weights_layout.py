"""Where the packed matrices of a stage lie in one safetensors file: known before a single weight is read. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.engine.decoder import DecoderSpec
from agent.engine.quantise import Format, Packed, Quantisation, choose_format, value_layout
from agent.engine.weights import Checkpoint

_VERSION = 1  # count up when the layout or the rounding changes: older files are then built anew
_ALIGN = 64
_NAMES: Mapping[type[np.generic], str] = {np.int8: "I8", np.uint8: "U8", np.float16: "F16", np.uint32: "U32"}


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor of the file; ``offset`` counts from the file's start."""

    name: str
    type: type[np.generic]
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        return math.prod(self.shape) * np.dtype(self.type).itemsize

    def view(self, data: Any) -> NDArray[Any]:  # noqa: ANN401  any writable buffer
        """The part of a map of the file, as an array."""
        return np.frombuffer(data, self.type, math.prod(self.shape), self.offset).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Layout:
    """``parts`` are the values, scales and zeros of each matrix in turn; ``checksums`` has the CRC-32 of each part."""

    formats: Mapping[str, tuple[Format, tuple[int, int]]]
    header: bytes
    parts: tuple[Part, ...]
    checksums: Part
    size: int

    def packed(self, data: Any) -> dict[str, Packed]:  # noqa: ANN401  any writable buffer
        """Views of all matrices in a map of the file."""
        views = {part.name: part.view(data) for part in self.parts}
        return {
            name: Packed(shape, format, views[name], views[_scales(name)], views.get(_zeros(name)))
            for name, (format, shape) in self.formats.items()
        }


def lay_out(spec: DecoderSpec, layers: range, quantisation: Quantisation, checkpoint: Checkpoint) -> Layout:
    """The file of a stage's matrices. Raises ModelError where the checkpoint lacks one."""
    formats: dict[str, tuple[Format, tuple[int, int]]] = {}
    wanted: list[tuple[str, type[np.generic], tuple[int, ...]]] = []
    for name, shape in spec.tensors(layers).items():
        if len(shape) != 2:
            continue
        matrix = (shape[0], shape[1])
        format = choose_format(quantisation, name, matrix, checkpoint.native(name))
        if format is None:
            continue
        formats[name] = (format, matrix)
        wanted.append((name, *value_layout(format, matrix)))
        wanted.append((_scales(name), np.float16, (matrix[0], matrix[1] // format.group)))
        if format.zeros:
            wanted.append((_zeros(name), np.uint8, (matrix[0], matrix[1] // format.group)))
    wanted.append(("checksums", np.uint32, (len(wanted),)))

    entries: dict[str, Any] = {"__metadata__": {"source": checkpoint.digest, "layout": str(_VERSION)}}
    parts: list[Part] = []
    end = 0
    for name, kind, shape in wanted:
        if end % _ALIGN:  # safetensors allows no gap, so a gap is a tensor, too
            gap = _ALIGN - end % _ALIGN
            entries[f"gap.{end}"] = {"dtype": "U8", "shape": [gap], "data_offsets": [end, end + gap]}
            end += gap
        part = Part(name, kind, shape, end)
        entries[name] = {"dtype": _NAMES[kind], "shape": list(shape), "data_offsets": [end, end + part.size]}
        parts.append(part)
        end += part.size
    text = json.dumps(entries).encode()
    text += b" " * (-(8 + len(text)) % _ALIGN)
    header = len(text).to_bytes(8, "little") + text
    placed = [Part(part.name, part.type, part.shape, part.offset + len(header)) for part in parts]
    return Layout(formats, header, tuple(placed[:-1]), placed[-1], len(header) + end)


def _scales(name: str) -> str:
    return f"{name}.scales"


def _zeros(name: str) -> str:
    return f"{name}.zeros"
