"""What an encoder IS, a model of texts to vectors or of pairs of texts to scores, read from its folder: no framework.

Families: BERT, RoBERTa and DistilBERT (learned positions, biases; XLM-RoBERTa is the same), MPNet (besides, attention
adds a number for each distance), Nomic BERT (rotary positions, gated feed-forward), all post-norm:
``x = norm(x + attention(x)); x = norm(x + feed_forward(x))``; and ModernBERT (pre-norm, rotary, gated; most layers see
a window of neighbours alone).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from agent.engine.base import Json
from agent.engine.encoder_config import Activation, ConfigReader
from agent.engine.encoder_modules import Modules, Pooling, read_object
from agent.errors import ModelError

Family = Literal["bert", "roberta", "distilbert", "mpnet", "nomic", "modern"]


@dataclass(frozen=True, slots=True)
class Window:
    """Layers in which a token sees the ``reach`` tokens before and after it alone; rotary positions of their own."""

    layers: frozenset[int]
    reach: int
    rope_theta: float


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """The shape of an encoder. ``head_size * heads == hidden_size``."""

    architecture: str
    family: Family
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
    token_types: int  # rows of the table of token types; 0: no such table
    norm_bias: bool = True
    position_offset: int = 0  # the row of the table of positions that the first token has
    window: Window | None = None
    ranks: bool = False  # a cross-encoder: a pair of texts to one score
    head_activation: Activation = "tanh"  # of the head that makes the score
    head_bias: bool = True
    pooling: Pooling = "mean"
    normalised: bool = False  # the model's own vectors have length 1
    prompts: Mapping[str, str] = field(default_factory=dict)  # what is put before a text, by its name
    default_prompt: str | None = None
    prompt_pooled: bool = True  # False: the tokens of the prompt are left out of the mean

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.heads

    @staticmethod
    def from_folder(folder: Path) -> EncoderSpec:
        """Read config.json and, where the folder has them, the files of sentence-transformers.

        Raises ModelError for an unknown architecture or a variant that this engine does not compute.
        """
        spec = EncoderSpec.from_config(read_object(folder / "config.json"))
        modules = Modules.read(folder)
        limit = min(spec.context_length, modules.longest or spec.context_length)
        if spec.ranks:  # its head says how it pools
            return replace(spec, context_length=limit)
        return replace(
            spec,
            context_length=limit,
            pooling=modules.pooling,
            normalised=modules.normalised,
            prompts=modules.prompts,
            default_prompt=modules.default_prompt,
            prompt_pooled=modules.prompt_pooled,
        )

    @staticmethod
    def from_config(config: Json) -> EncoderSpec:
        """The shape that a config.json describes, with mean pooling. Raises ModelError."""
        name = architecture(config)
        if name is None:
            raise ModelError(
                f"This engine does not know the architecture {config.get('architectures') or config.get('model_type')}",
                hint=f"Encoders of these architectures can be loaded: {', '.join(ARCHITECTURES)}.",
            )
        spec, ranks = ARCHITECTURES[name](ConfigReader(config)), name.endswith(_RANKING)
        spec = replace(spec, architecture=name, ranks=ranks, pooling=spec.pooling if ranks else "mean")
        if spec.hidden_size % spec.heads:
            raise ModelError(f"hidden size {spec.hidden_size} cannot be split into {spec.heads} attention heads")
        if spec.ranks and _labels(config) != 1:
            raise ModelError(
                f"The model sorts texts into {_labels(config)} classes",
                hint="Of the models with a head for classes, those with one score can be loaded: rerankers.",
            )
        return spec


def architecture(config: Json) -> str | None:
    """The encoder architecture that a config.json names, or None: not one of this engine's."""
    named = config.get("architectures")
    if isinstance(named, list) and named:
        return named[0] if isinstance(named[0], str) and named[0] in ARCHITECTURES else None
    return _OF_TYPE.get(str(config.get("model_type")))


def kind(config: Json) -> Literal["embedding", "reranker"] | None:
    """What a model of this config.json is for; None where no encoder family has it."""
    if config.get("model_type") not in _OF_TYPE:
        return None
    named = config.get("architectures")
    ranks = isinstance(named, list) and bool(named) and str(named[0]).endswith(_RANKING)
    return "reranker" if ranks else "embedding"


def _labels(config: Json) -> int:
    """transformers writes the names of the classes, and leaves out how many there are; two are its default."""
    names = config.get("id2label")
    many = config.get("num_labels")
    return many if isinstance(many, int) else len(names) if isinstance(names, Mapping) else 2


def _bert(config: ConfigReader, family: Family = "bert", offset: int = 0) -> EncoderSpec:
    config.refuse("position_embedding_type", "absolute")
    config.refuse("is_decoder", False)
    return EncoderSpec(
        architecture="",
        family=family,
        vocab_size=config.whole("vocab_size"),
        hidden_size=config.whole("hidden_size"),
        layers=config.whole("num_hidden_layers"),
        heads=config.whole("num_attention_heads"),
        intermediate_size=config.whole("intermediate_size"),
        context_length=config.whole("max_position_embeddings", least=offset + 1) - offset,
        norm_eps=config.number("layer_norm_eps", default=1e-12),
        activation=config.activation("hidden_act", default="gelu")[1],
        gated=False,
        rope_theta=None,
        attention_bias=True,
        mlp_bias=True,
        down_bias=True,
        token_types=config.whole("type_vocab_size", default=2, least=0),
        position_offset=offset,
        pooling="cls",  # of its head, where it has one
    )


