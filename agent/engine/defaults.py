"""How the makers of a model recommend to sample from it: what a request leaves open is taken from there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agent.engine.base import Sampling


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """What OpenAI takes where a request says nothing, unless the checkpoint's generation_config.json knows better."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    min_p: float = 0.0

    @classmethod
    def load(cls, folder: Path) -> SamplingDefaults:
        """Read generation_config.json. What is missing there, or makes no sense, stays as OpenAI has it."""
        try:
            config = json.loads((folder / "generation_config.json").read_text())
        except (OSError, ValueError):
            return OPENAI
        if not isinstance(config, Mapping):
            return OPENAI
        greedy = config.get("do_sample") is False
        return cls(
            temperature=0.0 if greedy else _within(config, "temperature", 0.0, 2.0, OPENAI.temperature),
            top_p=_within(config, "top_p", 0.0, 1.0, OPENAI.top_p),
            top_k=int(_within(config, "top_k", 0, 1 << 30, OPENAI.top_k)),
            repetition_penalty=_within(config, "repetition_penalty", 0.1, 10.0, OPENAI.repetition_penalty),
            min_p=_within(config, "min_p", 0.0, 1.0, OPENAI.min_p),
        )

    def fill(self, sampling: Sampling) -> Sampling:
        """The same, with nothing left open."""
        return replace(
            sampling,
            temperature=self.temperature if sampling.temperature is None else sampling.temperature,
            top_p=self.top_p if sampling.top_p is None else sampling.top_p,
            top_k=self.top_k if sampling.top_k is None else sampling.top_k,
            min_p=self.min_p if sampling.min_p is None else sampling.min_p,
            repetition_penalty=(
                self.repetition_penalty if sampling.repetition_penalty is None else sampling.repetition_penalty
            ),
        )


OPENAI = SamplingDefaults()


def _within(config: Mapping[str, object], key: str, low: float, high: float, default: float) -> float:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return default
    return float(value) if low <= value <= high else default
