"""What an embedding model IS, read from the files of its folder: pure, no framework.

Two families: BERT (learned positions, biases, GELU) and Nomic BERT (rotary positions, gated feed-forward). Both are
post-norm: ``x = norm(x + attention(x)); x = norm(x + feed_forward(x))``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from agent.engine.base import Json
from agent.errors import ModelError

Activation = Literal["gelu", "gelu_tanh", "silu", "relu"]
Pooling = Literal["mean", "cls"]

# Names in config.json, of both families, for the functions that the engine has.
_ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "swiglu": "silu",
    "geglu": "gelu",
}


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """The shape of an embedding model. ``head_size * heads == hidden_size``."""

    architecture: str
    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    context_length: int  # the longest input in tokens, special tokens included
    norm_eps: float
    activation: Activation
    gated: bool  # feed-forward: down(up(x) * activation(gate(x))) instead of down(activation(up(x)))
    rope_theta: float | None  # None: learned positions
    attention_bias: bool
    mlp_bias: bool  # of the projections into the feed-forward
    down_bias: bool  # of the one out of it
    token_types: int  # rows of the table of token types, of which only the first is used; 0: no such table
    pooling: Pooling = "mean"

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.heads

    @staticmethod
    def from_folder(folder: Path) -> EncoderSpec:
        """Read config.json and, where the folder has them, the files of sentence-transformers.

        Raises ModelError for an unknown architecture or a variant that this engine does not compute.
        """
        spec = EncoderSpec.from_config(_object(folder / "config.json"))
        pooling = _pooling(folder)
        limit = spec.context_length
        if (folder / "sentence_bert_config.json").is_file():
            length = _object(folder / "sentence_bert_config.json").get("max_seq_length")
            limit = min(limit, length) if isinstance(length, int) and length > 0 else limit
        return replace(spec, context_length=limit, pooling=pooling)

    @staticmethod
    def from_config(config: Json) -> EncoderSpec:
        """The shape that a config.json describes, with mean pooling. Raises ModelError."""
        name = architecture(config)
        if name is None:
            raise ModelError(
                f"This engine does not know the architecture {config.get('architectures') or config.get('model_type')}",
                hint=f"Embedding models of these architectures can be loaded: {', '.join(ARCHITECTURES)}.",
            )
        spec = ARCHITECTURES[name](_Reader(config))
        if spec.hidden_size % spec.heads:
            raise ModelError(f"hidden size {spec.hidden_size} cannot be split into {spec.heads} attention heads")
        return spec


def architecture(config: Json) -> str | None:
    """The embedding architecture that a config.json names, or None: not one of this engine's."""
    named = config.get("architectures")
    if isinstance(named, list) and named:
        return named[0] if isinstance(named[0], str) and named[0] in ARCHITECTURES else None
    return {"bert": "BertModel", "nomic_bert": "NomicBertModel"}.get(str(config.get("model_type")))


