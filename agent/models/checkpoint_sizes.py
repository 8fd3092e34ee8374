"""How many weights a model has, and of which kind: told from the names and shapes of its tensors. Pure.

The kinds are those whose size in memory differs: see ``memory``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_EMBEDDINGS = ("embed_tokens.weight", "word_embeddings.weight", "tok_embeddings.weight", "wte.weight")
_HEAD = "lm_head.weight"
# What GPTQ and AWQ keep beside the packed values: zero points, scales, the order of the inputs.
_BESIDE = (".qzeros", ".scales", ".g_idx")

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Elements of a model's tensors by kind. ``grouped`` matrices have inputs that make whole groups of 128,
    ``small_grouped`` of 32 alone, ``ungrouped`` of neither."""

    embedding: int = 0
    head: int = 0  # 0: the embedding serves as the head
    grouped: int = 0
    small_grouped: int = 0
    ungrouped: int = 0
    vectors: int = 0

    @property
    def inner(self) -> int:
        """Matrices between embedding and head."""
        return self.grouped + self.small_grouped + self.ungrouped

    @property
    def total(self) -> int:
        return self.embedding + self.head + self.inner + self.vectors


@dataclass(frozen=True, slots=True)
class Widths:
    """A decoder's own numbers, as config.json has them; 0 where it does not say, and for other models."""

    layers: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_size: int = 0
    hidden: int = 0
    feed_forward: int = 0
    vocabulary: int = 0

    @property
    def cached(self) -> int:
        """Numbers that the key-value cache keeps for one token."""
        return 2 * self.layers * self.kv_heads * self.head_size


def measure(tensors: Iterable[tuple[str, Shape]], *, tied: bool = False) -> Sizes:
    """Count the tensors of a checkpoint. ``tied``: a head in the files is a copy of the embedding that nobody reads."""
    kinds = {"embedding": 0, "head": 0, "grouped": 0, "small_grouped": 0, "ungrouped": 0, "vectors": 0}
    for name, shape in tensors:
        if tied and name == _HEAD:
            continue
        kinds[_kind(name, shape)] += math.prod(shape)
    return Sizes(**kinds)


def unpacked(name: str, shape: Shape, method: str, bits: int) -> tuple[str, Shape] | None:
    """A tensor of a GPTQ or AWQ checkpoint as the weight that it stands for; None for what stands beside one.

    Both pack ``32 / bits`` weights into an int32: GPTQ along the inputs, [inputs / n, outputs], AWQ along the outputs,
    [inputs, outputs / n].
    """
    if name.endswith(_BESIDE):
        return None
    if not name.endswith(".qweight") or len(shape) != 2:
        return name, shape
    many = 32 // bits
    inputs, outputs = (shape[0] * many, shape[1]) if method == "gptq" else (shape[0], shape[1] * many)
    return name.removesuffix("qweight") + "weight", (outputs, inputs)


def _kind(name: str, shape: Shape) -> str:
    if len(shape) < 2:
        return "vectors"
    if name.endswith(_EMBEDDINGS):
        return "embedding"
    if name == _HEAD:
        return "head"
    if shape[-1] % 128 == 0:
        return "grouped"
    return "small_grouped" if shape[-1] % 32 == 0 else "ungrouped"
