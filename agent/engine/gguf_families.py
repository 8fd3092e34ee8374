"""GGUF's names for sizes and tensors, and Hugging Face's: config.json as it would stand beside safetensors. Pure.

One row of ``FAMILIES`` for each architecture of llama.cpp; what is in none of them is refused by its name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.engine.gguf_file import GgufFile
from agent.errors import ModelError

_WHOLE: Mapping[str, str] = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER: Mapping[str, str] = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GEMMA: Mapping[str, str] = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_EXPERTS: Mapping[str, str] = {
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
    # A stack of matrices, one an expert: "{}" is its number.
    "ffn_gate_exps": "mlp.experts.{}.gate_proj",
    "ffn_up_exps": "mlp.experts.{}.up_proj",
    "ffn_down_exps": "mlp.experts.{}.down_proj",
}
_EXPERT_SIZES: Mapping[str, str] = {
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
}
_COMPUTED = frozenset({"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"})
_LOW, _HIGH = 1.0, 4.0  # every published Llama 3 has these frequency factors


@dataclass(frozen=True, slots=True)
class GgufFamily:
    """How an architecture of llama.cpp is one of Hugging Face's."""

    architecture: str
    model_type: str
    names: Mapping[str, str] = field(default_factory=dict)  # of a layer's tensors, where they differ from _LAYER
    interleaved: bool = False  # rows of query and key stand in pairs, as llama.cpp's first kind of rotation takes them
    norms_plus_one: bool = False  # norms hold 1 + weight
    sizes: Mapping[str, str] = field(default_factory=dict)  # further whole numbers: config key -> metadata
    numbers: Mapping[str, str] = field(default_factory=dict)  # further numbers, left out where the file has none
    constants: Mapping[str, object] = field(default_factory=dict)