class _Reader:
    """Typed look-ups in a config.json, under the first of several names that is there."""

    def __init__(self, config: Json) -> None:
        self._config = config

    def get(self, *names: str) -> object:
        return next((self._config[name] for name in names if self._config.get(name) is not None), None)

    def whole(self, *names: str, default: int | None = None, least: int = 1) -> int:
        value = self.get(*names)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ModelError(f"config.json: {names[0]} must be a whole number from {least}, not {value!r}")
        return value

    def number(self, *names: str, default: float) -> float:
        value = self.get(*names)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ModelError(f"config.json: {names[0]} must be a number above 0, not {value!r}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.get(name)
        return default if value is None else bool(value)

    def activation(self, *names: str, default: str) -> tuple[str, Activation]:
        name = str(self.get(*names) or default)
        if name not in _ACTIVATIONS:
            raise ModelError(
                f"config.json: unknown activation {name!r}", hint=f"Known ones: {', '.join(sorted(_ACTIVATIONS))}."
            )
        return name, _ACTIVATIONS[name]

    def refuse(self, name: str, *fine: object) -> None:
        """ModelError unless the field is absent or has one of the values that this engine computes."""
        value = self.get(name)
        if value is not None and value not in fine:
            raise ModelError(f"config.json: {name} = {value!r} is not supported for embedding models")


def _bert(config: _Reader) -> EncoderSpec:
    config.refuse("position_embedding_type", "absolute")
    config.refuse("is_decoder", False)
    return EncoderSpec(
        architecture="BertModel",
        vocab_size=config.whole("vocab_size"),
        hidden_size=config.whole("hidden_size"),
        layers=config.whole("num_hidden_layers"),
        heads=config.whole("num_attention_heads"),
        intermediate_size=config.whole("intermediate_size"),
        context_length=config.whole("max_position_embeddings"),
        norm_eps=config.number("layer_norm_eps", default=1e-12),
        activation=config.activation("hidden_act", default="gelu")[1],
        gated=False,
        rope_theta=None,
        attention_bias=True,
        mlp_bias=True,
        down_bias=True,
        token_types=config.whole("type_vocab_size", default=2, least=0),
    )


def _nomic(config: _Reader) -> EncoderSpec:
    """Both styles of config.json: the published one (n_embd …) and that of transformers (hidden_size …)."""
    for name, fine in (
        ("prenorm", False),
        ("parallel_block", False),
        ("use_rms_norm", False),
        ("causal", False),
        ("rotary_emb_interleaved", False),
        ("rotary_emb_scale_base", None),
        ("rotary_scaling_factor", None),
    ):
        config.refuse(name, fine)
    config.refuse("rotary_emb_fraction", 1.0)
    rope = config.get("rope_parameters")
    rope = rope if isinstance(rope, Mapping) else {}
    if rope.get("rope_type", "default") != "default":
        raise ModelError(f"config.json: rope_type = {rope['rope_type']!r} is not supported for embedding models")
    name, activation = config.activation("activation_function", "hidden_act", default="silu")
    return EncoderSpec(
        architecture="NomicBertModel",
        vocab_size=config.whole("vocab_size"),
        hidden_size=config.whole("n_embd", "hidden_size"),
        layers=config.whole("n_layer", "num_hidden_layers"),
        heads=config.whole("n_head", "num_attention_heads"),
        intermediate_size=config.whole("n_inner", "intermediate_size"),
        context_length=config.whole("n_positions", "max_position_embeddings"),
        norm_eps=config.number("layer_norm_epsilon", "layer_norm_eps", default=1e-12),
        activation=activation,
        # The published style says it in the activation's name; transformers knows no other than the gated form.
        gated=name.endswith("glu") or config.get("activation_function") is None,
        rope_theta=_Reader(rope).number("rope_theta", default=config.number("rotary_emb_base", default=1000.0)),
        attention_bias=config.flag("qkv_proj_bias", default=False),
        mlp_bias=config.flag("mlp_fc1_bias", default=False),
        down_bias=config.flag("mlp_fc2_bias", default=False),
        token_types=config.whole("type_vocab_size", default=2, least=0),
    )


ARCHITECTURES: Mapping[str, Callable[[_Reader], EncoderSpec]] = {"BertModel": _bert, "NomicBertModel": _nomic}


def _pooling(folder: Path) -> Pooling:
    """How token vectors become one: what modules.json leads to, else the mean, as most models do.

    A Normalize module needs no mention: OpenAI's vectors have length 1, and so have all of this engine's.
    """
    if not (folder / "modules.json").is_file():
        return "mean"
    pooling: Pooling = "mean"
    for module in _list(folder / "modules.json"):
        kind = str(module.get("type")).rsplit(".", 1)[-1]
        if kind not in ("Transformer", "Pooling", "Normalize"):
            raise ModelError(f"modules.json: the module {kind} is not supported for embedding models")
        path = str(module.get("path", ""))
        if kind == "Pooling":
            if Path(path).name != path:
                raise ModelError(f"modules.json: {path!r} is not a folder of this model")
            pooling = _pooling_mode(_object(folder / path / "config.json"))
    return pooling


def _pooling_mode(config: Json) -> Pooling:
    named: Mapping[str, Pooling] = {"mean": "mean", "cls": "cls"}
    flags = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    modes = [flags.get(name, name) for name, on in config.items() if name.startswith("pooling_mode_") and on is True]
    if isinstance(config.get("pooling_mode"), str):
        modes = [str(config["pooling_mode"])]
    if len(modes) != 1 or modes[0] not in named:
        raise ModelError(
            f"The model pools by {' and '.join(modes) or 'nothing'}, which this engine does not compute",
            hint="Models that pool by mean or cls can be loaded.",
        )
    return named[modes[0]]


def _object(path: Path) -> Json:
    value = _json(path)
    if not isinstance(value, dict):
        raise ModelError(f"{path.name} must hold a JSON object")
    return cast(Json, value)


def _list(path: Path) -> list[Json]:
    value = _json(path)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ModelError(f"{path.name} must hold a list of JSON objects")
    return cast("list[Json]", value)


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{path.name} is not JSON: {error}") from error
