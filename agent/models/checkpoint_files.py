"""What the two kinds of weight files say in their headers: names, types and shapes of tensors, without the weights."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.engine.gguf_families import config_of, family_of, name_of
from agent.engine.gguf_file import GgufFile, find_gguf
from agent.engine.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS, LoraSpec
from agent.errors import ModelError
from agent.models.checkpoint_sizes import Shape, Sizes, measure, unpacked

_LARGEST_HEADER = 100 * 1024 * 1024  # the safetensors format's own bound
_INDEX = "model.safetensors.index.json"
_PACKING = ("gptq", "awq")


class Unusable(Exception):
    """Why a folder is no model."""


@dataclass(frozen=True, slots=True)
class Contents:
    """A model's configuration, as config.json has it, and its weights."""

    format: str  # safetensors, gguf, peft
    config: Mapping[str, Any]
    quantisation: str  # of the files: BF16, F16, F32, gptq-int4, awq-int4, or a type of GGUF such as Q4_K
    sizes: Sizes
    lora: LoraSpec | None = None  # of an adapter


def holds_adapter(present: Iterable[str]) -> bool:
    """Whether a folder with these files is an adapter on top of another model, and no model."""
    weights = {file for file in present if file.endswith((".safetensors", ".gguf")) and "/" not in file}
    return ADAPTER_CONFIG in present and weights <= {ADAPTER_WEIGHTS}


def read_adapter(path: Path, present: set[str]) -> Contents:
    """Raises Unusable, also for an adapter of a kind that cannot be served."""
    config = read_object(path, ADAPTER_CONFIG, present)
    if ADAPTER_WEIGHTS not in present:
        raise Unusable(f"{ADAPTER_WEIGHTS} is missing: PEFT writes it with safe_serialization")
    tensors = _read_header(path / ADAPTER_WEIGHTS)
    try:
        lora = LoraSpec.read(config, {name: shape for name, _, shape in tensors})
    except ModelError as error:
        raise Unusable(f"{error.message}: {error.hint}") from error
    quantisation = _commonest((kind, shape) for _, kind, shape in tensors)
    return Contents("peft", config, quantisation, measure((name, shape) for name, _, shape in tensors), lora)


def read_contents(path: Path, present: set[str]) -> Contents:
    """``present``: the files of the folder, by their paths in it. Raises Unusable."""
    if any(file.endswith(".gguf") for file in present) and not any(file.endswith(".safetensors") for file in present):
        return _read_gguf(path)
    config = read_object(path, "config.json", present)
    if "tokenizer.json" not in present:
        raise Unusable("tokenizer.json is missing")
    tensors = [tensor for file in _weight_files(path, present) for tensor in _read_header(path / file)]
    method, bits = _packing(config)
    shapes = ((name, shape) for name, _, shape in tensors)
    if method:
        shapes = (known for name, _, shape in tensors if (known := unpacked(name, shape, method, bits)) is not None)
    tied = bool(config.get("tie_word_embeddings"))
    quantisation = f"{method}-int{bits}" if method else _commonest((kind, shape) for _, kind, shape in tensors)
    return Contents("safetensors", config, quantisation, measure(shapes, tied=tied))


def read_object(path: Path, file: str, present: set[str]) -> dict[str, Any]:
    """A JSON object in the folder. Raises Unusable."""
    if file not in present:
        raise Unusable(f"{file} is missing")
    try:
        value = json.loads((path / file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Unusable(f"{file} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise Unusable(f"{file} is not a JSON object")
    return value


def _read_gguf(path: Path) -> Contents:
    try:
        file = find_gguf(path)
        assert file is not None, "the folder has one"
        header = GgufFile.read(file)
        family = family_of(header)
        named = ((name_of(family, name) or name, tensor.shape) for name, tensor in header.tensors.items())
        quantisation = _commonest((tensor.type, tensor.shape) for tensor in header.tensors.values())
        return Contents("gguf", config_of(header), quantisation, measure(named))
    except ModelError as error:
        known = error.hint if error.hint and error.hint.startswith("known") else ""
        raise Unusable(f"{error.message}; {known}" if known else error.message) from error


def _weight_files(path: Path, present: set[str]) -> list[str]:
    """The safetensors files of the model: those its index names, else all beside config.json."""
    if _INDEX in present:
        named = read_object(path, _INDEX, present).get("weight_map")
        if not isinstance(named, dict) or not named:
            raise Unusable(f"{_INDEX} has no weight_map")
        files = sorted({str(file) for file in named.values()})
        missing = [file for file in files if file not in present]
        if missing:
            raise Unusable(f"{len(missing)} of {len(files)} weight files are missing, {missing[0]} for one")
        return files
    files = sorted(file for file in present if file.endswith(".safetensors") and "/" not in file)
    if not files:
        raise Unusable("there are no weights: no file ends in .safetensors or .gguf")
    return files


def _read_header(file: Path) -> list[tuple[str, str, Shape]]:
    """Name, type and shape of each tensor in a safetensors file: 8 bytes of length, then a JSON header, then data."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if not 2 <= length <= min(size - 8, _LARGEST_HEADER):
                raise Unusable(f"{file.name} is cut short")
            header = json.loads(stream.read(length))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        if max((entry["data_offsets"][1] for entry in tensors.values()), default=0) + 8 + length != size:
            raise Unusable(f"{file.name} is cut short")
        return [(name, str(entry["dtype"]), _shape(entry["shape"])) for name, entry in tensors.items()]
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error) as error:
        raise Unusable(f"{file.name} is not a safetensors file") from error


def _shape(sizes: list[object]) -> Shape:
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise ValueError("a shape has sizes that are none")
    return tuple(size for size in sizes if isinstance(size, int))


def _packing(config: Mapping[str, Any]) -> tuple[str, int]:
    """Method and bits of a checkpoint that was quantised before it came, else an empty name."""
    said = config.get("quantization_config")
    if not isinstance(said, dict):
        return "", 0
    method, bits = said.get("quant_method"), said.get("bits", said.get("w_bit"))
    if method in _PACKING and bits in (2, 4, 8):
        return str(method), int(bits)
    shown = f"{str(method)[:40]}{'' if bits is None else f' of {str(bits)[:20]} bits'}"
    raise Unusable(f"its weights are quantised as {shown}: gptq and awq are known")


def _commonest(kinds: Iterable[tuple[str, Shape]]) -> str:
    """The type that most weights have."""
    count: Counter[str] = Counter()
    for kind, shape in kinds:
        count[kind] += math.prod(shape)
    return max(count, key=lambda kind: count[kind], default="")