FAMILIES: Mapping[str, GgufFamily] = {
    "llama": GgufFamily("LlamaForCausalLM", "llama", interleaved=True),
    "mistral3": GgufFamily("MistralForCausalLM", "mistral", interleaved=True, constants={"sliding_window": None}),
    "qwen2": GgufFamily("Qwen2ForCausalLM", "qwen2"),
    "qwen3": GgufFamily("Qwen3ForCausalLM", "qwen3"),
    "qwen2moe": GgufFamily(
        "Qwen2MoeForCausalLM",
        "qwen2_moe",
        names=_EXPERTS,
        sizes={**_EXPERT_SIZES, "shared_expert_intermediate_size": "expert_shared_feed_forward_length"},
        constants={"norm_topk_prob": False},
    ),
    "qwen3moe": GgufFamily(
        "Qwen3MoeForCausalLM",
        "qwen3_moe",
        names=_EXPERTS,
        sizes=_EXPERT_SIZES,
        constants={"norm_topk_prob": True},
    ),
    "gemma2": GgufFamily(
        "Gemma2ForCausalLM",
        "gemma2",
        names=_GEMMA,
        norms_plus_one=True,
        sizes={"sliding_window": "attention.sliding_window"},
        numbers={
            "attn_logit_softcapping": "attn_logit_softcapping",
            "final_logit_softcapping": "final_logit_softcapping",
        },
        constants={"hidden_activation": "gelu_pytorch_tanh"},
    ),
    "gemma3": GgufFamily(
        "Gemma3ForCausalLM",
        "gemma3_text",
        names=_GEMMA,
        norms_plus_one=True,
        sizes={"sliding_window": "attention.sliding_window"},
        numbers={"final_logit_softcapping": "final_logit_softcapping"},
        constants={
            "hidden_activation": "gelu_pytorch_tanh",
            "rope_local_base_freq": 10000.0,
            "sliding_window_pattern": 6,
        },
    ),
    "phi3": GgufFamily(
        "Phi3ForCausalLM", "phi3", names={"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}
    ),
    "granite": GgufFamily(
        "GraniteForCausalLM",
        "granite",
        interleaved=True,
        numbers={
            "attention_multiplier": "attention.scale",
            "embedding_multiplier": "embedding_scale",
            "residual_multiplier": "residual_scale",
            "logits_scaling": "logit_scale",
        },
    ),
}
# The largest Gemmas scale attention by another size than that of their heads: llama.cpp tells them by their layers.
_GEMMA_27B_LAYERS = {"gemma2": 46, "gemma3": 62}


def family_of(file: GgufFile) -> GgufFamily:
    """The row of a file's architecture. Raises ModelError naming an unknown one."""
    family = FAMILIES.get(file.architecture)
    if family is None:
        raise ModelError(
            f"unknown architecture {file.architecture!r} in {file.files[0].name}", hint=f"known: {', '.join(FAMILIES)}"
        )
    return family


def config_of(file: GgufFile) -> dict[str, object]:
    """config.json as the original model has it. Raises ModelError where the metadata lack what it needs."""
    family, at = family_of(file), f"{file.architecture}."
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise ModelError(f"{file.files[0].name} lacks token_embd.weight", hint="it holds no whole model")
    hidden, heads = file.whole(f"{at}embedding_length"), file.whole(f"{at}attention.head_count")
    head_dim = file.whole(f"{at}attention.key_length", hidden // heads if heads > 0 else 0)
    layers = file.whole(f"{at}block_count")
    config: dict[str, object] = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": file.whole(f"{at}attention.head_count_kv", heads),
        "head_dim": head_dim,
        "intermediate_size": file.whole(f"{at}feed_forward_length", 0) or file.whole(f"{at}expert_feed_forward_length"),
        "vocab_size": embedding.shape[0],
        "max_position_embeddings": file.whole(f"{at}context_length"),
        "rms_norm_eps": file.number(f"{at}attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
        "mlp_bias": "blk.0.ffn_gate.bias" in file.tensors,
        "rope_parameters": _rope(file, head_dim),
        **family.constants,
        **{key: file.whole(at + name) for key, name in family.sizes.items()},
        **{key: file.number(at + name) for key, name in family.numbers.items() if at + name in file.metadata},
    }
    if family.model_type.startswith("gemma"):
        large = layers == _GEMMA_27B_LAYERS[file.architecture]
        config["query_pre_attn_scalar"] = hidden // heads if large and heads > 0 else head_dim
    if family.model_type == "phi3":
        config["sliding_window"] = file.whole(f"{at}attention.sliding_window", 0) or None
        config["original_max_position_embeddings"] = file.whole(f"{at}rope.scaling.original_context_length", 0) or None
    if "blk.0.ffn_gate_exps.weight" in file.tensors and family.names is not _EXPERTS:
        config["architectures"] = ["MixtralForCausalLM"]  # shares its name with Llama
    return config


def name_of(family: GgufFamily, name: str) -> str | None:
    """A tensor's name in a Hugging Face checkpoint; None for what is computed from config.json there.

    "{}" in it stands for the number of an expert.
    """
    if name in _COMPUTED:
        return None
    if name in _WHOLE:
        return _WHOLE[name]
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[3] in ("weight", "bias"):
        known = family.names.get(parts[2]) or _LAYER.get(parts[2])
        if known is not None:
            return f"model.layers.{parts[1]}.{known}.{parts[3]}"
    return name  # what no spec asks for harms nobody


def _rope(file: GgufFile, head_dim: int) -> dict[str, object]:
    at = f"{file.architecture}.rope."
    theta = file.number(f"{at}freq_base", 10000.0)
    rope: dict[str, object] = {"rope_type": "default", "rope_theta": theta}
    rotated = file.whole(f"{at}dimension_count", head_dim)
    if rotated != head_dim and head_dim > 0:
        rope["partial_rotary_factor"] = rotated / head_dim
    factors = file.floats("rope_freqs.weight")
    if factors is not None:
        return rope | _llama3(factors, theta, file.files[0].name)
    context = file.whole(f"{file.architecture}.context_length")
    long, short = file.floats("rope_factors_long.weight"), file.floats("rope_factors_short.weight")
    if long is not None and short is not None:
        rope |= {"rope_type": "longrope", "long_factor": long, "short_factor": short}
        rope["original_max_position_embeddings"] = file.whole(f"{at}scaling.original_context_length", context)
        if f"{at}scaling.attn_factor" in file.metadata:
            rope["attention_factor"] = file.number(f"{at}scaling.attn_factor")
        return rope
    kind = file.text(f"{at}scaling.type", "none")
    if kind == "none":
        return rope
    rope |= {"rope_type": kind, "factor": file.number(f"{at}scaling.factor", 1.0)}
    if kind == "yarn":
        rope["original_max_position_embeddings"] = file.whole(f"{at}scaling.original_context_length", context)
        for key, name in (("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")):
            if f"{at}scaling.{name}" in file.metadata:
                rope[key] = file.number(f"{at}scaling.{name}")
    return rope


def _llama3(factors: list[float], theta: float, name: str) -> dict[str, object]:
    """Llama 3's scaling of the frequencies, told from the factors that it gave: the file keeps nothing else of it.

    A blended factor f of a wavelength w is 1 / ((1 - s) / factor + s), s = (original / w - low) / (high - low).
    """
    largest = max(factors)
    wavelengths = [2 * math.pi * theta ** (index / len(factors)) for index in range(len(factors))]
    blended = [pair for pair in zip(wavelengths, factors, strict=True) if 1.0001 < pair[1] < largest * 0.9999]
    if blended:
        wavelength, factor = min(blended, key=lambda pair: pair[1])
        share = (1 / factor - 1 / largest) / (1 - 1 / largest)
        original = round(wavelength * (_LOW + share * (_HIGH - _LOW)))
    else:  # any length between the last wavelength that is kept and the first that is divided
        kept = [wavelength for wavelength, factor in zip(wavelengths, factors, strict=True) if factor <= 1.0001]
        original = round(max(kept, default=1.0) * _HIGH)
    for wavelength, factor in zip(wavelengths, factors, strict=True):
        share = min(1.0, max(0.0, (original / wavelength - _LOW) / (_HIGH - _LOW)))
        if abs(factor * ((1 - share) / largest + share) - 1) > 1e-3:
            raise ModelError(f"the rope_freqs of {name} are none that Llama 3's scaling gives")
    return {
        "rope_type": "llama3",
        "factor": largest,
        "low_freq_factor": _LOW,
        "high_freq_factor": _HIGH,
        "original_max_position_embeddings": original,
    }
