"""Values of a checkpoint's config.json, each of its kind and in its range or one clear ModelError. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from agent.engine.base import Json
from agent.errors import ModelError

LONGEST = 1 << 30  # tokens: no context is longer
_NO_DEFAULT = -1  # sizes are positive, so this can be no value


def size(config: Json, key: str, default: int = _NO_DEFAULT, *, least: int = 1, most: int = 1 << 24) -> int:
    """A whole number; ``default`` where the key is absent or null."""
    value = config.get(key)
    if value is None and default != _NO_DEFAULT:
        value = default
    if value is None:
        raise ModelError(f"config.json lacks {key}")
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ModelError(f"{key} in config.json must be a whole number of {least} to {most}, not {value!r}")
    return value


def number(config: Json, key: str, default: float | None = None) -> float:
    """A positive number."""
    value = config.get(key)
    if value is None:
        value = default
    if value is None:
        raise ModelError(f"config.json lacks {key}")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ModelError(f"{key} in config.json must be a positive number, not {value!r}")
    return float(value)


def numbers(config: Json, key: str, count: int) -> tuple[float, ...]:
    """A list of ``count`` positive numbers."""
    values = config.get(key)
    if not isinstance(values, list) or len(values) != count:
        raise ModelError(f"{key} in config.json must be a list of {count} numbers")
    return tuple(number({key: value}, key) for value in values)


def flag(config: Json, key: str, default: bool) -> bool:
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ModelError(f"{key} in config.json must be true or false, not {value!r}")
    return value


def section(config: Json, key: str) -> Json:
    """An object within the config; empty where the key is absent or null."""
    value = config.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ModelError(f"{key} in config.json is not an object")
    return value
