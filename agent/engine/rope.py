"""Rotary position embedding: how far each pair of a head's dimensions turns from one position to the next. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agent.engine.base import Json
from agent.engine.decoder_config import LONGEST, flag, number, numbers, section, size
from agent.errors import ModelError

_KINDS = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")


@dataclass(frozen=True, slots=True)
class Rope:
    """The rotation of the first ``size`` dimensions of a head. What follows ``kind`` matters to the scaled ones alone.

    ``low_turns`` and ``high_turns``: how often a pair turns in the original context where it is wholly stretched, and
    where it is left as it is.
    """

    size: int
    theta: float = 10000.0
    kind: Literal["default", "linear", "dynamic", "llama3", "yarn", "longrope"] = "default"
    factor: float = 1.0
    low_turns: float = 1.0
    high_turns: float = 4.0
    original_length: int = 8192
    whole: bool = True  # yarn: the blended range is rounded to whole dimensions
    amplitude: float = 1.0  # of cosine and sine: yarn and longrope sharpen attention by it
    short_divisors: tuple[float, ...] = ()  # longrope: of each pair's frequency, within the original context
    long_divisors: tuple[float, ...] = ()  # and beyond it

    def within(self, context_length: int) -> Rope:
        """The rotation for a context of this length, whatever is in it.

        The cache holds rotated keys, so the two kinds that depend on the length are settled once, for the context that
        is opened, as vLLM and llama.cpp do: longrope takes its long divisors when the context is longer than the
        original one; dynamic scaling (NTK-aware) takes the base of a context filled to its end.
        """
        if self.kind == "longrope" and context_length > self.original_length:
            return replace(self, short_divisors=self.long_divisors)
        if self.kind == "dynamic" and context_length > self.original_length:
            stretch = self.factor * context_length / self.original_length - (self.factor - 1)
            return replace(self, kind="default", theta=self.theta * stretch ** (self.size / (self.size - 2)))
        return self

    def inverse_frequencies(self) -> NDArray[np.float64]:
        """Radians a position for each pair of dimensions, [size / 2].

        The base is RoFormer's theta ** (-2i / d) (Su et al. 2021, arXiv:2104.09864, section 3.2.2); dimension i is
        paired with i + d / 2, as Hugging Face checkpoints store it. "linear" is position interpolation (Chen et al.
        2023, arXiv:2306.15595). "llama3" is Llama 3.1's: ``apply_scaling`` in llama_models/llama3/model.py of
        meta-llama/llama-models; wavelengths beyond the original context are divided by ``factor``, short ones kept,
        those between blended. "yarn" blends by dimension (Peng et al. 2023, arXiv:2309.00071, section 3.2); "longrope"
        divides each pair by a number that was searched for (Ding et al. 2024, arXiv:2402.13753).
        """
        frequencies: NDArray[np.float64] = self.theta ** (-np.arange(0, self.size, 2, dtype=np.float64) / self.size)
        if self.kind == "linear":
            return frequencies / self.factor
        if self.kind == "longrope":
            divisors: NDArray[np.float64] = np.array(self.short_divisors, np.float64)
            return frequencies / divisors
        if self.kind == "llama3":
            turns = self.original_length * frequencies / (2 * math.pi)
            keep = np.clip((turns - self.low_turns) / (self.high_turns - self.low_turns), 0.0, 1.0)
        elif self.kind == "yarn":
            keep = 1.0 - self._ramp()
        else:
            return frequencies
        blended: NDArray[np.float64] = frequencies * (keep + (1.0 - keep) / self.factor)
        return blended

    def _ramp(self) -> NDArray[np.float64]:
        """YaRN's blend for each pair: 0 where it is left as it is, 1 where it is wholly stretched."""

        def dimension(turns: float) -> float:
            return self.size * math.log(self.original_length / (turns * 2 * math.pi)) / (2 * math.log(self.theta))

        low, high = dimension(self.high_turns), dimension(self.low_turns)
        if self.whole:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, self.size - 1)
        if low == high:
            high += 0.001
        ramp: NDArray[np.float64] = np.clip((np.arange(self.size // 2) - low) / (high - low), 0.0, 1.0)
        return ramp


def read_rope(config: Json, scaling: Json, head_dim: int, theta: float, context_length: int) -> Rope:
    """A rotation from its section of a config: rope_parameters as transformers 5 writes it, rope_scaling of before.

    ``theta``: the base where the section has none of its own.
    """
    theta = number(scaling, "rope_theta", theta)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "su" or "short_factor" in scaling:  # Phi-3's first checkpoints say su, or yarn
        kind = "longrope"
    if kind not in _KINDS:
        raise ModelError(f"unknown rotary scaling {kind!r} in config.json", hint=f"known: {', '.join(_KINDS)}")
    partial = number(scaling, "partial_rotary_factor", number(config, "partial_rotary_factor", 1.0))
    rotated = int(head_dim * partial)
    if partial > 1 or rotated < 4 or rotated % 2:
        raise ModelError(f"partial_rotary_factor {partial} of a head of {head_dim} makes no pairs of dimensions")
    if theta <= 1:
        raise ModelError(f"rope_theta in config.json must be above 1, not {theta}")
    if kind == "default":
        return Rope(rotated, theta)
    if kind == "linear":
        return Rope(rotated, theta, "linear", number(scaling, "factor"))
    if kind == "dynamic":
        return Rope(rotated, theta, "dynamic", number(scaling, "factor"), original_length=context_length)
    original = size(
        scaling,
        "original_max_position_embeddings",
        size(config, "original_max_position_embeddings", context_length, most=LONGEST),
        least=2,
        most=LONGEST,
    )
    if kind == "llama3":
        low, high = number(scaling, "low_freq_factor"), number(scaling, "high_freq_factor")
        if high <= low:
            raise ModelError("high_freq_factor in config.json must be above low_freq_factor")
        return Rope(rotated, theta, "llama3", number(scaling, "factor"), low, high, original)
    factor = number(scaling, "factor", context_length / original)
    if kind == "yarn":
        return Rope(
            rotated,
            theta,
            "yarn",
            factor,
            number(scaling, "beta_slow", 1.0),
            number(scaling, "beta_fast", 32.0),
            original,
            flag(scaling, "truncate", True),
            number(scaling, "attention_factor", _yarn_amplitude(scaling, factor)),
        )
    grown = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return Rope(
        rotated,
        theta,
        "longrope",
        factor,
        original_length=original,
        amplitude=number(scaling, "attention_factor", grown),
        short_divisors=numbers(scaling, "short_factor", rotated // 2),
        long_divisors=numbers(scaling, "long_factor", rotated // 2),
    )


def read_ropes(config: Json, head_dim: int, sliding: tuple[bool, ...], context_length: int) -> tuple[Rope | None, ...]:
    """The rotation of each layer; None for a layer without positions. ``sliding``: which layers have a window.

    Gemma 3 gives its sliding layers a base of their own. SmolLM3 leaves every fourth layer without positions.
    """
    key = "rope_parameters" if config.get("rope_parameters") else "rope_scaling"
    scaling = section(config, key)
    theta = number(config, "rope_theta", 10000.0)
    far = read_rope(config, section(scaling, "full_attention") or scaling, head_dim, theta, context_length)
    near = far
    if "sliding_attention" in scaling:
        theta = number(config, "rope_local_base_freq", 10000.0)
        near = read_rope(config, section(scaling, "sliding_attention"), head_dim, theta, context_length)
    elif config.get("rope_local_base_freq") is not None:
        near = Rope(far.size, number(config, "rope_local_base_freq"))
    return tuple(
        (near if slides else far) if rotated else None
        for slides, rotated in zip(sliding, _rotated(config, len(sliding)), strict=True)
    )


def _rotated(config: Json, layers: int) -> tuple[bool, ...]:
    """Which layers know positions."""
    listed = config.get("no_rope_layers")
    if isinstance(listed, list):  # 1 where, against its name, positions are rotated
        if len(listed) < layers or any(entry not in (0, 1) for entry in listed):
            raise ModelError("no_rope_layers in config.json must have a 0 or 1 for each layer")
        return tuple(bool(entry) for entry in listed[:layers])
    every = size(config, "no_rope_layer_interval", 0, least=0)
    return tuple(not every or (layer + 1) % every != 0 for layer in range(layers))


def _yarn_amplitude(scaling: Json, factor: float) -> float:
    def grown(scale: float) -> float:
        return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0

    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        return grown(number(scaling, "mscale")) / grown(number(scaling, "mscale_all_dim"))
    return grown(1.0)
