"""How a client may ask for a model to be loaded, and how much memory that will take."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields

from agent.errors import RequestError
from agent.models.checkpoint import StoredModel

QUANTISATIONS = ("auto", "float", "int8", "int4", "int4-g32")

# Bytes a parameter takes once loaded, scales included; "auto" is counted as int8, the larger of what it chooses
# for models whose size matters.
_PARAMETER_BYTES = {"auto": 1.06, "float": 4.0, "int8": 1.06, "int4": 0.56, "int4-g32": 0.63}
_CACHE_VALUE_BYTES = 2  # f16 at most; the CPU engine keeps u8
_RUNTIME_BYTES = 64 * 1024 * 1024  # tokenizer, compiled graph, activations
_CONTEXTS_HELD = 4  # full contexts the cache has room for unless the configuration says otherwise
_DEFAULT_CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """``options`` of POST /v1/models/load. None: as the configuration of the device says."""

    context_length: int | None = None
    quantisation: str | None = None
    slots: int | None = None

    @staticmethod
    def parse(value: object) -> LoadOptions:
        """From a request's JSON. Raises RequestError naming the field, and the nearest one for an unknown field."""
        if value is None:
            return LoadOptions()
        if not isinstance(value, dict):
            raise RequestError("options must be an object", param="options")
        known = [field.name for field in fields(LoadOptions)]
        for key in value:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]}?" if near else f"options are {', '.join(known)}"
                raise RequestError(f"{str(key)[:80]!r} is not an option", hint=hint, param="options")
        quantisation = value.get("quantisation")
        if quantisation is not None and quantisation not in QUANTISATIONS:
            raise RequestError(f"quantisation must be one of {', '.join(QUANTISATIONS)}", param="options.quantisation")
        return LoadOptions(
            context_length=_whole(value, "context_length", 16, 16 * 1024 * 1024),
            quantisation=quantisation,
            slots=_whole(value, "slots", 1, 1024),
        )


def needed_bytes(model: StoredModel, options: LoadOptions) -> int:
    """An estimate of the memory a loaded model takes, on the high side: weights, key-value cache, runtime."""
    weights = model.parameters * _PARAMETER_BYTES[options.quantisation or "auto"]
    if model.kind == "embedding":
        weights = model.parameters * _PARAMETER_BYTES["float"]
    context = options.context_length or min(model.context_length or _DEFAULT_CONTEXT, _DEFAULT_CONTEXT)
    return int(weights) + model.cache_values * _CACHE_VALUE_BYTES * context * _CONTEXTS_HELD + _RUNTIME_BYTES


def _whole(value: dict[str, object], key: str, least: int, most: int) -> int | None:
    number = value.get(key)
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
        raise RequestError(f"{key} must be a whole number from {least} to {most}", param=f"options.{key}")
    return number
