"""Typed look-ups in the config.json of an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from agent.engine.base import Json
from agent.errors import ModelError

Activation = Literal["gelu", "gelu_tanh", "silu", "relu", "tanh"]

# Names in config.json, of all families, for the functions that the engine has.
_ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "swiglu": "silu",
    "geglu": "gelu",
}


class ConfigReader:
    """Each look-up takes the first of several names that is there, and raises ModelError for a value that is none."""

    def __init__(self, config: Json) -> None:
        self._config = config

    def get(self, *names: str) -> object:
        return next((self._config[name] for name in names if self._config.get(name) is not None), None)

    def whole(self, *names: str, default: int | None = None, least: int = 1) -> int:
        value = self.get(*names)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ModelError(f"config.json: {names[0]} must be a whole number from {least}, not {value!r}")
        return value

    def number(self, *names: str, default: float) -> float:
        value = self.get(*names)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ModelError(f"config.json: {names[0]} must be a number above 0, not {value!r}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.get(name)
        return default if value is None else bool(value)

    def activation(self, *names: str, default: str) -> tuple[str, Activation]:
        """The name in the file, and the function that it means."""
        name = str(self.get(*names) or default)
        if name not in _ACTIVATIONS:
            raise ModelError(
                f"config.json: unknown activation {name!r}", hint=f"Known ones: {', '.join(sorted(_ACTIVATIONS))}."
            )
        return name, _ACTIVATIONS[name]

    def part(self, name: str) -> ConfigReader:
        """An object within the object; an empty one where there is none."""
        value = self.get(name)
        return ConfigReader(value if isinstance(value, Mapping) else {})

    def refuse(self, name: str, *fine: object) -> None:
        """ModelError unless the field is absent or has one of the values that this engine computes."""
        value = self.get(name)
        if value is not None and value not in fine:
            raise ModelError(f"config.json: {name} = {value!r} is not supported for encoders")
