"""A decoder is read from its config.json; what the engine does not know is one clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import CONTEXT, FAMILIES, random_checkpoint
from safetensors.torch import load_file, save_file

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


@pytest.mark.parametrize("before", ["language_model.model.", "model.language_model."])
def test_the_text_part_of_a_model_that_sees_is_read_as_if_it_were_alone(before: str, tmp_path: Path) -> None:
    source = random_checkpoint("gemma3").folder
    text = json.loads((source / "config.json").read_text())
    tensors = {
        name.replace("model.", before, 1): value for name, value in load_file(source / "model.safetensors").items()
    }
    save_file(
        {**tensors, "vision_tower.weight": next(iter(tensors.values()))[:1].clone()}, tmp_path / "model.safetensors"
    )
    seeing = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": {**text, "architectures": None}}
    spec = DecoderSpec.from_config(seeing)
    assert spec == DecoderSpec.from_config(text)
    spec.check(Checkpoint.open(tmp_path).shapes)


def test_googles_short_configs_are_filled_up_with_what_the_family_assumes() -> None:
    """That of gemma-3-4b-it, which names no more than this."""
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    spec = DecoderSpec.from_config({"architectures": ["Gemma3ForConditionalGeneration"], "text_config": text})
    assert (spec.heads, spec.kv_heads, spec.head_dim, spec.vocab) == (8, 4, 256, 262208)
    assert (spec.tied, spec.attention_scale, spec.logit_cap) == (True, 1 / 16, 0.0)
    assert spec.windows[:7] == (1024,) * 5 + (0, 1024)
    assert spec.ropes[0] == Rope(256, 10000.0) and spec.ropes[5] == Rope(256, 1000000.0, "linear", 8.0)


def test_yarn_and_dynamic_scaling_reach_beyond_the_length_that_was_trained() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
    assert DecoderSpec.from_config({**LLAMA, "rope_scaling": yarn}).context_length == 2048
    stretched = {**LLAMA, "max_position_embeddings": 2048, "rope_scaling": yarn}  # says it already
    assert DecoderSpec.from_config(stretched).context_length == 2048
    dynamic = DecoderSpec.from_config({**LLAMA, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}})
    assert dynamic.context_length == 1024
    (near, _), (far, _) = dynamic.within(512).ropes, dynamic.within(1024).ropes
    assert near is not None and far is not None
    np.testing.assert_allclose(near.inverse_frequencies(), Rope(16).inverse_frequencies())
    assert far.theta == pytest.approx(10000.0 * 3 ** (16 / 14))  # factor * 1024 / 512 - (factor - 1) = 3


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
        ({"rope_theta": 1.0}, "above 1"),
        ({"rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": 1}}, "whole number of 2"),
        ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}}, "list of 8"),
        ({"use_bidirectional_attention": True}, "looks ahead"),
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
