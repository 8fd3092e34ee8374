"""What a model says of itself beyond its list entry: licence, chat template, recommended sampling."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.engine.gguf_file import GgufFile, find_gguf
from agent.engine.gguf_sampling import recommended
from agent.errors import ModelError
from agent.models.checkpoint import StoredModel

_LARGEST = 4 * 1024 * 1024  # of a file that is read here
_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)
_LICENCE_LINE = re.compile(r"^licen[sc]e:\s*[\"']?([^\"'\n]+?)[\"']?\s*$", re.MULTILINE)
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


@dataclass(frozen=True, slots=True)
class Details:
    """Empty where the model's files do not say."""

    licence: str = ""
    template: str = ""  # Jinja
    sampling: Mapping[str, float] = field(default_factory=dict)


def describe(model: StoredModel) -> Details:
    """Never raises for what is wrong inside the folder: that field is then empty."""
    if model.format == "gguf":
        try:
            return _of_gguf(model.path)
        except ModelError:  # listed as broken, with the reason
            return Details()
    return Details(_licence(model.path), _template(model.path), _sampling(model.path))


def _of_gguf(path: Path) -> Details:
    file = find_gguf(path)
    if file is None:
        return Details()
    header = GgufFile.read(file)
    licence = header.text("general.license", "") or _licence(path)
    template = _text(path / "chat_template.jinja") or header.text("tokenizer.chat_template", "")
    beside = (path / "generation_config.json").is_file()  # then it says all
    return Details(licence, template, _sampling(path) if beside else recommended(header, path))


def _licence(path: Path) -> str:
    """As the card's front matter names it, else the first line of the licence's text."""
    front = _FRONT_MATTER.match(_text(path / "README.md"))
    named = _LICENCE_LINE.search(front[1]) if front else None
    if named:
        return named[1]
    for file in sorted(path.glob("LICEN[CS]E*")):
        first = next((line.strip() for line in _text(file).splitlines() if line.strip()), "")
        if first:
            return first[:200]
    return ""


def _template(path: Path) -> str:
    own = _text(path / "chat_template.jinja")
    if own:
        return own
    found = _object(path / "tokenizer_config.json").get("chat_template")
    if isinstance(found, list):  # several, by name
        named = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else ""


def _sampling(path: Path) -> dict[str, float]:
    said = _object(path / "generation_config.json")
    return {
        name: value
        for name in _SAMPLING
        if isinstance(value := said.get(name), (int, float)) and not isinstance(value, bool)
    }


def _object(file: Path) -> dict[str, object]:
    try:
        value = json.loads(_text(file) or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace") if file.stat().st_size <= _LARGEST else ""
    except OSError:
        return ""
