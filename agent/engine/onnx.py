"""Decoder stages on the CPU with ONNX Runtime: the embedded form on arm64.

The cache is one contiguous row a slot. Chunks of one token, the decoding ones, are computed together; a longer chunk is
computed alone, since it fills the processor by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.engine.base import Batch, CacheType, Floats, Report, Stage, Tokens
from agent.engine.decoder import DecoderSpec
from agent.engine.onnx_decoder import (
    HIDDEN,
    KEYS,
    LAST,
    LOGITS,
    LONGEST,
    STATES,
    TOKENS,
    UPDATED,
    VALUES,
    WANTED,
    DecoderGraph,
)
from agent.engine.onnx_graph import Array, Session
from agent.engine.onnx_lora import adapter_feeds
from agent.engine.quantise import Quantisation
from agent.engine.rows import RowTable
from agent.engine.staged import StagedRunner, open_staged
from agent.engine.weights import Checkpoint
from agent.engine.weights_lora import Adapter, AdapterStack
from agent.engine.weights_packed import Weights
from agent.errors import EngineError, ModelError, RequestError

# Rows of one pass must be neighbours. A row between two decoding ones that has nothing to compute costs its attention
# and a share of the arithmetic, counted in tokens; a further pass costs reading all weights again.
_IDLE_ROW, _FURTHER_PASS = 256, 1024


@dataclass(frozen=True, slots=True)
class _Pass:
    """One run of the graph: rows ``first`` and following, of ``length`` tokens each."""

    first: int
    starts: tuple[int, ...]  # of each row: where its tokens go
    length: int
    tokens: tuple[int, ...]  # of each row that has a chunk: its row, counted from ``first``
    inputs: tuple[int, ...]  # and where its tokens begin in the stage's inputs
    adapters: tuple[int, ...]  # of each row, 0 for none
    wanted: tuple[tuple[int, int], ...]  # a row of this pass, flat, and the row of the stage's logits that it gives


class OnnxStage:
    """A Stage: some layers of a decoder as one session, and ``rows`` rows of key-value cache for them.

    Raises ModelError for a decoder that onnxruntime cannot compute, EngineError when a step fails.
    """

    def __init__(
        self,
        spec: DecoderSpec,
        layers: range,
        weights: Weights,
        *,
        rows: int,
        row_tokens: int,
        exact: bool,
        threads: int,
        adapters: AdapterStack | None = None,
    ) -> None:
        """``exact``: float32 throughout; else activations meet packed weights in int8. ``threads`` 0: all cores."""
        if spec.head_dim % 8:
            raise ModelError(f"head_dim {spec.head_dim} is no multiple of 8, which onnxruntime's attention asks for")
        for rope in spec.ropes:
            if rope is not None and rope.size % 16:
                raise ModelError(f"{rope.size} rotated dimensions are no multiple of 16, which onnxruntime asks for")
        self._spec = spec
        self._first, self._last = layers.start == 0, layers.stop == spec.layers
        # One position more than a row may hold: where a row that has nothing to compute may always be written.
        shape = (rows, spec.kv_heads, row_tokens + 1, spec.head_dim)
        adapted = frozenset() if adapters is None else frozenset(adapters.down)
        graph = DecoderGraph(spec, layers, weights, row_tokens=row_tokens + 1, exact=exact, adapted=adapted).build()
        self._session: Session | None = graph.session(threads)
        self._adapters = adapters
        weights.drop_pages()  # the session has laid out its own copy of every matrix but the embedding
        self._cache = {f"{name}{layer}": np.zeros(shape, np.float32) for layer in layers for name in (KEYS, VALUES)}
        self._held = [0] * rows  # tokens in each row: what is written beyond them destroys nothing

    def run(self, inputs: Tokens | Floats, batch: Batch) -> Floats:
        if self._session is None:
            raise EngineError("the stage was closed")
        for source, target, tokens in batch.copies:
            for cache in self._cache.values():
                cache[target, :, :tokens] = cache[source, :, :tokens]
            self._held[target] = tokens
        wanted = sum(chunk.rows for chunk in batch.chunks)
        shape = (wanted, self._spec.vocab) if self._last else (len(inputs), self._spec.hidden)
        result = np.empty(shape, np.float32)
        for part in self._passes(batch):
            self._compute(part, inputs, result)
        return result

    def close(self) -> None:
        """Free session and cache. The stage must not run any more."""
        self._session = self._adapters = None
        self._cache = {}

    def _passes(self, batch: Batch) -> Iterator[_Pass]:
        decoding: list[tuple[int, int, int, int]] = []  # row, start, where in the inputs, where in the logits or -1
        adapters: dict[int, int] = {}  # by row
        begin = logits = 0
        each = batch.adapters or (0,) * len(batch.chunks)
        for chunk, pages, used in zip(batch.chunks, batch.pages, each, strict=True):
            row, length = pages[0], len(chunk.tokens)
            adapters[row] = used
            count = chunk.rows
            if length == 1:
                decoding.append((row, chunk.start, begin, logits if count else -1))
            else:
                wanted = tuple((length - count + index, logits + index) for index in range(count))
                yield _Pass(row, (chunk.start,), length, (0,), (begin,), (used,), wanted)
            begin, logits = begin + length, logits + count
            self._held[row] = chunk.start + length
        for group in self._neighbours(sorted(decoding)):
            first, last = group[0][0], group[-1][0]
            starts = self._held[first : last + 1]
            for row, start, _, _ in group:
                starts[row - first] = start
            yield _Pass(
                first,
                tuple(starts),
                1,
                tuple(row - first for row, _, _, _ in group),
                tuple(begin for _, _, begin, _ in group),
                tuple(adapters.get(row, 0) for row in range(first, last + 1)),
                tuple((row - first, logits) for row, _, _, logits in group if logits >= 0),
            )

    def _neighbours(self, decoding: Sequence[tuple[int, int, int, int]]) -> Iterator[list[tuple[int, int, int, int]]]:
        """Groups of decoding chunks, sorted by row, with few idle rows between them."""
        group: list[tuple[int, int, int, int]] = []
        for chunk in decoding:
            if group:
                idle = self._held[group[-1][0] + 1 : chunk[0]]
                if sum(idle) + _IDLE_ROW * len(idle) > _FURTHER_PASS:
                    yield group
                    group = []
            group.append(chunk)
        if group:
            yield group

    def _compute(self, part: _Pass, inputs: Tokens | Floats, result: Floats) -> None:
        assert self._session is not None
        rows, length = len(part.starts), part.length
        own = np.zeros((rows, length, *inputs.shape[1:]), inputs.dtype)
        for row, begin in zip(part.tokens, part.inputs, strict=True):
            own[row] = inputs[begin : begin + length]
        last = np.array(part.starts, np.int32) + np.int32(length - 1)
        feeds: dict[str, Array] = {
            TOKENS if self._first else HIDDEN: own,
            LAST: last,
            LONGEST: np.array(int(last.max()) + 1, np.int32),
        }
        if self._adapters is not None:
            feeds |= adapter_feeds(self._adapters, part.adapters)
        outputs: dict[str, Array] = {}
        for name, cache in self._cache.items():
            feeds[name] = outputs[f"{UPDATED}{name}"] = cache[part.first : part.first + rows]
        if self._last:
            # A pass without wanted logits computes one row of them and drops it: no empty matrices.
            feeds[WANTED] = np.array([row for row, _ in part.wanted] or [0], np.int64)
            logits = outputs[LOGITS] = np.empty((len(feeds[WANTED]), self._spec.vocab), np.float32)
        else:
            states = outputs[STATES] = np.empty((rows, length, self._spec.hidden), np.float32)
        self._session.run(feeds, outputs)
        if self._last:
            if part.wanted:
                result[[row for _, row in part.wanted]] = logits
            return
        for row, begin in zip(part.tokens, part.inputs, strict=True):
            result[begin : begin + length] = states[row]


def open_onnx(
    checkpoint: Checkpoint,
    spec: DecoderSpec,
    quantisation: Quantisation,
    *,
    cuts: Sequence[range] | None = None,
    slots: int,
    context_length: int,
    cache_tokens: int,
    threads: int,
    cache: Path | None,
    cache_type: CacheType | None = None,
    report: Report | None = None,
    adapters: Sequence[Adapter] = (),
) -> StagedRunner:
    """A runner of a whole model in this process, in one stage or, where ``cuts`` says so, in several.

    Every slot has a row for a whole context, so there are as many slots as ``cache_tokens`` has room for, ``slots`` at
    most and one at least. ``threads`` 0: one for each core. ``cache``: a folder of this model's own for its packed
    weights. Raises ModelError, NoRoomError and EngineError as Weights and OnnxStage do, and RequestError for a
    ``cache_type`` other than f32: this form has no other.
    """
    if cache_type not in (None, "f32"):
        raise RequestError(
            f"this processor's engine keeps its cache in f32, not {cache_type}",
            hint="leave cache_type out, or use f32",
            param="options.cache_type",
        )
    rows = max(1, min(slots, cache_tokens // context_length))

    def stage(spec: DecoderSpec, layers: range, weights: Weights, adapters: AdapterStack | None) -> Stage:
        return OnnxStage(
            spec,
            layers,
            weights,
            rows=rows,
            row_tokens=context_length,
            exact=quantisation == "float",
            threads=threads,
            adapters=adapters,
        )

    return open_staged(
        checkpoint,
        spec,
        quantisation,
        stage,
        RowTable(rows, context_length),
        cuts=cuts,
        context_length=context_length,
        threads=threads,
        cache=cache,
        report=report,
        adapters=adapters,
    )
