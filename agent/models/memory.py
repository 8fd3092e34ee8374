"""How much memory a loaded model takes, told before it is loaded. Pure.

Measured with OpenVINO 2026.4.1 on x86_64 (the growth of the process's anonymous memory, once the whole cache had been
written to). Three parts:

* weights: OpenVINO lays out its own copy of every matrix in its packed format, the head's among them. The packed file
  that they come from, and the rows of the embedding that tokens look up, are pages of files: the kernel takes them back
  whenever somebody needs the room. So a model takes its packed size once, with the head and without the embedding.
  Float weights have no packed file: the graph holds them a first time, and the copy is a second one. Adapters are
  inputs of the graph, in float32, of which there is no copy.
* cache: a page of 32 tokens keeps a key and a value for each key-value head of each layer. In u8, keys have a scale and
  a zero point (8 bytes) a channel of the page, values one a token.
* workspace: the runtime itself, once for the process (counted for each model, since which one comes first is not known
  beforehand); the compiled graph; what a layer makes of the largest step; the scores of attention; logits; tokenizer.
  The runtime's libraries are pages of files, too, but of ones that every step runs through, so they are counted: those
  that it touches. More may be mapped, and cost nobody anything: Linux maps whatever large folio of the page cache a
  touched page is in (77 MiB where libraries had just been written, 43 MiB once they had been read in again).

While a model is packed or compiled the process is larger for moments, by pages of files alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent.errors import EngineError
from agent.models.adapter import adapter_bytes
from agent.models.checkpoint import StoredModel
from agent.models.checkpoint_sizes import Sizes, Widths
from agent.models.options import LoadOptions, choose_cache_type, choose_quantisation

CONTEXTS_HELD = 4  # full contexts that the cache holds unless the configuration says otherwise
LONGEST_DEFAULT = 8192  # tokens of context unless somebody asks for more: the cache of a long one takes gigabytes

Form = Literal["openvino", "onnx"]

PAGE_TOKENS = 32
_SCALE = 2  # bytes: float16
LIBRARIES = 43 << 20  # the runtime's: pages of files
_RUNTIME = LIBRARIES + (9 << 20)  # and its threads
LAYER_GRAPH = 1_500_000  # a layer's part of the compiled graph
_STATES = 3.6  # times the numbers that a layer makes of a token: hidden, feed-forward, query, key and value
TOKEN_BYTES = 600  # of the vocabulary, in the tokenizer and the grammars
# What others quantised and the engine takes as it is; all else of less than 16 bits becomes int8.
_STORED = {"gptq-int4": "int4", "awq-int4": "int4", "Q4_0": "int4-g32"}
_ENCODER_STEP = 128 << 20  # a batch of long texts on its way through an embedding model


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes, and as what the weights and the cache are kept: what ``auto`` came to."""

    weights: int
    cache: int
    workspace: int
    quantisation: str = "float"
    cache_type: str = ""  # empty: a model without a cache

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.workspace

    def to_json(self) -> dict[str, object]:
        return {
            "weights_bytes": self.weights,
            "cache_bytes": self.cache,
            "workspace_bytes": self.workspace,
            "needed_bytes": self.total,
            "quantisation": self.quantisation,
            "cache_type": self.cache_type,
        }


Estimate = Callable[[StoredModel, LoadOptions], Memory]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the device has to do with it: its form of the engine, and the settings of ``[engine]``."""

    form: Form = "openvino"
    threads: int = 1
    slots: int = 16
    context_length: int = 0
    cache_tokens: int = 0
    prefill_tokens: int = 256
    quantisation: str = "auto"
    cache_type: str = "auto"


def estimate(model: StoredModel, options: LoadOptions, settings: Settings = Settings()) -> Memory:
    """What the model takes once it is loaded and its cache is full."""
    if model.kind == "adapter":  # what it adds to its base
        return Memory(adapter_bytes((model,)), 0, 0)
    if model.kind != "text":
        sizes = model.sizes
        return Memory(4 * (2 * sizes.total - sizes.embedding), 0, _RUNTIME + _ENCODER_STEP)
    wanted_bits = options.quantisation or settings.quantisation
    quantisation = choose_quantisation(wanted_bits, model.parameters, model.quantisation)
    wanted = options.context_length or settings.context_length or LONGEST_DEFAULT
    context = min(wanted, model.context_length or wanted)
    tokens = settings.cache_tokens or CONTEXTS_HELD * context
    slots = options.slots or settings.slots
    kept = choose_cache_type(options.cache_type or settings.cache_type, quantisation)
    if settings.form == "onnx":  # a row of a whole context for each slot that there is room for
        rows = max(1, min(slots, tokens // context))
        cache, kept = rows * (context + 1) * model.widths.cached * 4, "f32"
    else:
        cache = cache_bytes(model.widths, kept, tokens)
    workspace = _workspace(model.widths, context, settings.prefill_tokens, settings.threads, slots)
    bits = _STORED.get(model.quantisation, "int8") if quantisation == "stored" else quantisation
    weights = weight_bytes(model.sizes, bits) + adapter_bytes(model.adapters)
    return Memory(weights, cache, workspace, bits, kept)


def weight_bytes(sizes: Sizes, quantisation: str) -> int:
    """What stays in memory of the weights."""
    vectors, head = 4 * sizes.vectors, sizes.head or sizes.embedding
    if quantisation == "float":
        # Where the embedding serves as the head, the graph has it once for each.
        return 4 * ((sizes.embedding + head + sizes.inner) + (head + sizes.inner)) + vectors
    if quantisation == "int8":
        return head + sizes.inner + vectors
    group = 128 if quantisation == "int4" else 32
    grouped = sizes.grouped / 2 + sizes.grouped / group * _SCALE
    small = sizes.small_grouped / 2 + sizes.small_grouped / 32 * _SCALE
    return int(grouped + small) + sizes.ungrouped + head + vectors


def cache_bytes(widths: Widths, cache_type: str, tokens: int) -> int:
    """A paged cache for so many tokens over all slots."""
    pages = -(-tokens // PAGE_TOKENS)
    numbers = PAGE_TOKENS * widths.head_size
    if cache_type == "u8":
        pair = (numbers + 8 * widths.head_size) + (numbers + 8 * PAGE_TOKENS)
    else:
        pair = 2 * numbers * (4 if cache_type == "f32" else 2)
    return pages * widths.layers * widths.kv_heads * pair


def _workspace(widths: Widths, context: int, step_tokens: int, threads: int, slots: int) -> int:
    made = widths.hidden + widths.feed_forward + (widths.heads + 2 * widths.kv_heads) * widths.head_size
    states = int(4 * _STATES * step_tokens * made)
    scores = 4 * threads * widths.heads * PAGE_TOKENS * context
    logits = 4 * slots * widths.vocabulary
    return _RUNTIME + LAYER_GRAPH * widths.layers + states + scores + logits + TOKEN_BYTES * widths.vocabulary


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """MemAvailable: what the kernel can give without swapping."""
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise EngineError(f"{meminfo} does not say MemAvailable", hint="the agent needs Linux 3.14 or newer")


def anonymous_bytes(status: Path = Path("/proc/self/status")) -> int:
    """What this process holds that is no page of a file."""
    for line in status.read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise EngineError(f"{status} does not say RssAnon", hint="the agent needs Linux 4.5 or newer")
