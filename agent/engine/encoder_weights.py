"""The tensors of an encoder under one set of names, whatever its family calls them, their shapes checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from agent.engine.base import Floats
from agent.engine.encoder_spec import EncoderSpec, Family
from agent.errors import ModelError


class Tensors(Protocol):
    """The part of a checkpoint that is needed here."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    def tensor(self, name: str) -> Floats:
        """The tensor as float32. Raises ModelError where it is missing."""
        ...


@dataclass(frozen=True, slots=True)
class Affine:
    """``x @ weight.T + bias``; weight is [out, in]."""

    weight: Floats
    bias: Floats | None


@dataclass(frozen=True, slots=True)
class Norm:
    """Layer normalisation over the last axis; both are [hidden]."""

    weight: Floats
    bias: Floats


@dataclass(frozen=True, slots=True)
class EncoderLayer:
    """One layer; ``qkv`` gives queries, keys and values side by side, [3 * hidden, hidden]."""

    qkv: Affine
    out: Affine
    attention_norm: Norm | None  # None: the first layer of a pre-norm model, whose input is normal already
    up: Affine
    gate: Affine | None
    down: Affine
    norm: Norm


@dataclass(frozen=True, slots=True)
class RankHead:
    """Pooled vectors to scores: ``out(norm(activation(dense(x))))``."""

    dense: Affine
    norm: Norm | None
    out: Affine  # one row


@dataclass(frozen=True, slots=True)
class EncoderWeights:
    """All tensors, float32. ``added`` joins the tokens' embeddings: token type 0 and, where learned, positions."""

    tokens: Floats  # [vocab_size, hidden]
    added: Floats  # [context_length, hidden], or [1, hidden]: the same at each position
    types: Floats | None  # [token_types, hidden]: what a token type adds beyond type 0; None: all are of type 0
    norm: Norm
    layers: tuple[EncoderLayer, ...]
    final: Norm | None = None  # None: post-norm
    distances: Floats | None = None  # [2 * context_length - 1, heads]: what attention adds, from the farthest before on
    head: RankHead | None = None

    @staticmethod
    def read(spec: EncoderSpec, tensors: Tensors) -> EncoderWeights:
        """Raises ModelError for a tensor that is missing or of another shape than the spec says."""
        return _READERS[spec.family](spec, tensors).read()


class _BertReader:
    prefix = "bert."  # of checkpoints that were saved together with a head
    layer = "encoder.layer"
    inputs: tuple[str, ...] = ("attention.self.query", "attention.self.key", "attention.self.value")
    norm = "embeddings.LayerNorm"
    out, attention_norm = "attention.output.dense", "attention.output.LayerNorm"
    up, gate, down, layer_norm = "intermediate.dense", "", "output.dense", "output.LayerNorm"
    head, head_out = "bert.pooler.dense", "classifier"

    def __init__(self, spec: EncoderSpec, tensors: Tensors) -> None:
        self.spec, self.tensors = spec, tensors
        self.start = self.prefix if f"{self.prefix}{self.norm}.weight" in tensors.shapes else ""

    def read(self) -> EncoderWeights:
        spec = self.spec
        types = self.token_types()
        return EncoderWeights(
            tokens=self.tensor("embeddings.word_embeddings.weight", spec.vocab_size, spec.hidden_size),
            added=self.positions() + types[:1],
            types=types - types[:1] if spec.ranks and len(types) > 1 else None,
            norm=self.norms(self.norm),
            layers=tuple(self.read_layer(f"{self.layer}.{index}.") for index in range(spec.layers)),
            distances=self.distances(),
            head=self.rank_head() if spec.ranks else None,
        )

    def distances(self) -> Floats | None:
        return None

    def read_layer(self, at: str) -> EncoderLayer:
        spec, hidden, inner = self.spec, self.spec.hidden_size, self.spec.intermediate_size
        return EncoderLayer(
            qkv=self.qkv(at),
            out=self.affine(at + self.out, hidden, hidden, spec.attention_bias),
            attention_norm=self.norms(at + self.attention_norm),
            up=self.affine(at + self.up, inner, hidden, spec.mlp_bias),
            gate=self.affine(at + self.gate, inner, hidden, spec.mlp_bias) if spec.gated else None,
            down=self.affine(at + self.down, hidden, inner, spec.down_bias),
            norm=self.norms(at + self.layer_norm),
        )

    def qkv(self, at: str) -> Affine:
        hidden = self.spec.hidden_size
        parts = [self.affine(at + name, hidden, hidden, True) for name in self.inputs]
        biases = [part.bias for part in parts if part.bias is not None]
        return Affine(np.concatenate([part.weight for part in parts]), np.concatenate(biases))

    def positions(self) -> Floats:
        # The table may be longer than the context that sentence_bert_config.json allows.
        table = self.tensor("embeddings.position_embeddings.weight", None, self.spec.hidden_size)
        first, length = self.spec.position_offset, self.spec.context_length
        if len(table) < first + length:
            raise ModelError(f"{len(table)} positions in the checkpoint, {first + length} in config.json")
        return table[first : first + length]

    def token_types(self) -> Floats:
        if not self.spec.token_types:
            return np.zeros((1, self.spec.hidden_size), np.float32)
        return self.tensor("embeddings.token_type_embeddings.weight", self.spec.token_types, self.spec.hidden_size)

    def rank_head(self) -> RankHead:
        hidden = self.spec.hidden_size
        self.start = ""  # the head stands beside the encoder
        return RankHead(
            dense=self.affine(self.head, hidden, hidden, self.spec.head_bias),
            norm=None,
            out=self.affine(self.head_out, 1, hidden, True),
        )

    def affine(self, name: str, rows: int, columns: int, bias: bool) -> Affine:
        return Affine(self.tensor(f"{name}.weight", rows, columns), self.tensor(f"{name}.bias", rows) if bias else None)

    def norms(self, name: str) -> Norm:
        hidden = self.spec.hidden_size
        bias = self.tensor(f"{name}.bias", hidden) if self.spec.norm_bias else np.zeros(hidden, np.float32)
        return Norm(self.tensor(f"{name}.weight", hidden), bias)

    def tensor(self, name: str, *shape: int | None) -> Floats:
        array = self.tensors.tensor(self.start + name)
        fits = all(want in (None, have) for want, have in zip(shape, array.shape, strict=False))
        if array.ndim != len(shape) or not fits:
            raise ModelError(f"The tensor {name} has shape {list(array.shape)}, config.json asks for {list(shape)}")
        return array


