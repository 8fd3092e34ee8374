"""What is read from PEFT's files, and what is refused with what to do."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from fake_adapters import write_adapter, write_tensors

from agent.engine.lora import LoraSpec, matrices
from agent.engine.weights_lora import Adapter, AdapterStack
from agent.errors import ModelError

Q = "model.layers.0.self_attn.q_proj"
DOWN = "model.layers.1.mlp.down_proj"
GOOD: dict[str, object] = {"peft_type": "LORA", "base_model_name_or_path": "org/Base", "r": 4, "lora_alpha": 8}


def shapes(name: str = Q, rank: int = 4, outputs: int = 6, inputs: int = 10) -> dict[str, tuple[int, ...]]:
    before = f"base_model.model.{name}.lora_"
    return {f"{before}A.weight": (rank, inputs), f"{before}B.weight": (outputs, rank)}


def test_an_adapter_says_its_base_and_what_it_changes_by_how_much() -> None:
    spec = LoraSpec.read({**GOOD, "bias": "none", "use_dora": False, "arrow_config": None}, shapes())
    (change,) = spec.changes.values()
    assert (spec.base, spec.rank, list(spec.changes)) == ("org/Base", 4, [Q])
    assert (change.rank, change.inputs, change.outputs, change.scale) == (4, 10, 6, 2.0)
    assert matrices([spec]) == {Q: (6, 10)}


def test_rslora_divides_by_the_root_of_the_rank() -> None:
    spec = LoraSpec.read({**GOOD, "use_rslora": True}, shapes())
    assert spec.changes[Q].scale == pytest.approx(8 / math.sqrt(4))


@pytest.mark.parametrize("pattern", ["q_proj", "self_attn.q_proj", Q, f"^{Q}"])
def test_ranks_and_scales_of_single_modules_follow_their_patterns(pattern: str) -> None:
    config = {**GOOD, "rank_pattern": {pattern: 2, "down_proj": 3}, "alpha_pattern": {"other": 1, pattern: 6}}
    spec = LoraSpec.read(config, shapes(rank=2) | shapes(DOWN, rank=3))
    assert (spec.changes[Q].scale, spec.changes[DOWN].scale) == (6 / 2, 8 / 3)
    assert spec.rank == 3


def test_a_pattern_means_whole_parts_of_a_name() -> None:
    assert LoraSpec.read({**GOOD, "alpha_pattern": {"_proj": 1, "^q_proj": 1}}, shapes()).changes[Q].scale == 2.0


@pytest.mark.parametrize("model", ["model.language_model", "language_model.model"])
def test_the_decoder_of_a_model_that_sees_is_found_under_its_own_name(model: str) -> None:
    name = f"{model}.layers.0.self_attn.q_proj"
    assert list(LoraSpec.read(GOOD, shapes(name)).changes) == [Q]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "lora_only"}, "biases"),
        ({"lora_bias": True}, "biases"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"target_parameters": ["experts.w"]}, "target_parameters"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"alora_invocation_tokens": [5]}, "alora_invocation_tokens"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"use_qalora": True}, "use_qalora"),
        ({"use_whatever_comes": True}, "use_whatever_comes"),
        ({"whatever_config": {"a": 1}}, "whatever_config"),
        ({"init_lora_weights": "pissa_niter_16"}, "pissa_niter_16"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"base_model_name_or_path": None}, "base model"),
        ({"rank_pattern": {"(a+)+$": 2}}, "names of modules"),
        ({"r": 8}, "rank should be 8"),
        ({"r": True}, "whole number"),
        ({"lora_alpha": "much"}, "positive number"),
        ({"lora_alpha": None}, "lora_alpha"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(change: dict[str, object], named: str) -> None:
    with pytest.raises(ModelError) as caught:
        LoraSpec.read({**GOOD, **change}, shapes())
    assert named in caught.value.message or named in (caught.value.hint or "")


@pytest.mark.parametrize(
    "tensor",
    [
        "base_model.model.lm_head.lora_A.weight",
        "base_model.model.model.embed_tokens.lora_embedding_A",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        "base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias",
        "base_model.model.model.layers.0.mlp.experts.3.gate_proj.lora_A.weight",
        "base_model.model.model.layers.0.mlp.gate.lora_A.weight",
        "model.layers.0.self_attn.q_proj.weight",
    ],
)
def test_a_tensor_that_is_no_projection_of_a_layer_is_refused_with_what_is(tensor: str) -> None:
    with pytest.raises(ModelError, match="q_proj, k_proj") as caught:
        LoraSpec.read(GOOD, {**shapes(), tensor: (4, 10)})
    assert caught.value.hint is not None and "merge" in caught.value.hint


def test_halves_and_nothing_are_refused() -> None:
    down, _ = shapes().items()
    with pytest.raises(ModelError, match="one half"):
        LoraSpec.read(GOOD, dict([down]))
    with pytest.raises(ModelError, match="changes nothing"):
        LoraSpec.read(GOOD, {})


def test_an_adapter_of_another_base_is_refused_by_the_matrix_that_does_not_fit() -> None:
    spec = LoraSpec.read(GOOD, shapes())
    spec.check({f"{Q}.weight": (6, 10)})
    with pytest.raises(ModelError, match=r"q_proj is \[6, 10\], its base's \[8, 10\]"):
        spec.check({f"{Q}.weight": (8, 10)})
    with pytest.raises(ModelError, match="does not have"):
        spec.check({})


def test_numbers_that_are_none_are_refused_before_anybody_computes_with_them(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path, "base", {Q: (6, 10)})
    before = f"base_model.model.{Q}.lora_"
    broken = np.array([[np.nan] * 10] * 4)
    write_tensors(
        folder / "adapter_model.safetensors", {f"{before}A.weight": broken, f"{before}B.weight": broken[:, :6].T}
    )
    with pytest.raises(ModelError, match="not finite"):
        Adapter.open("mine", folder)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"adapter_config\.json of mine"):
        Adapter.open("mine", folder)


def test_a_step_gets_the_rows_from_its_first_adapter_to_its_last(tmp_path: Path) -> None:
    sizes = {Q: (6, 10)}, {DOWN: (10, 24)}, {Q: (6, 10), DOWN: (10, 24)}
    adapters = [
        Adapter.open(str(rank), write_adapter(tmp_path / str(rank), "base", changes, rank=rank, strength=1.0))
        for rank, changes in enumerate(sizes, 2)
    ]
    stack = AdapterStack(adapters, {f"{Q}.weight": (6, 10), f"{DOWN}.weight": (10, 24)})
    assert stack.down[Q].shape == (9, 10) and stack.up[DOWN].shape == (9, 10)
    assert not stack.down[Q][2:5].any(), "the second does not change it"
    assert [stack.rows(used) for used in ([0, 0], [1, 0], [3], [2, 0, 3], [3, 1])] == [
        slice(0, 0),
        slice(0, 2),
        slice(5, 9),
        slice(2, 9),
        slice(0, 9),
    ]
    mask = stack.mask([2, 0, 3], [1, 2, 1], slice(2, 9))
    assert mask.tolist() == [[1, 1, 1, 0, 0, 0, 0], [0] * 7, [0] * 7, [0, 0, 0, 1, 1, 1, 1]]
    assert not AdapterStack(adapters, {}).down, "a stage of other layers has none of it"
