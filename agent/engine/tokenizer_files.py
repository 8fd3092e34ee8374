"""The files beside a tokenizer: what they say of special tokens and of the end of an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.errors import ModelError

# The names under which a tokenizer's configuration lists its special tokens; templates see them as variables.
NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def read_json(path: Path, *, required: bool = False) -> dict[str, object]:
    """The object in a JSON file; an empty one when the file is missing and not required. Raises ModelError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not required:
            return {}
        raise ModelError(
            f"the model has no {path.name}",
            hint="the folder of a model holds tokenizer.json; a tokenizer.model alone must be converted first",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path.name} is not a JSON object")
    return value


def token_string(value: object) -> str | None:
    """A special token as configurations write it: the text itself, or an object that holds it as ``content``."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None


def named_tokens(folder: Path, config: Mapping[str, object]) -> dict[str, str | list[str]]:
    """``bos_token`` and its kind, as a chat template sees them; tokenizer_config.json wins over the other file."""
    merged = {**read_json(folder / "special_tokens_map.json"), **{k: v for k, v in config.items() if v is not None}}
    named: dict[str, str | list[str]] = {}
    for name in NAMED_TOKENS:
        text = token_string(merged.get(name))
        if text is not None:
            named[name] = text
    extra = merged.get("additional_special_tokens")
    if isinstance(extra, list):
        named["additional_special_tokens"] = [text for text in map(token_string, extra) if text is not None]
    return named


def end_ids(folder: Path) -> Iterator[int]:
    """Every id that generation_config.json or config.json names as an end of text."""
    for name in ("generation_config.json", "config.json"):
        config = read_json(folder / name)
        inner = config.get("text_config")
        for part in (config, inner if isinstance(inner, Mapping) else {}):
            value = part.get("eos_token_id")
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, int) and not isinstance(one, bool):
                    yield one


def begin_id(folder: Path) -> int | None:
    """The id that config.json or generation_config.json names as the begin of text."""
    for name in ("config.json", "generation_config.json"):
        value = read_json(folder / name).get("bos_token_id")
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None
