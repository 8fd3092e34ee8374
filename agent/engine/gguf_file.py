"""What a GGUF file says of itself, read from its header without a single weight. Pure, and quick to import.

The format is gguf.md of ggml-org/ggml: magic and version, counts, key-value pairs, tensor descriptions, then the data.
The reader of the ``gguf`` package trusts every count in the file and needs seconds for a vocabulary; this one checks
each against the bytes that are there, since the file may come from anywhere.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import ModelError

Scalar = int | float | bool | str

# ggml's type ids: name, weights in a block, bytes of a block.
TENSOR_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}
UNQUANTISED = frozenset({"F32", "F16", "BF16"})

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS: Mapping[int, str] = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
# Far above what any model has, and low enough that no count makes us wait.
_MOST_ENTRIES, _MOST_TENSORS, _MOST_ELEMENTS, _LONGEST_KEY, _LONGEST_TEXT = 1 << 14, 1 << 17, 1 << 22, 1 << 16, 1 << 24
_MOST_DIMENSIONS = 4
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_BROKEN = "the download may be incomplete: pull the model again"


@dataclass(frozen=True, slots=True)
class GgufArray:
    """A list in the metadata, decoded when it is asked for: vocabularies are long, and most readers skip them."""

    kind: int
    count: int
    data: mmap.mmap = field(repr=False, compare=False)
    offset: int

    def values(self) -> list[Scalar]:
        if self.kind != _STRING:
            return list(struct.unpack_from(f"<{self.count}{_SCALARS[self.kind]}", self.data, self.offset))
        texts: list[Scalar] = []
        at = self.offset
        for _ in range(self.count):
            end = at + 8 + int.from_bytes(self.data[at : at + 8], "little")
            texts.append(self.data[at + 8 : end].decode("utf-8", "replace"))
            at = end
        return texts


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies. ``shape`` is outermost first, as numpy has it; ``offset`` counts from the file's start."""

    file: Path
    type: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True)
