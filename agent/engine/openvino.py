"""Decoder stages on the CPU with OpenVINO: the embedded form on x86_64."""

from __future__ import annotations

import agent.quiet  # noqa: F401  before openvino, which phones home without it

# isort: split
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import op

from agent.engine.base import Batch, CacheType, Chunk, Floats, Report, Stage, Tokens
from agent.engine.decoder import DecoderSpec
from agent.engine.openvino_graph import (
    BEGINS,
    HIDDEN,
    KEYS,
    LONGEST,
    PAGE_BEGINS,
    PAGES,
    PAST,
    POSITIONS,
    ROWS,
    TOKENS,
    VALUES,
    build_graph,
)
from agent.engine.openvino_lora import BoundAdapters
from agent.engine.pages import PageTable
from agent.engine.quantise import Quantisation
from agent.engine.staged import StagedRunner, open_staged
from agent.engine.weights import Checkpoint
from agent.engine.weights_lora import Adapter, AdapterStack
from agent.engine.weights_packed import Weights
from agent.errors import EngineError, ModelError

PAGE_TOKENS = 32  # the CPU plugin's paged attention knows pages of this size alone

_VERSION = "2026.4.1"
_HEAD_SIZES = range(32, 257)


def check_runtime(found: str) -> None:
    """Raise EngineError unless this version of OpenVINO has the paged attention that the graphs are written for."""
    if not found.startswith(_VERSION) or not hasattr(op, "_PagedAttentionExtension"):
        raise EngineError(
            f"OpenVINO {_VERSION} is needed, not {found}: its paged attention is not a public part of it",
            hint=f"pip install openvino=={_VERSION}",
        )


