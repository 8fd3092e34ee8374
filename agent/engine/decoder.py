"""What a decoder is: its sizes, its rotary embedding and its tensors, read from a checkpoint's config.json. Pure.

All families here share one shape: embedding; for each layer RMS norm, grouped-query attention with rotary positions,
RMS norm and a gated feed-forward; a last norm and the head. They differ in a few flags, so a family is a row of
``FAMILIES``, and each form of the engine (OpenVINO, ONNX Runtime, TensorRT) reads those flags from a ``DecoderSpec``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agent.engine.base import Json
from agent.errors import ModelError

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
HEAD = "lm_head.weight"

_NO_DEFAULT = -1  # sizes are positive, so this can be no value


@dataclass(frozen=True, slots=True)
class Family:
    """What an architecture fixes or leaves to its config.json; ``None`` in a bias: the config decides."""

    qkv_bias: bool | None = False
    output_bias: bool | None = False
    ffn_bias: bool | None = False
    qk_norm: bool = False
    window: Literal["none", "every layer", "from max_window_layers"] = "none"


FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": Family(qkv_bias=None, output_bias=None, ffn_bias=None),
    "MistralForCausalLM": Family(window="every layer"),
    "Qwen2ForCausalLM": Family(qkv_bias=True, window="from max_window_layers"),
    "Qwen3ForCausalLM": Family(qkv_bias=None, output_bias=None, qk_norm=True, window="from max_window_layers"),
}


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding. ``factor`` and what follows matter to the scaled kinds alone."""

    theta: float = 10000.0
    kind: Literal["default", "linear", "llama3"] = "default"
    factor: float = 1.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_length: int = 8192

    def inverse_frequencies(self, head_dim: int) -> NDArray[np.float64]:
        """Radians a position for each pair of a head's dimensions, [head_dim / 2].

        The base is RoFormer's theta ** (-2i / d) (Su et al. 2021, arXiv:2104.09864, section 3.2.2); dimension i is
        paired with i + d / 2, as Hugging Face checkpoints store it. "linear" is position interpolation (Chen et al.
        2023, arXiv:2306.15595). "llama3" is Llama 3.1's: ``apply_scaling`` in llama_models/llama3/model.py of
        meta-llama/llama-models; wavelengths beyond the original context are divided by ``factor``, short ones kept,
        those between blended.
        """
        frequencies = self.theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
        if self.kind == "default":
            return frequencies
        if self.kind == "linear":
            return frequencies / self.factor
        turns = self.original_length * frequencies / (2 * math.pi)  # how often each pair turns in the original context
        low, high = self.low_frequency_factor, self.high_frequency_factor
        keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
        return frequencies * (keep + (1.0 - keep) / self.factor)


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """One decoder. Sizes are counts of elements; ``windows`` has one entry a layer, 0 where attention sees all."""

    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    context_length: int
    eps: float
    rope: Rope
    tied: bool  # the head is the embedding
    qkv_bias: bool
    output_bias: bool
    ffn_bias: bool
    qk_norm: bool  # RMS norm over each head of query and key, before the rotary embedding
    windows: tuple[int, ...]

    @classmethod
    def from_config(cls, config: Json) -> DecoderSpec:
        """Read a Hugging Face config.json. Raises ModelError where it is of a kind the engine does not know."""
        architecture = _architecture(config)
        family = FAMILIES[architecture]
        if config.get("quantization_config") is not None:
            raise ModelError(
                "this checkpoint is compressed already (quantization_config in config.json)",
                hint="use the original checkpoint in bfloat16, float16 or float32: the engine compresses it by itself",
            )
        activation = config.get("hidden_act", "silu")
        if activation != "silu":
            raise ModelError(f"unknown activation {activation!r} in config.json", hint="known: silu")
        layers = _size(config, "num_hidden_layers", most=1024)
        hidden = _size(config, "hidden_size")
        heads = _size(config, "num_attention_heads")
        kv_heads = _size(config, "num_key_value_heads", heads)
        head_dim = _size(config, "head_dim", hidden // heads)
        if heads % kv_heads:
            raise ModelError(f"num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}")
        if head_dim % 2:
            raise ModelError(f"head_dim {head_dim} is odd: the rotary embedding needs pairs")
        context_length = _size(config, "max_position_embeddings", most=1 << 30)
        attention_bias = _flag(config, "attention_bias", False)
        return cls(
            architecture=architecture,
            layers=layers,
            hidden=hidden,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            ffn=_size(config, "intermediate_size"),
            vocab=_size(config, "vocab_size"),
            context_length=context_length,
            eps=_number(config, "rms_norm_eps", 1e-6),
            rope=_rope(config, context_length),
            tied=_flag(config, "tie_word_embeddings", False),
            qkv_bias=attention_bias if family.qkv_bias is None else family.qkv_bias,
            output_bias=attention_bias if family.output_bias is None else family.output_bias,
            ffn_bias=_flag(config, "mlp_bias", False) if family.ffn_bias is None else family.ffn_bias,
            qk_norm=family.qk_norm,
            windows=_windows(config, family, layers),
        )

    @property
    def query_size(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.kv_heads * self.head_dim

    def inverse_frequencies(self) -> NDArray[np.float64]:
        return self.rope.inverse_frequencies(self.head_dim)

    def tensors(self, layers: range) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what a stage with these layers reads from the checkpoint.

        The stage with layer 0 has the embedding; the one with the last layer has the final norm and the head.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        last = layers.stop == self.layers
        if layers.start == 0 or (last and self.tied):
            shapes[EMBEDDING] = (self.vocab, self.hidden)
        for layer in layers:
            shapes |= {f"{layer_prefix(layer)}{name}": shape for name, shape in self._layer_tensors().items()}
        if last:
            shapes[FINAL_NORM] = (self.hidden,)
            if not self.tied:
                shapes[HEAD] = (self.vocab, self.hidden)
        return shapes

    def check(self, found: Mapping[str, tuple[int, ...]]) -> None:
        """Compare what a checkpoint holds with what the decoder needs. Raises ModelError naming what is amiss."""
        expected = self.tensors(range(self.layers))
        missing = [name for name in expected if name not in found]
        if missing:
            raise ModelError(
                f"the checkpoint lacks {_some(missing)}", hint="the download may be incomplete: pull the model again"
            )
        wrong = [
            f"{name} is {list(found[name])}, not {list(shape)}"
            for name, shape in expected.items()
            if tuple(found[name]) != shape
        ]
        if wrong:
            raise ModelError(
                f"tensors do not fit config.json: {_some(wrong)}",
                hint="config.json is not of these weights",
            )

    def _layer_tensors(self) -> dict[str, tuple[int, ...]]:
        hidden, query, kv, ffn = self.hidden, self.query_size, self.kv_size, self.ffn
        shapes: dict[str, tuple[int, ...]] = {
            "input_layernorm.weight": (hidden,),
            "self_attn.q_proj.weight": (query, hidden),
            "self_attn.k_proj.weight": (kv, hidden),
            "self_attn.v_proj.weight": (kv, hidden),
            "self_attn.o_proj.weight": (hidden, query),
            "post_attention_layernorm.weight": (hidden,),
            "mlp.gate_proj.weight": (ffn, hidden),
            "mlp.up_proj.weight": (ffn, hidden),
            "mlp.down_proj.weight": (hidden, ffn),
        }
        if self.qk_norm:
            shapes |= {"self_attn.q_norm.weight": (self.head_dim,), "self_attn.k_norm.weight": (self.head_dim,)}
        biased = (
            ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"] * self.qkv_bias
            + ["self_attn.o_proj"] * self.output_bias
            + ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"] * self.ffn_bias
        )
        return shapes | {f"{name}.bias": shapes[f"{name}.weight"][:1] for name in biased}


def layer_prefix(layer: int) -> str:
    """What the names of a layer's tensors start with."""
    return f"model.layers.{layer}."


def _architecture(config: Json) -> str:
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if not isinstance(name, str) or name not in FAMILIES:
        shown = f"unknown architecture {name!r}" if name else "config.json names no architecture"
        raise ModelError(shown, hint=f"known: {', '.join(FAMILIES)}")
    return name


def _rope(config: Json, context_length: int) -> Rope:
    # transformers 5 writes rope_parameters with everything; before it was rope_theta beside rope_scaling.
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(scaling, Mapping):
        raise ModelError("rope_parameters in config.json is not an object")
    theta = _number(scaling, "rope_theta", _number(config, "rope_theta", 10000.0))
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in ("default", "linear", "llama3"):
        raise ModelError(f"unknown rotary scaling {kind!r} in config.json", hint="known: default, linear, llama3")
    partial = _number(scaling, "partial_rotary_factor", _number(config, "partial_rotary_factor", 1.0))
    if partial != 1.0:
        raise ModelError(f"partial_rotary_factor is {partial}: only whole heads can be rotated")
    if kind == "default":
        return Rope(theta)
    if kind == "linear":
        return Rope(theta, "linear", _number(scaling, "factor"))
    rope = Rope(
        theta,
        "llama3",
        _number(scaling, "factor"),
        _number(scaling, "low_freq_factor"),
        _number(scaling, "high_freq_factor"),
        _size(scaling, "original_max_position_embeddings", context_length, most=1 << 30),
    )
    if rope.high_frequency_factor <= rope.low_frequency_factor:
        raise ModelError("high_freq_factor in config.json must be above low_freq_factor")
    return rope


def _windows(config: Json, family: Family, layers: int) -> tuple[int, ...]:
    if family.window == "none":
        return (0,) * layers
    if family.window == "every layer":
        # A Mistral config without the key means v0.1's window; later ones say null.
        window = config.get("sliding_window", 4096)
        return (0 if window is None else _size(config, "sliding_window", 4096, most=1 << 30),) * layers
    if not _flag(config, "use_sliding_window", False):
        return (0,) * layers
    window = _size(config, "sliding_window", 4096, most=1 << 30)
    kinds = config.get("layer_types")
    if kinds is not None:
        known = {"full_attention": 0, "sliding_attention": window}
        if not isinstance(kinds, list) or len(kinds) != layers or any(kind not in known for kind in kinds):
            raise ModelError("layer_types in config.json must name full_attention or sliding_attention for each layer")
        return tuple(known[kind] for kind in kinds)
    first = _size(config, "max_window_layers", 28, least=0)
    return tuple(window if layer >= first else 0 for layer in range(layers))


def _size(config: Json, key: str, default: int = _NO_DEFAULT, *, least: int = 1, most: int = 1 << 24) -> int:
    value = config.get(key)
    if value is None and default != _NO_DEFAULT:
        value = default
    if value is None:
        raise ModelError(f"config.json lacks {key}")
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ModelError(f"{key} in config.json must be a whole number of {least} to {most}, not {value!r}")
    return value


def _number(config: Json, key: str, default: float | None = None) -> float:
    value = config.get(key)
    if value is None:
        value = default
    if value is None:
        raise ModelError(f"config.json lacks {key}")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ModelError(f"{key} in config.json must be a positive number, not {value!r}")
    return float(value)


def _flag(config: Json, key: str, default: bool) -> bool:
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ModelError(f"{key} in config.json must be true or false, not {value!r}")
    return value


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
