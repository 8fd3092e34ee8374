"""How a client may ask for a model to be loaded. Quick to import: the command line offers the same words."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agent.errors import RequestError

if TYPE_CHECKING:  # they bring numpy, for which the command line must not wait
    from agent.engine.base import CacheType
    from agent.engine.quantise import Quantisation

QUANTISATIONS = ("auto", "float", "int8", "int4", "int4-g32")
CACHE_TYPES = ("auto", "f32", "f16", "u8")
FOR_EVER = math.inf

_AUTO: tuple[tuple[int, Quantisation], ...] = ((50_000_000, "float"), (500_000_000, "int8"))
_UNQUANTISED = ("", "F32", "F16", "BF16")
_DURATION = re.compile(r"(-?\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """``options`` of POST /v1/models/load. None: as the configuration of the device says."""

    context_length: int | None = None
    quantisation: str | None = None
    slots: int | None = None
    cache_type: str | None = None
    draft: str | None = None  # the name of a smaller model of the same vocabulary, which guesses tokens
    # How long the model stays after its last answer, s. It changes nothing in the engine: no reason to load anew.
    keep_alive_s: float | None = field(default=None, compare=False)


def fitting(options: LoadOptions, name: str, kind: str, context_length: int) -> LoadOptions:
    """The options as a model of this kind and of so many tokens takes them. A context longer than the model's is asked
    for by those who mean "as long as it goes".

    Raises RequestError for what would change nothing: models that write no text are computed in float32, a whole text
    at once, without a cache.
    """
    if options.context_length and context_length:
        options = replace(options, context_length=min(options.context_length, context_length))
    if kind == "text":
        return options
    as_it_is: dict[str, tuple[object, ...]] = {
        "context_length": (context_length,),
        "quantisation": ("auto", "float"),
        "slots": (),
        "cache_type": ("auto",),
        "draft": (),
    }
    for option, fine in as_it_is.items():
        wanted = getattr(options, option)
        if wanted is not None and wanted not in fine:
            raise RequestError(
                f"{name} writes no text: {option} = {wanted} would change nothing",
                hint="models for embeddings and for ranking are loaded in float32 and at their own length; "
                "keep_alive is an option for them",
                param=f"options.{option}",
            )
    return LoadOptions(keep_alive_s=options.keep_alive_s)


def choose_quantisation(wanted: str, parameters: int, stored: str = "") -> Quantisation:
    """``auto`` takes the fewest bits that a model of this size bears without harm that shows.

    A model that its makers quantised already, as ``stored`` names it, is never quantised anew to less than 8 bits: its
    int4 is taken as it is, and all other matrices become int8.

    Decoding is as fast as memory is read, so large models gain most from few bits, and they lose least by them: below
    some half a billion parameters int4 costs answers noticeably, and a model of a few million reads so little a token
    that even float32 is not what bounds it.
    """
    known: dict[str, Quantisation] = {"float": "float", "int8": "int8", "int4": "int4", "int4-g32": "int4-g32"}
    if wanted in known:
        return known[wanted]
    if stored not in _UNQUANTISED:
        return "stored"
    return next((quantisation for below, quantisation in _AUTO if parameters < below), "int4")


def choose_cache_type(wanted: str, quantisation: str) -> CacheType:
    """``auto``: eight bits, whose error is far below that of packed weights; float weights keep a cache in float."""
    known: dict[str, CacheType] = {"f32": "f32", "f16": "f16", "u8": "u8"}
    return known.get(wanted) or ("f32" if quantisation == "float" else "u8")


def read_duration(text: str) -> float | None:
    """Seconds of ``90``, ``90s``, ``10m``, ``24h``; FOR_EVER for what is negative; None for what is no duration."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        return None
    seconds = float(match[1]) * _UNITS[match[2]]
    return FOR_EVER if seconds < 0 else seconds
