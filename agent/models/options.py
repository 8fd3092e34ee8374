"""How a client may ask for a model to be loaded, and how much memory that will take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.models.checkpoint import StoredModel

if TYPE_CHECKING:  # it brings numpy, for which the command line must not wait
    from agent.engine.quantise import Quantisation

QUANTISATIONS = ("auto", "float", "int8", "int4", "int4-g32")
LONGEST_DEFAULT = 8192  # tokens of context unless somebody asks for more: the cache of a long one takes gigabytes
CONTEXTS_HELD = 4  # full contexts that the cache holds unless the configuration says otherwise

_AUTO: tuple[tuple[int, Quantisation], ...] = ((50_000_000, "float"), (500_000_000, "int8"))
_PARAMETER_BYTES = {"float": 4.0, "int8": 1.01, "int4": 0.56, "int4-g32": 0.63}  # scales, and the int8 head of int4
_CACHE_VALUE_BYTES = 2  # f16; the forms that keep u8 need less
_RUNTIME_BYTES = 64 * 1024 * 1024  # tokenizer, compiled graph, activations


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """``options`` of POST /v1/models/load. None: as the configuration of the device says."""

    context_length: int | None = None
    quantisation: str | None = None
    slots: int | None = None


def choose_quantisation(wanted: str, parameters: int) -> Quantisation:
    """``auto`` takes the fewest bits that a model of this size bears without harm that shows.

    Decoding is as fast as memory is read, so large models gain most from few bits, and they lose least by them: below
    some half a billion parameters int4 costs answers noticeably, and a model of a few million reads so little a token
    that even float32 is not what bounds it.
    """
    known: dict[str, Quantisation] = {"float": "float", "int8": "int8", "int4": "int4", "int4-g32": "int4-g32"}
    if wanted in known:
        return known[wanted]
    return next((quantisation for below, quantisation in _AUTO if parameters < below), "int4")


def needed_bytes(model: StoredModel, options: LoadOptions, cache_tokens: int = 0) -> int:
    """An estimate of the memory a loaded model takes, on the high side: weights, key-value cache, runtime.

    ``cache_tokens``: how many the cache holds over all slots; 0: enough for CONTEXTS_HELD full contexts.
    """
    wanted = "float" if model.kind == "embedding" else options.quantisation or "auto"
    weights = model.parameters * _PARAMETER_BYTES[choose_quantisation(wanted, model.parameters)]
    context = options.context_length or LONGEST_DEFAULT
    tokens = cache_tokens or CONTEXTS_HELD * min(context, model.context_length or context)
    return int(weights) + model.cache_values * _CACHE_VALUE_BYTES * tokens + _RUNTIME_BYTES
