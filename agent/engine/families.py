"""The families of decoders that the engine knows: a row each, of what config.json does not say. Pure.

Most of what sets families apart is in their config.json. A row holds the rest: what the architecture fixes, and the
values that transformers assumes where a config of the family is silent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from agent.engine.base import Json
from agent.engine.decoder_config import LONGEST, flag, section, size
from agent.errors import ModelError

Activation = Literal["silu", "gelu_tanh"]

# Names in config.json. Gemma's first configs say gelu and mean its approximation by tanh.
_ACTIVATIONS: Mapping[Activation, tuple[str, ...]] = {
    "silu": ("silu", "swish"),
    "gelu_tanh": ("gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu"),
}


def _first_sliding(config: Json, layer: int) -> bool:
    """All but each n-th layer have a window: every second one in Gemma 2, five of six in Gemma 3."""
    return (layer + 1) % size(config, "sliding_window_pattern") != 0


def _late_sliding(config: Json, layer: int) -> bool:
    return layer >= size(config, "max_window_layers", least=0)


def _odd_sliding(config: Json, layer: int) -> bool:
    return layer % 2 == 0 and layer < size(config, "max_window_layers", least=0)


def _all_sliding(config: Json, layer: int) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Family:
    """What an architecture fixes or leaves to its config.json; ``None`` in a bias: the config decides."""

    qkv_bias: bool | None = False
    output_bias: bool | None = False
    ffn_bias: bool | None = False
    qk_norm: bool = False
    activation: Activation = "silu"
    gemma: bool = False  # norms multiply by weight + 1, and the embedding by the root of its size
    post_norms: bool = False  # norms after attention and feed-forward, too
    fused: bool = False  # query, key and value are one matrix, gate and up another
    experts: bool = False
    window: Callable[[Json, int], bool] | None = None  # whether a layer has a window, where no layer_types says it
    window_switch: bool = False  # there are windows only where use_sliding_window is true
    defaults: Json = field(default_factory=dict)


_QWEN_WINDOW: Json = {"sliding_window": 4096, "max_window_layers": 28}
_GEMMA: Json = {"tie_word_embeddings": True, "head_dim": 256}
_GEMMA2: Json = {
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "sliding_window_pattern": 2,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}
_GEMMA3: Json = {  # Google's configs name little more than the number of layers
    "vocab_size": 262208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131072,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "sliding_window_pattern": 6,
}
_LLAMA = Family(qkv_bias=None, output_bias=None, ffn_bias=None)

FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": _LLAMA,
    "SmolLM3ForCausalLM": Family(
        qkv_bias=None,
        output_bias=None,
        ffn_bias=None,
        window=lambda config, layer: (layer + 1) % size(config, "no_rope_layer_interval") == 0,
        window_switch=True,
        defaults={"no_rope_layer_interval": 4, "rope_theta": 2000000.0, "tie_word_embeddings": True},
    ),
    "GraniteForCausalLM": _LLAMA,
    "MistralForCausalLM": Family(window=_all_sliding, defaults={"sliding_window": 4096}),  # v0.1's; later ones say null
    "MinistralForCausalLM": Family(window=_all_sliding, defaults={"sliding_window": 4096}),
    "Ministral3ForCausalLM": Family(window=_all_sliding),
    "Qwen2ForCausalLM": Family(qkv_bias=True, window=_late_sliding, window_switch=True, defaults=_QWEN_WINDOW),
    "Qwen2MoeForCausalLM": Family(
        qkv_bias=True, experts=True, window=_odd_sliding, window_switch=True, defaults=_QWEN_WINDOW
    ),
    "Qwen3ForCausalLM": Family(
        qkv_bias=None, output_bias=None, qk_norm=True, window=_late_sliding, window_switch=True, defaults=_QWEN_WINDOW
    ),
    "Qwen3MoeForCausalLM": Family(
        qkv_bias=None,
        output_bias=None,
        qk_norm=True,
        experts=True,
        window=_all_sliding,
        window_switch=True,
        defaults=_QWEN_WINDOW,
    ),
    "GemmaForCausalLM": Family(qkv_bias=None, output_bias=None, activation="gelu_tanh", gemma=True, defaults=_GEMMA),
    "Gemma2ForCausalLM": Family(
        qkv_bias=None,
        output_bias=None,
        activation="gelu_tanh",
        gemma=True,
        post_norms=True,
        window=_first_sliding,
        defaults={**_GEMMA, **_GEMMA2},
    ),
    "Gemma3ForCausalLM": Family(
        qkv_bias=None,
        output_bias=None,
        qk_norm=True,
        activation="gelu_tanh",
        gemma=True,
        post_norms=True,
        window=_first_sliding,
        defaults={**_GEMMA, **_GEMMA3},
    ),
    "Phi3ForCausalLM": Family(fused=True, window=_all_sliding),
}

# Models that see, too: the architecture of their text part, by its model_type. Their decoder is under text_config.
_SEEING: Mapping[str, Mapping[str, str]] = {
    "Gemma3ForConditionalGeneration": {"gemma3_text": "Gemma3ForCausalLM"},
    "Mistral3ForConditionalGeneration": {"mistral": "MistralForCausalLM", "ministral3": "Ministral3ForCausalLM"},
}


def text_config(config: Json) -> tuple[str, Json]:
    """The architecture of a checkpoint's decoder and its config, filled up with what its family assumes.

    Raises ModelError for an architecture that no row is of.
    """
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if isinstance(name, str) and name in _SEEING:
        text = section(config, "text_config")
        kinds = _SEEING[name]
        kind = text.get("model_type", next(iter(kinds)))
        if not isinstance(kind, str) or kind not in kinds:
            raise ModelError(f"unknown text model {kind!r} in config.json", hint=f"known: {', '.join(kinds)}")
        outer = {key: config[key] for key in ("tie_word_embeddings", "quantization_config") if key in config}
        return kinds[kind], {**FAMILIES[kinds[kind]].defaults, **outer, **text}
    if not isinstance(name, str) or name not in FAMILIES:
        shown = f"unknown architecture {name!r}" if name else "config.json names no architecture"
        raise ModelError(shown, hint=f"known: {', '.join([*FAMILIES, *_SEEING])}")
    return name, {**FAMILIES[name].defaults, **config}


def tensor_name(name: str) -> str:
    """The name that a text-only checkpoint has for a tensor of one that sees, too.

    Released checkpoints put language_model in front of everything, transformers 5 puts it behind the first part.
    """
    if name.startswith("language_model."):
        return name.removeprefix("language_model.")
    return name.replace("model.language_model.", "model.", 1)


def activation(config: Json, family: Family) -> Activation:
    """The feed-forward's activation; ModelError where the config names another than the family's."""
    named = config.get("hidden_activation") or config.get("hidden_act") or _ACTIVATIONS[family.activation][0]
    known = _ACTIVATIONS[family.activation]
    if named not in known:
        raise ModelError(f"unknown activation {named!r} in config.json", hint=f"known: {', '.join(known)}")
    return family.activation


def windows(config: Json, family: Family, layers: int) -> tuple[int, ...]:
    """How many tokens each layer sees, itself included; 0: all."""
    off = family.window_switch and not flag(config, "use_sliding_window", False)
    if family.window is None or off or config.get("sliding_window") is None:
        return (0,) * layers
    window = size(config, "sliding_window", most=LONGEST)
    kinds = config.get("layer_types")
    if kinds is None:
        rule = family.window
        return tuple(window if rule(config, layer) else 0 for layer in range(layers))
    known = {"full_attention": 0, "sliding_attention": window}
    if not isinstance(kinds, list) or len(kinds) != layers or any(kind not in known for kind in kinds):
        raise ModelError("layer_types in config.json must name full_attention or sliding_attention for each layer")
    return tuple(known[kind] for kind in kinds)
