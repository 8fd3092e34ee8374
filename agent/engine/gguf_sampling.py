"""How the makers of a GGUF model recommend to sample from it, in the words of generation_config.json. Pure, but for
reading the file of parameters that a model of the Ollama registry brings beside its GGUF, which says more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from agent.engine.gguf_file import GgufFile

OLLAMA_PARAMETERS = "ollama-params.json"
_LARGEST = 1024 * 1024
_NAMES = {  # ours -> general.sampling.* of the metadata, Ollama's
    "temperature": ("temp", "temperature"),
    "top_k": ("top_k", "top_k"),
    "top_p": ("top_p", "top_p"),
    "min_p": ("min_p", "min_p"),
    "repetition_penalty": ("penalty_repeat", "repeat_penalty"),
}


def recommended(file: GgufFile, folder: Path) -> dict[str, float]:
    """What is recommended, by its name. Raises ModelError for metadata that are no numbers."""
    beside = _parameters(folder / OLLAMA_PARAMETERS)
    found: dict[str, float] = {}
    for name, (known, called) in _NAMES.items():
        said = beside.get(called)
        if isinstance(said, (int, float)) and not isinstance(said, bool):
            found[name] = said
        elif f"general.sampling.{known}" in file.metadata:
            found[name] = file.number(f"general.sampling.{known}")
    return found


def _parameters(path: Path) -> Mapping[str, object]:
    try:
        value = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size <= _LARGEST else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
