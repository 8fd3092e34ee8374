"""A decoder is read from its config.json; what the engine does not know is one clear error."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from checkpoints import CONTEXT, FAMILIES, random_checkpoint

from agent.engine.decoder import EMBEDDING, FINAL_NORM, HEAD, DecoderSpec
from agent.engine.rope import Rope
from agent.engine.weights import Checkpoint
from agent.errors import ModelError

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_spec_and_frequencies_are_those_of_transformers(name: str) -> None:
    checkpoint = random_checkpoint(name)
    spec = DecoderSpec.from_config(json.loads((checkpoint.folder / "config.json").read_text()))
    config = checkpoint.model.config
    assert (spec.layers, spec.heads, spec.kv_heads) == (
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_key_value_heads,
    )
    rotary = checkpoint.model.model.rotary_emb
    expected = {
        value.numpy().tobytes(): value.numpy() for key, value in rotary.named_buffers() if "original" not in key
    }
    ropes = {rope for rope in spec.ropes if rope is not None}
    assert len(ropes) == len(expected)
    for rope in ropes:
        either = (rope, rope.within(CONTEXT))  # longrope's buffer holds what the model was last asked for
        near = (np.abs(value / one.inverse_frequencies() - 1).max() for value in expected.values() for one in either)
        assert min(near) < 2e-6
    shapes = Checkpoint.open(checkpoint.folder).shapes
    spec.check(shapes)
    assert set(shapes) - {HEAD} == set(spec.tensors(range(spec.layers))) - {HEAD}


def test_a_config_of_transformers_4_reads_as_well() -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    spec = DecoderSpec.from_config({**LLAMA, "rope_theta": 500000.0, "rope_scaling": scaling})
    assert spec.ropes == (Rope(16, 500000.0, "llama3", 8.0, 1.0, 4.0, 8192),) * 2
    assert DecoderSpec.from_config({**LLAMA, "rope_scaling": None}).ropes == (Rope(16, 10000.0),) * 2
    old = DecoderSpec.from_config({**LLAMA, "rope_scaling": {"type": "linear", "factor": 2.0}})
    assert old.ropes == (Rope(16, 10000.0, "linear", 2.0),) * 2


def test_windows_follow_the_rules_of_their_family() -> None:
    mistral = {**LLAMA, "architectures": ["MistralForCausalLM"]}
    assert DecoderSpec.from_config({**mistral, "sliding_window": 128}).windows == (128, 128)
    assert DecoderSpec.from_config({**mistral, "sliding_window": None}).windows == (0, 0)
    qwen = {**LLAMA, "architectures": ["Qwen2ForCausalLM"], "sliding_window": 64, "max_window_layers": 1}
    assert DecoderSpec.from_config(qwen).windows == (0, 0)  # use_sliding_window is not set
    assert DecoderSpec.from_config({**qwen, "use_sliding_window": True}).windows == (0, 64)
    kinds = ["sliding_attention", "full_attention"]
    assert DecoderSpec.from_config({**qwen, "use_sliding_window": True, "layer_types": kinds}).windows == (64, 0)


def test_a_stage_reads_its_own_tensors_alone() -> None:
    spec = DecoderSpec.from_config({**LLAMA, "tie_word_embeddings": True})
    first, second = spec.tensors(range(1)), spec.tensors(range(1, 2))
    assert EMBEDDING in first and FINAL_NORM not in first
    assert EMBEDDING in second and FINAL_NORM in second and HEAD not in second  # the head is the embedding
    untied = DecoderSpec.from_config(LLAMA).tensors(range(1, 2))
    assert HEAD in untied and EMBEDDING not in untied


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel"),
        ({"architectures": None}, "names no architecture"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"rope_scaling": {"rope_type": "spiral", "factor": 4.0}}, "spiral"),
        ({"rope_scaling": {"rope_type": "linear"}}, "lacks factor"),
        ({"rope_scaling": "linear"}, "not an object"),
        ({"partial_rotary_factor": 0.2}, "no pairs"),
        ({"partial_rotary_factor": 2.0}, "no pairs"),
        ({"num_hidden_layers": None}, "lacks num_hidden_layers"),
        ({"num_hidden_layers": 10**9}, "whole number"),
        ({"hidden_size": "64"}, "whole number"),
        ({"hidden_size": True}, "whole number"),
        ({"num_key_value_heads": 3}, "no multiple"),
        ({"head_dim": 15}, "odd"),
        ({"rms_norm_eps": float("nan")}, "positive number"),
        ({"tie_word_embeddings": "yes"}, "true or false"),
    ],
)
def test_what_the_engine_cannot_read_is_one_clear_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        DecoderSpec.from_config({**LLAMA, **change})


def test_an_unknown_architecture_names_the_known_ones() -> None:
    with pytest.raises(ModelError) as caught:
        DecoderSpec.from_config({**LLAMA, "architectures": ["GPT2LMHeadModel"]})
    assert caught.value.hint is not None
    for known in ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"):
        assert known in caught.value.hint


def test_missing_tensors_and_wrong_shapes_are_named() -> None:
    spec = DecoderSpec.from_config(LLAMA)
    shapes = spec.tensors(range(2))
    lacking = {name: shape for name, shape in shapes.items() if "layers.1.mlp" not in name}
    with pytest.raises(ModelError, match=r"lacks model\.layers\.1\.mlp\.gate_proj\.weight, "):
        spec.check(lacking)
    with pytest.raises(ModelError, match=r"model\.norm\.weight is \[63\], not \[64\]"):
        spec.check({**shapes, FINAL_NORM: (63,)})
