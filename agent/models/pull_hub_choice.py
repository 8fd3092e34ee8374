"""Which files of a hub's repository make the model. Pure.

A repository often holds the same weights many times: for PyTorch, for ONNX, in each quantisation. Taken are either one
GGUF with all its parts, or the safetensors checkpoint at the root with its tokenizer and settings, or an adapter;
readme and licence in any case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set

from agent.engine.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS

# Without a wish: the first of these that is there, as llama.cpp's and Ollama's users know it.
USUAL = ("Q4_K_M", "Q4_0", "Q4_K_S", "Q5_K_M", "Q8_0", "F16", "BF16")

_QUANTISATION = re.compile(r"(?<![A-Za-z0-9])((?:IQ|Q|TQ)\d\w*|BF16|F16|F32|MXFP4\w*)(?![A-Za-z0-9])", re.IGNORECASE)
_SETTINGS = (".json", ".txt", ".jinja", ".model")
_DOCUMENTS = re.compile(r"(README|LICEN[CS]E|NOTICE|USE_POLICY)(\.\w+)?", re.IGNORECASE)
_MODULE = re.compile(r"\d+_[A-Za-z]+")  # 1_Pooling, as sentence-transformers names them
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


def choose(paths: Sequence[str], wanted: str) -> frozenset[str]:
    """The paths to fetch; none when ``wanted`` (a file, a quantisation, or empty) is not among them."""
    documents = {path for path in paths if "/" not in path and _DOCUMENTS.fullmatch(path)}
    checkpoint = _checkpoint(paths)
    if not wanted and checkpoint:
        return frozenset(checkpoint | documents)
    gguf = _gguf(paths, wanted)
    return frozenset({*_parts(gguf), *documents}) if gguf else frozenset()


def known_quantisations(paths: Sequence[str]) -> list[str]:
    """Of the GGUF files, for a hint."""
    return sorted({found.upper() for path in _ggufs(paths) for found in _quantisations(path)})


def _checkpoint(paths: Sequence[str]) -> set[str]:
    root = {path for path in paths if "/" not in path}
    weights = {path for path in root if path.endswith(".safetensors")}
    if ADAPTER_CONFIG in root and weights == {ADAPTER_WEIGHTS}:
        return {ADAPTER_CONFIG, ADAPTER_WEIGHTS}
    if not weights or "config.json" not in root:
        return set()
    # Mistral's own layout lies beside Hugging Face's, with the same weights again.
    ours = {path for path in weights if not path.startswith("consolidated")} or weights
    settings = {path for path in root if path.endswith(_SETTINGS)}
    modules = {
        path
        for path in paths
        if _MODULE.fullmatch(path.partition("/")[0]) and path.endswith((".safetensors", *_SETTINGS))
    }
    return ours | settings | modules


def _gguf(paths: Sequence[str], wanted: str) -> str:
    ggufs = _ggufs(paths)
    if wanted in ggufs:
        return wanted
    for wish in (wanted,) if wanted else USUAL:
        fits = [path for path in ggufs if wish.casefold() in map(str.casefold, _quantisations(path))]
        if fits:
            return min(fits, key=lambda path: (path.count("/"), len(path), path))
    return ggufs[0] if len(ggufs) == 1 and not wanted else ""


def _ggufs(paths: Sequence[str]) -> list[str]:
    """Whole models, by their first part where they are split; not the projector of a vision model."""
    known = set(paths)
    return [
        path
        for path in paths
        if path.endswith(".gguf") and not path.rpartition("/")[2].startswith("mmproj") and _is_whole(path, known)
    ]


def _is_whole(path: str, known: Set[str]) -> bool:
    """Whether this is a file with all of a model, or the first of parts that are all known."""
    part = _PART.fullmatch(path)
    return part is None or (
        1 == int(part["number"]) <= int(part["count"]) and all(map(known.__contains__, _parts(path)))
    )


def _parts(path: str) -> Iterator[str]:
    """All parts of the file that this is the first of."""
    part = _PART.fullmatch(path)
    if part is None:
        yield path
    else:
        for number in range(1, int(part["count"]) + 1):
            yield f"{part['stem']}-{number:05}-of-{part['count']}.gguf"


def _quantisations(path: str) -> list[str]:
    return _QUANTISATION.findall(path.rpartition("/")[2].removesuffix(".gguf"))
