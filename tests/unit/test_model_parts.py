"""What the parts of a model take: together what a load takes, each as its own tensors are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_models import write_checkpoint
from sparse_checkpoint import write_sparse

from agent.errors import ModelError
from agent.models.checkpoint import inspect
from agent.models.memory import Form, Settings, estimate
from agent.models.options import LoadOptions
from agent.models.parts import need_of
from agent.models.store import builtin_models

SMALL: dict[str, Any] = {"hidden_size": 512, "num_attention_heads": 8, "num_hidden_layers": 6}
EXPERTS: dict[str, Any] = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "head_dim": 64,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 256,
    "norm_topk_prob": True,
    "mlp_only_layers": [0, 5],
    "intermediate_size": 512,
}


@pytest.mark.parametrize("form", ["openvino", "onnx"])
@pytest.mark.parametrize("quantisation", ["float", "int8", "int4", "int4-g32"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_parts_add_up_to_what_a_load_takes_on_one_node(
    tmp_path: Path, form: Form, quantisation: str, tied: bool
) -> None:
    model = inspect("m", write_sparse(tmp_path / "m", **SMALL, tie_word_embeddings=tied), builtin=False)
    memory = estimate(model, LoadOptions(quantisation=quantisation, context_length=1000), Settings(form=form))
    need = need_of(model, memory)
    assert need.whole == memory.total
    assert need.cache * need.tokens * 6 == memory.cache and need.tokens >= 4 * 1000
    assert min(need.layers) > 0 and max(need.layers) - min(need.layers) <= 1, "layers that are alike take the same"
    assert need.takes(0, 2) + need.takes(3, 5) == need.whole + need.stage, "a further node pays for its own runtime"


def test_a_layer_with_experts_takes_more_than_one_without(tmp_path: Path) -> None:
    model = inspect("m", write_sparse(tmp_path / "m", **{**SMALL, **EXPERTS}), builtin=False)
    need = need_of(model, estimate(model, LoadOptions(quantisation="int8")))
    dense, mixed = need.layers[0], need.layers[1]
    assert need.layers == pytest.approx((dense, mixed, mixed, mixed, mixed, dense), abs=1)
    matrices = 8 * 3 * 256 * 512  # in int8 a byte each; the attention and the norms of both are the same
    assert mixed - dense == pytest.approx(matrices + 8 * 512 - 3 * 512 * 512, rel=0.001)


def test_the_models_that_come_with_the_device_have_parts_too() -> None:
    for name, path in builtin_models().items():
        model = inspect(name, path, builtin=True)
        memory = estimate(model, LoadOptions())
        need = need_of(model, memory)
        assert need.whole == memory.total
        assert len(need.layers) == (5 if model.kind == "text" else 1)


def test_a_folder_that_describes_no_decoder_is_refused(tmp_path: Path) -> None:
    model = inspect("m", write_checkpoint(tmp_path / "m"), builtin=False)
    with pytest.raises(ModelError, match="intermediate_size"):
        need_of(model, estimate(model, LoadOptions()))
