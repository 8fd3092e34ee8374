"""What an embedding model's folder says about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from encoders import PUBLISHED_NOMIC, minilm_folder

from agent.engine.encoder_spec import EncoderSpec, architecture
from agent.errors import ModelError

BERT = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}


def folder_with(tmp_path: Path, **files: object) -> Path:
    for name, content in files.items():
        path = tmp_path / name.replace("__", "/")
        path = path.with_name(path.name + ".json")
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return tmp_path


def test_the_real_model_is_read_with_its_pooling_and_its_limit() -> None:
    spec = EncoderSpec.from_folder(minilm_folder())
    assert (spec.layers, spec.hidden_size, spec.heads, spec.head_size) == (6, 384, 12, 32)
    assert (spec.pooling, spec.context_length, spec.activation) == ("mean", 256, "gelu")


def test_both_styles_of_a_nomic_config_mean_the_same() -> None:
    styled = {
        "model_type": "nomic_bert",
        "vocab_size": 331,
        "hidden_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 160,
        "max_position_embeddings": 64,
        "hidden_act": "silu",
        "rope_parameters": {"rope_theta": 1000.0, "rope_type": "default"},
    }
    spec = EncoderSpec.from_config(PUBLISHED_NOMIC)
    assert spec == EncoderSpec.from_config(styled)
    assert spec.gated and spec.rope_theta == 1000.0 and not spec.attention_bias and not spec.mlp_bias


def test_a_model_without_files_of_sentence_transformers_pools_by_the_mean(tmp_path: Path) -> None:
    spec = EncoderSpec.from_folder(folder_with(tmp_path, config=BERT))
    assert (spec.pooling, spec.context_length) == ("mean", 40)


@pytest.mark.parametrize(
    "pooling", [{"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, {"pooling_mode": "cls"}]
)
def test_a_model_may_pool_by_its_first_token(tmp_path: Path, pooling: dict[str, object]) -> None:
    modules = [{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]
    spec = EncoderSpec.from_folder(
        folder_with(tmp_path, config=BERT, modules=modules, **{"1_Pooling__config": pooling})
    )
    assert spec.pooling == "cls"


@pytest.mark.parametrize(
    ("pooling", "says"),
    [
        ({"pooling_mode": "max"}, "max"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "mean and cls"),
    ],
)
def test_a_pooling_that_is_not_computed_is_refused(tmp_path: Path, pooling: dict[str, object], says: str) -> None:
    modules = [{"type": "Pooling", "path": "1_Pooling"}]
    with pytest.raises(ModelError, match=f"pools by {says}"):
        EncoderSpec.from_folder(folder_with(tmp_path, config=BERT, modules=modules, **{"1_Pooling__config": pooling}))


@pytest.mark.parametrize(
    ("module", "says"),
    [({"type": "a.Dense", "path": "2_Dense"}, "Dense"), ({"type": "a.Pooling", "path": "../../etc"}, "not a folder")],
)
def test_a_module_that_is_not_computed_or_lies_elsewhere_is_refused(
    tmp_path: Path, module: dict[str, object], says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        EncoderSpec.from_folder(folder_with(tmp_path, config=BERT, modules=[module]))


def test_an_unknown_architecture_is_refused_with_the_known_ones_named() -> None:
    with pytest.raises(ModelError, match="T5Model") as caught:
        EncoderSpec.from_config({**BERT, "architectures": ["T5Model"]})
    assert caught.value.hint is not None and "BertModel" in caught.value.hint
    assert architecture({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": 33}, "33 cannot be split into 4"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"vocab_size": "many"}, "vocab_size"),
        ({"layer_norm_eps": -1}, "layer_norm_eps"),
        ({"hidden_act": "maxout"}, "maxout"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ],
)
def test_a_config_that_makes_no_sense_is_an_error_that_names_the_field(change: dict[str, object], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        EncoderSpec.from_config({**BERT, **change})


@pytest.mark.parametrize(
    "change", [{"prenorm": True}, {"rotary_scaling_factor": 2.0}, {"rotary_emb_fraction": 0.5}, {"use_rms_norm": True}]
)
def test_a_variant_of_nomic_bert_that_is_not_computed_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="not supported"):
        EncoderSpec.from_config({**PUBLISHED_NOMIC, **change})


def test_files_that_are_missing_or_no_json_are_errors_of_the_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        EncoderSpec.from_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        EncoderSpec.from_folder(tmp_path)
