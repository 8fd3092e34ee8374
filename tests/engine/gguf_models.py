"""Hugging Face checkpoints written as GGUF by the gguf package, with its table of names, as llama.cpp's converter."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import safetensors.torch

from agent.engine.base import Floats

ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "gemma2": gguf.MODEL_ARCH.GEMMA2,
    "gemma3_text": gguf.MODEL_ARCH.GEMMA3,
    "phi3": gguf.MODEL_ARCH.PHI3,
    "granite": gguf.MODEL_ARCH.GRANITE,
}
_PAIRED = (gguf.MODEL_ARCH.LLAMA, gguf.MODEL_ARCH.GRANITE)  # rotate neighbouring rows
F16 = gguf.GGMLQuantizationType.F16


def write_gguf(
    folder: Path,
    target: Path,
    kind: gguf.GGMLQuantizationType = F16,
    *,
    tokens: list[str] | None = None,
    **metadata: object,
) -> Path:
    """Write a checkpoint's matrices as ``kind``, vectors in float32. ``metadata``: further keys, "__" for a dot."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    arch = ARCHITECTURES[config["model_type"]]
    writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[arch])
    _add_config(writer, config, arch)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens if tokens is not None else _letters(config["vocab_size"]))
    for key, value in metadata.items():
        _add(writer, key.replace("__", "."), value)
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, tensor in tensors_of(folder).items():
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert known is not None, name
        count = heads.get(name.split(".")[-2])
        if arch in _PAIRED and count is not None:
            tensor = interleave(tensor, count)
        if config["model_type"].startswith("gemma") and name.endswith("norm.weight"):
            tensor = tensor + 1
        if tensor.ndim == 1 or kind == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(known, tensor.astype(np.float32))
        else:
            writer.add_tensor(known, gguf.quants.quantize(tensor, kind), raw_dtype=kind)
    for name, factors in _factors(config).items():
        writer.add_tensor(name, factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def tensors_of(folder: Path) -> dict[str, Floats]:
    """A checkpoint's tensors as float32, by the library's own reader."""
    return {
        name: value.float().numpy() for name, value in safetensors.torch.load_file(folder / "model.safetensors").items()
    }


def interleave(weight: Floats, heads: int) -> Floats:
    """LlamaModel.permute of llama.cpp's convert_hf_to_gguf.py."""
    return (
        weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)
    )


def _add_config(writer: gguf.GGUFWriter, config: dict[str, Any], arch: gguf.MODEL_ARCH) -> None:
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_key_length(head_dim)
    rope = config.get("rope_parameters") or {"rope_theta": config["rope_theta"]}
    rope = rope.get("full_attention", rope)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1.0)))
    kind = rope.get("rope_type", "default")
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(rope["factor"])
    if "original_max_position_embeddings" in rope and kind != "llama3":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if kind == "longrope":
        scale = config["max_position_embeddings"] / rope["original_max_position_embeddings"]
        writer.add_rope_scaling_attn_factors(
            math.sqrt(1 + math.log(scale) / math.log(rope["original_max_position_embeddings"]))
        )
    if config.get("sliding_window") and arch not in (
        gguf.MODEL_ARCH.LLAMA,
        gguf.MODEL_ARCH.QWEN2,
        gguf.MODEL_ARCH.QWEN3,
    ):
        writer.add_sliding_window(config["sliding_window"])
    for key, add in (
        ("attn_logit_softcapping", writer.add_attn_logit_softcapping),
        ("final_logit_softcapping", writer.add_final_logit_softcapping),
        ("attention_multiplier", writer.add_attention_scale),
        ("embedding_multiplier", writer.add_embedding_scale),
        ("residual_multiplier", writer.add_residual_scale),
        ("logits_scaling", writer.add_logit_scale),
    ):
        if config.get(key):
            add(config[key])


def _factors(config: dict[str, Any]) -> dict[str, Floats]:
    """What llama.cpp's converter writes of a rotary scaling as tensors."""
    rope = config.get("rope_parameters", {})
    if rope.get("rope_type") == "longrope":
        return {
            f"rope_factors_{part}.weight": np.array(rope[f"{part}_factor"], np.float32) for part in ("long", "short")
        }
    if rope.get("rope_type") != "llama3":
        return {}
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    frequencies = rope["rope_theta"] ** (-np.arange(0, head_dim, 2) / head_dim)
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * np.pi)
    smooth = (turns - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
    factors = 1 / ((1 - smooth) / rope["factor"] + smooth)
    factors = np.where(
        turns > rope["high_freq_factor"], 1, np.where(turns < rope["low_freq_factor"], rope["factor"], factors)
    )
    return {"rope_freqs.weight": factors.astype(np.float32)}


def _letters(count: int) -> list[str]:
    """A vocabulary for tests that look at numbers alone."""
    return [f"t{index}" for index in range(count)]


def _add(writer: gguf.GGUFWriter, key: str, value: object) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        assert isinstance(value, list)
        writer.add_array(key, value)