class OpenVinoStage:
    """A Stage: some layers of a decoder as one compiled graph, and ``pages`` pages of key-value cache for them.

    Raises ModelError for a decoder it cannot compute, EngineError when OpenVINO refuses the graph or a step.
    """

    def __init__(
        self,
        spec: DecoderSpec,
        layers: range,
        weights: Weights,
        *,
        pages: int,
        activations: int,
        threads: int,
        cache_type: CacheType | None = None,
        adapters: AdapterStack | None = None,
    ) -> None:
        """``activations``: how many share a scale as int8; 0: float32 throughout. ``threads`` 0: all cores.

        ``cache_type`` None: f32 where all is float32, else u8.
        """
        check_runtime(ov.get_version())
        if spec.head_dim not in _HEAD_SIZES:
            raise ModelError(f"head_dim {spec.head_dim} is not within 32 to 256")
        self._weights: Weights | None = weights  # the graph's constants are views of it
        self._first = layers.start == 0
        self._last = layers.stop == spec.layers
        self._adapters = None if adapters is None else BoundAdapters(adapters)
        adapted = frozenset() if adapters is None else frozenset(adapters.down)
        properties: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": activations,
            "KV_CACHE_PRECISION": cache_type or ("u8" if activations else "f32"),
        }
        if threads:
            properties["INFERENCE_NUM_THREADS"] = threads
        if not activations:
            properties["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            compiled = ov.Core().compile_model(build_graph(spec, layers, weights, adapted), "CPU", properties)
            self._request: Any = compiled.create_infer_request()
            for port in compiled.inputs:
                name = port.any_name
                if name.startswith((KEYS, VALUES)):
                    sizes = [size.get_length() for size in list(port.partial_shape)[1:]]
                    self._request.set_tensor(name, ov.Tensor(port.element_type, ov.Shape([pages, *sizes])))
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot compile the model: {error}") from error
        self._page_lists: dict[int, tuple[tuple[int, ...], NDArray[np.int32]]] = {}
        # In the first step the plugin lays out its own copy of every matrix but the embedding: better now than in the
        # first answer, and afterwards the pages of the file are not needed.
        inputs = np.zeros(1, np.int64) if self._first else np.zeros((1, spec.hidden), np.float32)
        self.run(inputs, Batch((Chunk(0, 0, (0,)),), ((0,),), PAGE_TOKENS))
        weights.drop_pages()

    def run(self, inputs: Tokens | Floats, batch: Batch) -> Floats:
        if self._request is None:
            raise EngineError("the stage is closed")
        chunks = batch.chunks
        lengths = [len(chunk.tokens) for chunk in chunks]
        past = np.array([chunk.start for chunk in chunks], np.int32)
        begins = np.zeros(len(chunks) + 1, np.int32)
        np.cumsum(lengths, out=begins[1:])
        pages = [self._page_list(chunk.slot, held) for chunk, held in zip(chunks, batch.pages, strict=True)]
        page_begins = np.zeros(len(chunks) + 1, np.int32)
        np.cumsum([len(held) for held in pages], out=page_begins[1:])
        positions = np.arange(begins[-1], dtype=np.int64) + np.repeat(past - begins[:-1], lengths)
        values: dict[str, Any] = {
            TOKENS if self._first else HIDDEN: inputs,
            POSITIONS: positions,
            PAST: past,
            BEGINS: begins,
            PAGES: np.concatenate(pages),
            PAGE_BEGINS: page_begins,
            LONGEST: np.array(int((past + lengths).max()), np.int32),
        }
        if self._last:
            values[ROWS] = wanted_rows(batch)
        try:
            for name, value in values.items():
                self._request.set_tensor(name, ov.Tensor(value))
            if self._adapters is not None:
                self._adapters.bind(self._request, batch)
            self._request.infer()
            result: Floats = self._request.get_output_tensor(0).data
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed in a step: {error}") from error
        return result

    def close(self) -> None:
        """Free weights, graph and cache."""
        self._request = self._weights = self._adapters = None
        self._page_lists.clear()

    def _page_list(self, slot: int, pages: tuple[int, ...]) -> NDArray[np.int32]:
        """The pages as an array, kept from step to step: it changes once in PAGE_TOKENS tokens."""
        kept = self._page_lists.get(slot)
        if kept is None or kept[0] is not pages:
            kept = self._page_lists[slot] = (pages, np.array(pages, np.int32))
        return kept[1]


def open_openvino(
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

    ``cache_tokens``: how many tokens the key-value cache holds over all slots. ``threads`` 0: OpenVINO's choice, the
    physical cores. ``cache``: a folder of this model's own for its packed weights. ``cache_type`` None: f32 for float
    weights, else u8. Raises ModelError, NoRoomError and EngineError as Weights and OpenVinoStage do.
    """
    pages = -(-cache_tokens // PAGE_TOKENS)

    def stage(spec: DecoderSpec, layers: range, weights: Weights, adapters: AdapterStack | None) -> Stage:
        return OpenVinoStage(
            spec,
            layers,
            weights,
            pages=pages,
            activations=activation_group(weights),
            threads=threads,
            cache_type=cache_type,
            adapters=adapters,
        )

    table = PageTable(pages, PAGE_TOKENS, slots)
    return open_staged(
        checkpoint,
        spec,
        quantisation,
        stage,
        table,
        cuts=cuts,
        context_length=context_length,
        threads=threads,
        cache=cache,
        report=report,
        adapters=adapters,
    )


def activation_group(weights: Weights) -> int:
    """How many activations share a scale when they become int8 for a product; 0: they stay float32.

    It must divide the groups of the weights, or the plugin keeps float32 and is half as fast. Beside int4 in groups of
    128, as many add no error that shows (llama.cpp's K-quants take 256) and make batches a quarter faster than the
    plugin's own 32; beside int8 weights theirs would be the larger part of it.
    """
    group = weights.smallest_group
    if group is None:
        return 0
    return 128 if group == 128 else 32


def wanted_rows(batch: Batch) -> NDArray[np.int64]:
    """Indices of the tokens of a batch after which logits are wanted."""
    rows: list[int] = []
    end = 0
    for chunk in batch.chunks:
        end += len(chunk.tokens)
        rows.extend(range(end - chunk.rows, end))
    return np.array(rows, np.int64)
