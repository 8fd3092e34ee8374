"""Small random adapters, made and computed by PEFT, which is the oracle."""

from __future__ import annotations

import functools
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from checkpoints import RandomCheckpoint, oracle, random_checkpoint

from agent.engine.base import Floats
from agent.engine.weights_lora import Adapter

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

# name -> PEFT's LoraConfig: different ranks, scales and targets side by side.
CONFIGS: dict[str, dict[str, Any]] = {
    "all": {"r": 8, "lora_alpha": 16, "target_modules": list(ALL)},
    "some": {"r": 3, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]},
    "rs": {"r": 16, "lora_alpha": 12, "use_rslora": True, "target_modules": ["o_proj", "down_proj"]},
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": list(ALL),
        "rank_pattern": {"down_proj": 12, "layers.1.self_attn.q_proj": 2},
        "alpha_pattern": {"^model.layers.0.self_attn.k_proj": 24, "gate_proj": 2},
    },
    "fused": {"r": 4, "lora_alpha": 8, "target_modules": ["qkv_proj", "o_proj", "gate_up_proj"]},
}


@dataclass(frozen=True)
class RandomAdapter:
    """An adapter on disk, and PEFT's own model of it and its base."""

    folder: Path
    model: RandomCheckpoint

    def open(self, name: str = "adapter") -> Adapter:
        return Adapter.open(name, self.folder)


@functools.cache
def random_adapter(family: str, name: str) -> RandomAdapter:
    """An adapter of the checkpoint of a family, made once in a test run."""
    scratch = tempfile.TemporaryDirectory(prefix=f"thox-{family}-{name}-")
    _scratch.append(scratch)
    folder = Path(scratch.name)
    model = save_adapter(random_checkpoint(family).folder, folder, **CONFIGS[name])
    return RandomAdapter(folder, RandomCheckpoint(f"{family} {name}", folder, model))


def save_adapter(base: Path, folder: Path, **config: Any) -> Any:  # noqa: ANN401  PEFT has no types to name
    """Write a random adapter; gives PEFT's model of it and its base."""
    import peft
    import torch

    torch.manual_seed(len(str(config)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers by names that will go
        model: Any = peft.get_peft_model(oracle(base), peft.LoraConfig(**config))
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if ".lora_A." in key or ".lora_B." in key:  # PEFT begins with zeros; these change what is said
                weight.normal_(0.0, (0.5 if ".lora_A." in key else 0.3) * weight.shape[1] ** -0.5)
    model.save_pretrained(folder, save_embedding_layers=False)  # else it asks the hub whether there are new ones
    return model.eval()


def differs(logits: Floats, expected: Floats) -> float:
    """Their largest difference as a share of the range: the error of an adapter that nobody hears."""
    return float(np.abs(logits - expected).max() / (expected.max() - expected.min()))


_scratch: list[tempfile.TemporaryDirectory[str]] = []
