"""What a LoRA adapter changes: read from PEFT's adapter_config.json and the names and shapes of its tensors. Pure.

An adapter adds to some matrices of its base a product of two thin ones: y = W x + scale * B (A x), with A of ``rank``
rows and B of as many columns (Hu et al. 2021, arXiv:2106.09685). The scale is alpha / rank or, as rsLoRA has it,
alpha / sqrt(rank) (Kalajdzievski 2023, arXiv:2312.03732).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.engine.base import Json
from agent.engine.decoder_config import flag, number, section, size
from agent.engine.families import tensor_name
from agent.errors import ModelError

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "gate_proj", "up_proj", "down_proj", "gate_up_proj")
_TENSOR = re.compile(r"base_model\.model\.(?P<matrix>.+)\.lora_(?P<part>[AB])\.weight")
_PLAIN = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*")
_LARGEST_RANK = 1024
# Ways to begin a training that leave the base's weights alone; after the others only a converted adapter fits it.
_BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")
# Settings of the training that change nothing in what is computed afterwards.
_TRAINING = ("use_rslora", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "runtime_config")
_REFUSED = {
    "modules_to_save": "whole modules that were trained beside it (modules_to_save)",
    "trainable_token_indices": "tokens of its own (trainable_token_indices)",
    "target_parameters": "parameters that are no matrices of a layer (target_parameters)",
    "layer_replication": "layers that are used twice (layer_replication)",
    "alora_invocation_tokens": "tokens that switch it on (alora_invocation_tokens)",
    "fan_in_fan_out": "matrices that lie the other way (fan_in_fan_out)",
    "lora_bias": "biases of its own (lora_bias)",
    "use_dora": "magnitudes beside its directions (DoRA)",
}
_MERGE = "merge it into its base (merge_and_unload of PEFT) and serve that as a model of its own"


@dataclass(frozen=True, slots=True)
class Change:
    """What is added to one matrix of the base, [outputs, inputs]; ``scale`` is of the product of both."""

    rank: int
    inputs: int
    outputs: int
    scale: float
    down: str  # name in the file of A, [rank, inputs]
    up: str  # and of B, [outputs, rank]


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """An adapter: its base as its makers named it, and its changes by matrix, named as in the base without .weight."""

    base: str
    changes: Mapping[str, Change]

    @classmethod
    def read(cls, config: Json, shapes: Mapping[str, tuple[int, ...]]) -> LoraSpec:
        """``shapes``: of the tensors in the file. Raises ModelError for what cannot be served."""
        _check_kind(config)
        base = config.get("base_model_name_or_path")
        if not isinstance(base, str) or not base:
            raise ModelError(f"{ADAPTER_CONFIG} names no base model", hint="write it in base_model_name_or_path")
        pairs: dict[str, dict[str, str]] = {}
        for tensor in shapes:
            found = _TENSOR.fullmatch(tensor)
            if found is None or not _known(found["matrix"]):
                raise ModelError(
                    f"the adapter changes {_where(tensor)}, and only {', '.join(_PROJECTIONS)} can be changed here",
                    hint=_MERGE,
                )
            pairs.setdefault(found["matrix"], {})[found["part"]] = tensor
        if not pairs:
            raise ModelError("the adapter changes nothing: its file has no tensors", hint="save it again")
        changes = {tensor_name(matrix): _change(config, matrix, pair, shapes) for matrix, pair in pairs.items()}
        return cls(base, changes)

    @property
    def rank(self) -> int:
        """The largest of its ranks."""
        return max(change.rank for change in self.changes.values())

    def check(self, base: Mapping[str, tuple[int, ...]]) -> None:
        """Compare with names and shapes of the base's tensors. Raises ModelError naming what does not fit."""
        for matrix, change in self.changes.items():
            shape = base.get(f"{matrix}.weight")
            if shape is None:
                raise ModelError(
                    f"the adapter changes {matrix}, which its base does not have", hint="it is of another base"
                )
            if shape != (change.outputs, change.inputs):
                raise ModelError(
                    f"the adapter's {matrix} is {[change.outputs, change.inputs]}, its base's {list(shape)}",
                    hint="it is of another base",
                )


def matrices(adapters: Iterable[LoraSpec]) -> dict[str, tuple[int, int]]:
    """Every matrix that one of them changes, with its outputs and inputs."""
    return {name: (one.outputs, one.inputs) for spec in adapters for name, one in spec.changes.items()}


def _check_kind(config: Json) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ModelError(f"the adapter is of the kind {str(kind)[:40]}, and only LORA is known", hint=_MERGE)
    for key, what in _REFUSED.items():
        if config.get(key):
            raise ModelError(f"the adapter has {what}, which cannot be served", hint=_MERGE)
    if config.get("bias") not in (None, "none"):
        raise ModelError("the adapter has biases of its own, which cannot be served", hint=_MERGE)
    for key, value in config.items():  # what a later PEFT invents
        if value and key not in _TRAINING and (key.startswith("use_") or key.endswith("_config")):
            raise ModelError(f"the adapter asks for {key[:40]}, which is not known", hint=_MERGE)
    beginning = config.get("init_lora_weights")
    if beginning not in _BEGINNINGS:
        raise ModelError(
            f"the adapter was begun as {str(beginning)[:40]}, which changes the weights of its base, too",
            hint="save it with path_initial_model_for_weight_conversion: it is then an ordinary one",
        )


def _change(config: Json, matrix: str, pair: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> Change:
    if set(pair) != {"A", "B"}:
        raise ModelError(f"the adapter has only one half of {matrix}", hint="save it again")
    down, up = shapes[pair["A"]], shapes[pair["B"]]
    rank = _of_pattern(config, "rank_pattern", matrix) or size(config, "r", most=_LARGEST_RANK)
    if len(down) != 2 or len(up) != 2 or down[0] != rank or up[1] != rank:
        raise ModelError(
            f"the adapter's {matrix} is {list(up)} times {list(down)}, and its rank should be {rank}",
            hint=f"{ADAPTER_CONFIG} is not of these weights",
        )
    alpha = _of_pattern(config, "alpha_pattern", matrix) or number(config, "lora_alpha")
    scale = alpha / math.sqrt(rank) if flag(config, "use_rslora", False) else alpha / rank
    return Change(int(rank), down[1], up[0], scale, pair["A"], pair["B"])


def _known(matrix: str) -> bool:
    """Whether it is a projection of a layer. Experts of a mixture are computed together, without adapters."""
    return matrix.rpartition(".")[2] in _PROJECTIONS and ".experts." not in matrix


def _of_pattern(config: Json, key: str, matrix: str) -> float:
    """What a pattern says of this matrix; 0: nothing. PEFT takes regular expressions; here they are ends of names."""
    pattern = section(config, key)
    for name in pattern:
        if not _PLAIN.fullmatch(name.removeprefix("^")):
            raise ModelError(f"{key} of the adapter has {name[:60]!r}: only names of modules are known", hint=_MERGE)
        whole = name.removeprefix("^")
        if matrix == whole or (whole == name and matrix.endswith(f".{name}")):
            return number(pattern, name)
    return 0.0


def _where(tensor: str) -> str:
    """What a tensor of the file belongs to, for people."""
    return repr(tensor.removeprefix("base_model.model.")[:80])
