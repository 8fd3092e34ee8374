"""What a folder says of itself: kinds of weights, counts by kind, and the numbers that memory follows from."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from fake_models import write_checkpoint

from agent.models.checkpoint import inspect
from agent.models.checkpoint_sizes import Sizes, Widths, measure
from agent.models.details import describe


def write_safetensors(file: Path, tensors: dict[str, tuple[str, tuple[int, ...], int]]) -> None:
    """Zeros of these types, shapes and bytes."""
    header: dict[str, object] = {}
    end = 0
    for name, (kind, shape, size) in tensors.items():
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


def change_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def test_tensors_are_counted_by_what_their_memory_follows_from() -> None:
    tensors = [
        ("model.embed_tokens.weight", (100, 256)),
        ("lm_head.weight", (100, 256)),
        ("model.layers.0.self_attn.q_proj.weight", (64, 256)),
        ("model.layers.0.mlp.down_proj.weight", (256, 96)),
        ("model.layers.0.mlp.odd.weight", (8, 50)),
        ("model.layers.0.mlp.experts.down_proj", (4, 256, 128)),
        ("model.norm.weight", (256,)),
    ]
    sizes = measure(tensors)
    assert sizes == Sizes(25600, 25600, 64 * 256 + 4 * 256 * 128, 256 * 96, 400, 256)
    assert measure(tensors, tied=True).head == 0 and sizes.total - measure(tensors, tied=True).total == 25600


@pytest.mark.parametrize(("method", "packed"), [("gptq", (128 // 8, 64)), ("awq", (128, 64 // 8))], ids=["gptq", "awq"])
def test_weights_that_came_quantised_count_as_what_they_stand_for(
    tmp_path: Path, method: str, packed: tuple[int, int]
) -> None:
    folder = write_checkpoint(tmp_path / "m")
    change_config(folder, quantization_config={"quant_method": method, "bits": 4, "group_size": 128})
    at = "model.layers.0.mlp.up_proj"
    write_safetensors(
        folder / "model.safetensors",
        {
            f"{at}.qweight": ("I32", packed, packed[0] * packed[1] * 4),
            f"{at}.qzeros": ("I32", (1, 8), 32),
            f"{at}.scales": ("F16", (1, 64), 128),
            "model.norm.weight": ("F16", (128,), 256),
        },
    )
    model = inspect("m", folder, builtin=False)
    assert not model.broken and model.quantisation == f"{method}-int4"
    assert model.sizes == Sizes(grouped=128 * 64, vectors=128) and model.parameters == 128 * 65


@pytest.mark.parametrize(
    "said",
    [{"quant_method": "bitsandbytes", "load_in_4bit": True}, {"quant_method": "gptq", "bits": "four"}, {}],
)
def test_weights_in_a_form_that_nobody_knows_are_broken_with_their_name(tmp_path: Path, said: object) -> None:
    folder = write_checkpoint(tmp_path / "m")
    change_config(folder, quantization_config=said)
    assert "gptq and awq are known" in inspect("m", folder, builtin=False).broken


def write_gguf(folder: Path) -> Path:
    """A tiny llama in one GGUF file, written by the format's own package."""
    folder.mkdir()
    writer = gguf.GGUFWriter(folder / "model-Q8_0.gguf", "llama")
    writer.add_block_count(1)
    writer.add_context_length(2048)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(128)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_license("apache-2.0")
    writer.add_chat_template("{{ messages }}")
    shapes = {
        "token_embd.weight": (32, 64),
        "output_norm.weight": (64,),
        "blk.0.attn_q.weight": (64, 64),
        "blk.0.ffn_down.weight": (64, 128),
    }
    for name, shape in shapes.items():
        values = np.zeros(shape, np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, values)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder


def test_a_folder_with_one_gguf_file_is_a_model(tmp_path: Path) -> None:
    model = inspect("g", write_gguf(tmp_path / "g"), builtin=False)
    assert not model.broken
    assert (model.kind, model.architecture, model.format, model.quantisation) == (
        "text",
        "LlamaForCausalLM",
        "gguf",
        "Q8_0",
    )
    assert model.context_length == 2048 and model.widths == Widths(1, 4, 2, 16, 64, 128, 32)
    assert model.sizes == Sizes(embedding=32 * 64, small_grouped=64 * 64, grouped=64 * 128, vectors=64)
    assert model.parameters == 32 * 64 + 64 * 64 + 64 * 128 + 64
    details = describe(model)
    assert (details.licence, details.template, details.sampling) == ("apache-2.0", "{{ messages }}", {})
    (model.path / "ollama-params.json").write_text('{"temperature": 0.5, "stop": ["x"]}')
    (model.path / "chat_template.jinja").write_text("mine")
    assert (describe(model).template, describe(model).sampling) == ("mine", {"temperature": 0.5})
    (model.path / "generation_config.json").write_text('{"top_k": 20}')
    assert describe(model).sampling == {"top_k": 20}


def test_a_gguf_file_that_is_cut_short_is_broken(tmp_path: Path) -> None:
    folder = write_gguf(tmp_path / "g")
    file = next(folder.iterdir())
    file.write_bytes(file.read_bytes()[:-64])
    model = inspect("g", folder, builtin=False)
    assert "model-Q8_0.gguf" in model.broken and describe(model).licence == ""


def test_a_licence_is_found_in_its_text_where_no_card_names_it(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    (folder / "README.md").write_text("# A model\nlicense: not the front matter\n")
    assert describe(inspect("m", folder, builtin=False)).licence == ""
    (folder / "LICENSE.txt").write_text("\n  MIT License\n\nCopyright\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]})
    )
    (folder / "generation_config.json").write_text("[]")
    details = describe(inspect("m", folder, builtin=False))
    assert (details.licence, details.template, details.sampling) == ("MIT License", "d", {})