class GgufFile:
    """The header of a model: one file, or the parts that it was split into, as one."""

    files: tuple[Path, ...]
    metadata: Mapping[str, Scalar | GgufArray]
    tensors: Mapping[str, StoredTensor]

    @classmethod
    def read(cls, path: Path) -> GgufFile:
        """Read the headers of ``path`` and, for a first part, of the others. Raises ModelError."""
        files = _parts(path)
        whole = [_Header(file) for file in files]
        tensors: dict[str, StoredTensor] = {}
        for header in whole:
            if not tensors.keys().isdisjoint(header.tensors):
                raise ModelError(f"{header.path.name} holds tensors of another part, too", hint=_BROKEN)
            tensors |= header.tensors
        return cls(tuple(files), whole[0].metadata, tensors)

    @property
    def architecture(self) -> str:
        """As llama.cpp names it, e.g. ``llama`` or ``qwen2``."""
        return self.text("general.architecture")

    @property
    def parameters(self) -> int:
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())

    @property
    def quantised(self) -> bool:
        """Whether any tensor has less than 16 bits a weight."""
        return any(tensor.type not in UNQUANTISED for tensor in self.tensors.values())

    def text(self, key: str, default: str | None = None) -> str:
        """A text of the metadata. Raises ModelError where it is missing without a default, or no text."""
        value = self._value(key, default)
        if not isinstance(value, str):
            raise ModelError(f"{key} in {self.files[0].name} is no text")
        return value

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number, as ``text``."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ModelError(f"{key} in {self.files[0].name} is no whole number")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number, as ``text``."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ModelError(f"{key} in {self.files[0].name} is no number")
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """True or false, as ``text``."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise ModelError(f"{key} in {self.files[0].name} is neither true nor false")
        return value

    def values(self, key: str) -> Sequence[Scalar]:
        """A list; an empty one where there is none. A scalar stands for a list of one, as llama.cpp has it."""
        value = self.metadata.get(key)
        if value is None:
            return ()
        return value.values() if isinstance(value, GgufArray) else (value,)

    def floats(self, name: str) -> list[float] | None:
        """A short float32 tensor, such as the factors of a rotary embedding; None where there is none."""
        tensor = self.tensors.get(name)
        if tensor is None:
            return None
        if tensor.type != "F32" or tensor.size > _LONGEST_KEY:
            raise ModelError(f"{name} in {tensor.file.name} is no short list of float32")
        with tensor.file.open("rb") as file:
            file.seek(tensor.offset)
            data = file.read(tensor.size)
        if len(data) != tensor.size:
            raise ModelError(f"{tensor.file.name} is cut short", hint=_BROKEN)
        return list(struct.unpack(f"<{tensor.size // 4}f", data))

    def _value(self, key: str, default: Scalar | None) -> Scalar | GgufArray:
        value = self.metadata.get(key, default)
        if value is None:
            raise ModelError(f"{self.files[0].name} lacks {key}")
        return value


def find_gguf(folder: Path) -> Path | None:
    """The GGUF file of a model's folder, the first part where it was split; None where there is none.

    None as well beside safetensors, which are the original. Raises ModelError where several models lie in one folder.
    """
    if any(folder.glob("*.safetensors")):
        return None
    found = sorted(path for path in folder.glob("*.gguf") if path.is_file())
    firsts = [path for path in found if (match := _PART.fullmatch(path.name)) is None or int(match[2]) == 1]
    # A projector for images (llama.cpp's mmproj) is no model by itself.
    models = [path for path in firsts if not path.name.startswith("mmproj")] or found[:1]
    if len(models) > 1:
        raise ModelError(
            f"{folder.name} holds several models: {models[0].name}, {models[1].name}",
            hint="give each GGUF file a folder of its own",
        )
    return models[0] if models else None


def _parts(path: Path) -> list[Path]:
    match = _PART.fullmatch(path.name)
    if match is None:
        return [path]
    parts = [path.with_name(f"{match[1]}-{number:05}-of-{match[3]}.gguf") for number in range(1, int(match[3]) + 1)]
    missing = next((part for part in parts if not part.is_file()), None)
    if missing is not None:
        raise ModelError(f"{missing.name} is missing", hint=_BROKEN)
    return parts


class _Header:
    """A pass over one file's header. Every length is checked before it is used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # an empty file cannot be mapped
            raise ModelError(f"{path.name} cannot be read: {error}", hint=_BROKEN) from error
        self._at = 0
        if self._data[:4] != _MAGIC:
            raise ModelError(f"{path.name} is no GGUF file", hint=_BROKEN)
        self._at = 4
        version = self._scalar("I")
        if version not in _VERSIONS:
            swapped = int.from_bytes(int(version).to_bytes(4, "little"), "big") in _VERSIONS
            kind = "of a big-endian machine" if swapped else f"of version {version}"
            raise ModelError(f"{path.name} is a GGUF file {kind}", hint="versions 2 and 3, little-endian, are read")
        tensors, entries = int(self._scalar("Q")), int(self._scalar("Q"))
        if tensors > _MOST_TENSORS or entries > _MOST_ENTRIES:
            raise self._broken(f"it claims {tensors} tensors and {entries} keys")
        self.metadata: dict[str, Scalar | GgufArray] = {}
        for _ in range(entries):
            key = self._text(_LONGEST_KEY)
            if key in self.metadata:
                raise self._broken(f"{key} stands there twice")
            self.metadata[key] = self._value(int(self._scalar("I")))
        described = [self._tensor() for _ in range(tensors)]
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise self._broken("its alignment is no power of two")
        start = -(-self._at // alignment) * alignment
        self.tensors: dict[str, StoredTensor] = {}
        for name, tensor_kind, shape, offset in described:
            self.tensors[name] = self._place(name, tensor_kind, shape, offset, start, alignment)
        if len(self.tensors) < tensors:
            raise self._broken("two tensors have one name")

    def _tensor(self) -> tuple[str, int, tuple[int, ...], int]:
        name = self._text(_LONGEST_KEY)
        dimensions = int(self._scalar("I"))
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise self._broken(f"{name} has {dimensions} dimensions")
        shape = tuple(int(self._scalar("Q")) for _ in range(dimensions))
        return name, int(self._scalar("I")), shape[::-1], int(self._scalar("Q"))

    def _place(
        self, name: str, kind: int, shape: tuple[int, ...], offset: int, start: int, alignment: int
    ) -> StoredTensor:
        if kind not in TENSOR_TYPES:
            known = ", ".join(known for known, _, _ in TENSOR_TYPES.values())
            raise ModelError(f"{name} in {self.path.name} is of the unknown type {kind}", hint=f"known: {known}")
        type, weights, block = TENSOR_TYPES[kind]
        if min(shape) < 1 or shape[-1] % weights:
            raise self._broken(f"{name} is {list(shape)}, which {type} cannot hold")
        size = math.prod(shape) // weights * block
        if offset % alignment or start + offset + size > len(self._data):
            raise self._broken(f"{name} lies beyond its end")
        return StoredTensor(self.path, type, shape, start + offset, size)

    def _value(self, kind: int) -> Scalar | GgufArray:
        if kind == _STRING:
            return self._text(_LONGEST_TEXT)
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise self._broken(f"a value is of the unknown type {kind}")
        return self._scalar(_SCALARS[kind])

    def _array(self) -> GgufArray:
        kind, count = int(self._scalar("I")), int(self._scalar("Q"))
        if kind != _STRING and kind not in _SCALARS:  # lists of lists, too: nobody writes them
            raise self._broken(f"a list is of the unknown type {kind}")
        if count > _MOST_ELEMENTS:
            raise self._broken(f"a list claims {count} elements")
        array = GgufArray(kind, count, self._data, self._at)
        if kind != _STRING:
            self._skip(count * struct.calcsize(f"<{_SCALARS[kind]}"))
            return array
        data, at = self._data, self._at
        for _ in range(count):
            at += 8 + int.from_bytes(data[at : at + 8], "little")
            if at > len(data):
                raise self._broken("it is cut short")
        self._at = at
        return array

    def _scalar(self, form: str) -> Scalar:
        at = self._at
        self._skip(struct.calcsize(f"<{form}"))
        value: Scalar = struct.unpack_from(f"<{form}", self._data, at)[0]
        return value

    def _text(self, longest: int) -> str:
        length = int(self._scalar("Q"))
        if length > longest:
            raise self._broken(f"a text claims {length} bytes")
        at = self._at
        self._skip(length)
        return self._data[at : at + length].decode("utf-8", "replace")

    def _skip(self, count: int) -> None:
        if self._at + count > len(self._data):
            raise self._broken("it is cut short")
        self._at += count

    def _broken(self, reason: str) -> ModelError:
        return ModelError(f"{self.path.name} is broken: {reason}", hint=_BROKEN)
