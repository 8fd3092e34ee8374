"""How a client may ask for a model to be loaded, and how much memory that will take."""

from __future__ import annotations

from dataclasses import dataclass

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


def needed_bytes(model: StoredModel, options: LoadOptions) -> int:
    """An estimate of the memory a loaded model takes, on the high side: weights, key-value cache, runtime."""
    weights = model.parameters * _PARAMETER_BYTES[options.quantisation or "auto"]
    if model.kind == "embedding":
        weights = model.parameters * _PARAMETER_BYTES["float"]
    context = options.context_length or min(model.context_length or _DEFAULT_CONTEXT, _DEFAULT_CONTEXT)
    return int(weights) + model.cache_values * _CACHE_VALUE_BYTES * context * _CONTEXTS_HELD + _RUNTIME_BYTES
