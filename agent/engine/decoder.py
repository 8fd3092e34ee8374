"""What a decoder is: its sizes, its flags and its tensors, read from a checkpoint's config.json. Pure.

All families here share one shape: embedding; for each layer RMS norm, grouped-query attention with rotary positions,
RMS norm and a gated feed-forward, of which there may be several experts; a last norm and the head. They differ in a few
flags: a family is a row of ``agent.engine.families``, and each form of the engine (OpenVINO, ONNX Runtime) reads the
flags from a ``DecoderSpec``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from agent.engine.base import Json
from agent.engine.decoder_config import LONGEST, flag, number, section, size
from agent.engine.experts import Experts, read_experts
from agent.engine.families import FAMILIES, Activation, activation, text_config, windows
from agent.engine.rope import Rope, read_ropes
from agent.errors import ModelError

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
HEAD = "lm_head.weight"


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """One decoder. Sizes are counts of elements; ``windows`` and ``ropes`` have one entry a layer."""

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
    ropes: tuple[Rope | None, ...]  # None in a layer that knows no positions
    windows: tuple[int, ...]  # 0 where attention sees all
    tied: bool  # the head is the embedding
    qkv_bias: bool
    output_bias: bool
    ffn_bias: bool
    qk_norm: bool  # RMS norm over each head of query and key, before the rotary embedding
    post_norms: bool  # norms after attention and feed-forward, too
    norm_offset: float  # is added to the weights of all norms
    fused: bool  # query, key and value are one matrix, gate and up another
    activation: Activation
    attention_scale: float  # of query times key
    attention_cap: float  # cap * tanh(score / cap); 0: none
    query_growth: float  # Ministral 3: queries grow with the logarithm of their position; 0: they do not
    query_growth_length: int  # by a step each so many tokens
    embedding_scale: float
    residual_scale: float  # of what attention and feed-forward add
    logit_scale: float
    logit_cap: float  # 0: none
    experts: Experts | None

    @classmethod
    def from_config(cls, config: Json) -> DecoderSpec:
        """Read a Hugging Face config.json. Raises ModelError where it is of a kind the engine does not know."""
        architecture, config = text_config(config)
        family = FAMILIES[architecture]
        if flag(config, "use_bidirectional_attention", False):
            raise ModelError("the attention of this model looks ahead", hint="it is no model that writes text")
        layers = size(config, "num_hidden_layers", most=1024)
        hidden = size(config, "hidden_size")
        heads = size(config, "num_attention_heads")
        kv_heads = size(config, "num_key_value_heads", heads)
        head_dim = size(config, "head_dim", hidden // heads)
        if heads % kv_heads:
            raise ModelError(f"num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}")
        if head_dim % 2:
            raise ModelError(f"head_dim {head_dim} is odd: the rotary embedding needs pairs")
        context_length = size(config, "max_position_embeddings", most=LONGEST)
        windows_ = windows(config, family, layers)
        ropes = read_ropes(config, head_dim, tuple(window > 0 for window in windows_), context_length)
        growth = section(config, "rope_parameters")
        attention_bias = flag(config, "attention_bias", False)
        return cls(
            architecture=architecture,
            layers=layers,
            hidden=hidden,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            ffn=size(config, "intermediate_size"),
            vocab=size(config, "vocab_size"),
            context_length=_longest(ropes, context_length),
            eps=number(config, "rms_norm_eps", 1e-6),
            ropes=ropes,
            windows=windows_,
            tied=flag(config, "tie_word_embeddings", False),
            qkv_bias=attention_bias if family.qkv_bias is None else flag(config, "qkv_bias", family.qkv_bias),
            output_bias=attention_bias if family.output_bias is None else family.output_bias,
            ffn_bias=flag(config, "mlp_bias", False) if family.ffn_bias is None else family.ffn_bias,
            qk_norm=family.qk_norm,
            post_norms=family.post_norms,
            norm_offset=float(family.gemma),
            fused=family.fused,
            activation=activation(config, family),
            attention_scale=_attention_scale(config, head_dim),
            attention_cap=_or_none(config, "attn_logit_softcapping"),
            query_growth=_or_none(growth, "llama_4_scaling_beta"),
            query_growth_length=size(growth, "original_max_position_embeddings", context_length, most=LONGEST),
            embedding_scale=hidden**0.5 if family.gemma else number(config, "embedding_multiplier", 1.0),
            residual_scale=number(config, "residual_multiplier", 1.0),
            logit_scale=1.0 / number(config, "logits_scaling", 1.0),
            logit_cap=_or_none(config, "final_logit_softcapping"),
            experts=read_experts(config, layers) if family.experts else None,
        )

    @property
    def query_size(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.kv_heads * self.head_dim

    def within(self, context_length: int) -> DecoderSpec:
        """The decoder for a context of this length: some rotary embeddings depend on it."""
        return replace(self, ropes=tuple(rope and rope.within(context_length) for rope in self.ropes))

    def mixed(self, layer: int) -> Experts | None:
        """The experts of a layer; None where its feed-forward is an ordinary one."""
        return self.experts if self.experts is not None and self.experts.layers[layer] else None

    def tensors(self, layers: range) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what a stage with these layers reads from the checkpoint.

        The stage with layer 0 has the embedding; the one with the last layer has the final norm and the head.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        last = layers.stop == self.layers
        if layers.start == 0 or (last and self.tied):
            shapes[EMBEDDING] = (self.vocab, self.hidden)
        for layer in layers:
            shapes |= {f"{layer_prefix(layer)}{name}": shape for name, shape in self._layer_tensors(layer).items()}
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

    def _layer_tensors(self, layer: int) -> dict[str, tuple[int, ...]]:
        hidden, query, kv = self.hidden, self.query_size, self.kv_size
        shapes: dict[str, tuple[int, ...]] = {"input_layernorm.weight": (hidden,)}
        if self.fused:
            shapes |= {"self_attn.qkv_proj.weight": (query + 2 * kv, hidden)}
        else:
            shapes |= {
                "self_attn.q_proj.weight": (query, hidden),
                "self_attn.k_proj.weight": (kv, hidden),
                "self_attn.v_proj.weight": (kv, hidden),
            }
        shapes |= {"self_attn.o_proj.weight": (hidden, query), "post_attention_layernorm.weight": (hidden,)}
        experts = self.mixed(layer)
        shapes |= self._ffn_tensors() if experts is None else experts.tensors(hidden)
        if self.post_norms:
            shapes |= {f"{place}_feedforward_layernorm.weight": (hidden,) for place in ("pre", "post")}
        if self.qk_norm:
            shapes |= {"self_attn.q_norm.weight": (self.head_dim,), "self_attn.k_norm.weight": (self.head_dim,)}
        biased = (
            ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"] * self.qkv_bias
            + ["self_attn.o_proj"] * self.output_bias
            + ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"] * self.ffn_bias
        )
        return shapes | {f"{name}.bias": shapes[f"{name}.weight"][:1] for name in biased}

    def _ffn_tensors(self) -> dict[str, tuple[int, ...]]:
        hidden, ffn = self.hidden, self.ffn
        down = {"mlp.down_proj.weight": (hidden, ffn)}
        if self.fused:
            return {"mlp.gate_up_proj.weight": (2 * ffn, hidden), **down}
        return {"mlp.gate_proj.weight": (ffn, hidden), "mlp.up_proj.weight": (ffn, hidden), **down}


def layer_prefix(layer: int) -> str:
    """What the names of a layer's tensors start with."""
    return f"model.layers.{layer}."


def _longest(ropes: tuple[Rope | None, ...], context_length: int) -> int:
    """The longest context: YaRN and dynamic scaling reach beyond max_position_embeddings where that is the original."""
    stretched = (int(rope.original_length * rope.factor) for rope in ropes if rope and rope.kind in ("yarn", "dynamic"))
    return max(context_length, *stretched, 0)


def _attention_scale(config: Json, head_dim: int) -> float:
    """Granite names the scale itself, Gemma the number whose root divides; else it is that of a head's size."""
    if config.get("attention_multiplier") is not None:
        return number(config, "attention_multiplier")
    return 1.0 / math.sqrt(number(config, "query_pre_attn_scalar", head_dim))


def _or_none(config: Json, key: str) -> float:
    return 0.0 if config.get(key) is None else number(config, key)


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