class _NomicReader(_BertReader):
    layer = "encoder.layers"
    norm = "emb_ln"
    out, attention_norm = "attn.out_proj", "norm1"
    down, layer_norm = "mlp.fc2", "norm2"

    def __init__(self, spec: EncoderSpec, tensors: Tensors) -> None:
        super().__init__(spec, tensors)
        self.up, self.gate = ("mlp.fc11", "mlp.fc12") if spec.gated else ("mlp.fc1", "")

    def qkv(self, at: str) -> Affine:
        hidden = self.spec.hidden_size
        return self.affine(f"{at}attn.Wqkv", 3 * hidden, hidden, self.spec.attention_bias)

    def positions(self) -> Floats:
        return np.zeros((1, self.spec.hidden_size), np.float32)  # rotary: they enter in each layer instead


class _RobertaReader(_BertReader):
    prefix = "roberta."
    head, head_out = "classifier.dense", "classifier.out_proj"


class _DistilReader(_BertReader):
    prefix = "distilbert."
    layer = "transformer.layer"
    inputs = ("attention.q_lin", "attention.k_lin", "attention.v_lin")
    out, attention_norm = "attention.out_lin", "sa_layer_norm"
    up, down, layer_norm = "ffn.lin1", "ffn.lin2", "output_layer_norm"
    head, head_out = "pre_classifier", "classifier"


class _MpnetReader(_RobertaReader):
    prefix = "mpnet."
    inputs = ("attention.attn.q", "attention.attn.k", "attention.attn.v")
    out, attention_norm = "attention.attn.o", "attention.LayerNorm"

    def distances(self) -> Floats:
        """Half of the rows for what stands before, half for what follows; 8 for single distances, 8 for ever wider
        ranges up to 128 and beyond: relative_position_bucket of transformers' MPNetEncoder, after T5 (1910.10683)."""
        table = self.tensor("encoder.relative_attention_bias.weight", 32, self.spec.heads)
        many = self.spec.context_length
        away = np.abs(np.arange(1 - many, many))
        wide = 8 + (np.log(np.maximum(away, 8) / 8) / np.log(128 / 8) * 8).astype(np.int64)
        rows = np.where(away < 8, away, np.minimum(wide, 15))
        rows[many:] += 16
        return table[rows]


class _ModernReader(_BertReader):
    prefix = "model."
    norm = "embeddings.norm"

    def read(self) -> EncoderWeights:
        spec = self.spec
        return EncoderWeights(
            tokens=self.tensor("embeddings.tok_embeddings.weight", spec.vocab_size, spec.hidden_size),
            added=np.zeros((1, spec.hidden_size), np.float32),
            types=None,
            norm=self.norms(self.norm),
            layers=tuple(self.read_layer(f"layers.{index}.") for index in range(spec.layers)),
            final=self.norms("final_norm"),
            head=self.rank_head() if spec.ranks else None,
        )

    def read_layer(self, at: str) -> EncoderLayer:
        spec, hidden, inner = self.spec, self.spec.hidden_size, self.spec.intermediate_size
        wide = self.affine(f"{at}mlp.Wi", 2 * inner, hidden, spec.mlp_bias)
        gate, up = (
            Affine(wide.weight[part], None if wide.bias is None else wide.bias[part])
            for part in (slice(None, inner), slice(inner, None))
        )
        return EncoderLayer(
            qkv=self.affine(f"{at}attn.Wqkv", 3 * hidden, hidden, spec.attention_bias),
            out=self.affine(f"{at}attn.Wo", hidden, hidden, spec.attention_bias),
            attention_norm=None if at == "layers.0." else self.norms(f"{at}attn_norm"),
            up=up,
            gate=gate,
            down=self.affine(f"{at}mlp.Wo", hidden, inner, spec.down_bias),
            norm=self.norms(f"{at}mlp_norm"),
        )

    def rank_head(self) -> RankHead:
        hidden = self.spec.hidden_size
        self.start = ""
        return RankHead(
            dense=self.affine("head.dense", hidden, hidden, self.spec.head_bias),
            norm=self.norms("head.norm"),
            out=self.affine("classifier", 1, hidden, True),
        )


_READERS: Mapping[Family, type[_BertReader]] = {
    "bert": _BertReader,
    "roberta": _RobertaReader,
    "distilbert": _DistilReader,
    "mpnet": _MpnetReader,
    "nomic": _NomicReader,
    "modern": _ModernReader,
}


def rotary(spec: EncoderSpec, theta: float, positions: int) -> tuple[Floats, Floats]:
    """Cosines and sines, [positions, head_size / 2] each: RoFormer (arXiv 2104.09864), halves not interleaved."""
    frequencies = theta ** -(np.arange(0, spec.head_size, 2, dtype=np.float64) / spec.head_size)
    angles = np.arange(positions)[:, None] * frequencies
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
