"""What the files of sentence-transformers say of a model: pooling, length of vectors, prompts, the longest input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

from agent.engine.base import Json
from agent.errors import ModelError

Pooling = Literal["mean", "cls", "last"]

_POOLINGS: Mapping[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True)
class Modules:
    """A folder without such files pools by the mean, as most models do, and has no prompts."""

    pooling: Pooling = "mean"
    normalised: bool = False
    prompt_pooled: bool = True
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    longest: int | None = None

    @staticmethod
    def read(folder: Path) -> Modules:
        """Raises ModelError for a module that this engine does not compute, or a file that makes no sense."""
        found = Modules()
        if (folder / "modules.json").is_file():
            for module in _list(folder / "modules.json"):
                found = found._with(folder, module)
        prompts, default = _prompts(folder / "config_sentence_transformers.json")
        return replace(found, prompts=prompts, default_prompt=default, longest=_longest(folder))

    def _with(self, folder: Path, module: Json) -> Modules:
        kind = str(module.get("type")).rsplit(".", 1)[-1]
        path = str(module.get("path", ""))
        match kind:
            case "Transformer":
                return self
            case "Normalize":
                return replace(self, normalised=True)
            case "Pooling":
                if Path(path).name != path:
                    raise ModelError(f"modules.json: {path!r} is not a folder of this model")
                config = read_object(folder / path / "config.json")
                return replace(self, pooling=_mode(config), prompt_pooled=config.get("include_prompt") is not False)
            case _:
                raise ModelError(f"modules.json: the module {kind} is not supported for embedding models")


def read_object(path: Path) -> Json:
    """The object in a JSON file. Raises ModelError."""
    value = _json(path)
    if not isinstance(value, dict):
        raise ModelError(f"{path.name} must hold a JSON object")
    return cast(Json, value)


def _mode(config: Json) -> Pooling:
    modes = [_FLAGS.get(name, name) for name, on in config.items() if name.startswith("pooling_mode_") and on is True]
    if isinstance(config.get("pooling_mode"), str):
        modes = [str(config["pooling_mode"])]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise ModelError(
            f"The model pools by {' and '.join(modes) or 'nothing'}, which this engine does not compute",
            hint=f"Models that pool by one of {', '.join(_POOLINGS)} can be loaded.",
        )
    return _POOLINGS[modes[0]]


def _prompts(path: Path) -> tuple[Mapping[str, str], str | None]:
    if not path.is_file():
        return {}, None
    config = read_object(path)
    prompts = config.get("prompts") or {}
    default = config.get("default_prompt_name")
    # A name without a text is a prompt of no characters.
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise ModelError(f"{path.name}: prompts must be texts by their names")
    if default is not None and (not isinstance(default, str) or default not in prompts):
        raise ModelError(f"{path.name}: default_prompt_name {default!r} is none of its prompts")
    return {str(name): text or "" for name, text in prompts.items()}, default


def _longest(folder: Path) -> int | None:
    path = folder / "sentence_bert_config.json"
    length = read_object(path).get("max_seq_length") if path.is_file() else None
    return length if isinstance(length, int) and length > 0 else None


def _list(path: Path) -> list[Json]:
    value = _json(path)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ModelError(f"{path.name} must hold a list of JSON objects")
    return cast("list[Json]", value)


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{path.name} is not JSON: {error}") from error