def _roberta(config: ConfigReader) -> EncoderSpec:
    """BERT, but for the names of the tensors, the head, and positions that count from the padding token's id + 1."""
    return _bert(config, "roberta", config.whole("pad_token_id", default=1, least=0) + 1)


def _distilbert(config: ConfigReader) -> EncoderSpec:
    """BERT with half the layers, no token types, and names of its own."""
    return EncoderSpec(
        architecture="",
        family="distilbert",
        vocab_size=config.whole("vocab_size"),
        hidden_size=config.whole("dim", "hidden_size"),
        layers=config.whole("n_layers", "num_hidden_layers"),
        heads=config.whole("n_heads", "num_attention_heads"),
        intermediate_size=config.whole("hidden_dim"),
        context_length=config.whole("max_position_embeddings"),
        norm_eps=1e-12,
        activation=config.activation("activation", default="gelu")[1],
        gated=False,
        rope_theta=None,
        attention_bias=True,
        mlp_bias=True,
        down_bias=True,
        token_types=0,
        head_activation="relu",
        pooling="cls",
    )


def _mpnet(config: ConfigReader) -> EncoderSpec:
    """RoBERTa without token types, and a table of what attention adds by distance: its 32 rows are in no setting."""
    config.refuse("relative_attention_num_buckets", 32)
    return replace(_bert(config, "mpnet", 2), token_types=0)


def _nomic(config: ConfigReader) -> EncoderSpec:
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
    rope = config.part("rope_parameters")
    rope.refuse("rope_type", "default")
    name, activation = config.activation("activation_function", "hidden_act", default="silu")
    return EncoderSpec(
        architecture="",
        family="nomic",
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
        rope_theta=rope.number("rope_theta", default=config.number("rotary_emb_base", default=1000.0)),
        attention_bias=config.flag("qkv_proj_bias", default=False),
        mlp_bias=config.flag("mlp_fc1_bias", default=False),
        down_bias=config.flag("mlp_fc2_bias", default=False),
        token_types=config.whole("type_vocab_size", default=2, least=0),
    )


def _modern(config: ConfigReader) -> EncoderSpec:
    """Both styles of config.json: global_rope_theta and global_attn_every_n_layers; rope_parameters and layer_types."""
    layers = config.whole("num_hidden_layers")
    rope = config.part("rope_parameters")
    whole, local = rope.part("full_attention"), rope.part("sliding_attention")
    for part in (whole, local):
        part.refuse("rope_type", "default")
    every = config.whole("global_attn_every_n_layers", default=3)
    kinds = config.get("layer_types")
    if not isinstance(kinds, list):
        kinds = ["sliding_attention" if layer % every else "full_attention" for layer in range(layers)]
    if len(kinds) != layers or not {"sliding_attention", "full_attention"}.issuperset(kinds):
        raise ModelError("config.json: layer_types must name full_attention or sliding_attention for each layer")
    window = Window(
        frozenset(layer for layer, kind in enumerate(kinds) if kind == "sliding_attention"),
        config.whole("local_attention", default=128) // 2,
        local.number("rope_theta", default=config.number("local_rope_theta", default=10_000.0)),
    )
    bias = config.flag("mlp_bias", default=False)
    pooling = str(config.get("classifier_pooling") or "cls")
    if pooling not in ("cls", "mean"):
        raise ModelError(f"config.json: classifier_pooling = {pooling!r} is not supported for encoders")
    return EncoderSpec(
        architecture="",
        family="modern",
        vocab_size=config.whole("vocab_size"),
        hidden_size=config.whole("hidden_size"),
        layers=layers,
        heads=config.whole("num_attention_heads"),
        intermediate_size=config.whole("intermediate_size"),
        context_length=config.whole("max_position_embeddings"),
        norm_eps=config.number("norm_eps", default=1e-5),
        activation=config.activation("hidden_activation", default="gelu")[1],
        gated=True,
        rope_theta=whole.number("rope_theta", default=config.number("global_rope_theta", default=160_000.0)),
        attention_bias=config.flag("attention_bias", default=False),
        mlp_bias=bias,
        down_bias=bias,
        token_types=0,
        norm_bias=config.flag("norm_bias", default=False),
        window=window,
        head_activation=config.activation("classifier_activation", default="gelu")[1],
        head_bias=config.flag("classifier_bias", default=False),
        pooling="cls" if pooling == "cls" else "mean",
    )


_RANKING = "ForSequenceClassification"
_MAKERS: Mapping[str, Callable[[ConfigReader], EncoderSpec]] = {
    "Bert": _bert,
    "Roberta": _roberta,
    "XLMRoberta": _roberta,
    "Camembert": _roberta,
    "DistilBert": _distilbert,
    "MPNet": _mpnet,
    "ModernBert": _modern,
}
# Some models of vectors were saved with the head that they were pre-trained with.
ARCHITECTURES: Mapping[str, Callable[[ConfigReader], EncoderSpec]] = {
    **{f"{name}{head}": make for name, make in _MAKERS.items() for head in ("Model", "ForMaskedLM", _RANKING)},
    "NomicBertModel": _nomic,
}
_OF_TYPE: Mapping[str, str] = {
    "bert": "BertModel",
    "roberta": "RobertaModel",
    "xlm-roberta": "XLMRobertaModel",
    "camembert": "CamembertModel",
    "distilbert": "DistilBertModel",
    "mpnet": "MPNetModel",
    "modernbert": "ModernBertModel",
    "nomic_bert": "NomicBertModel",
}
