"""What the parts of a model take, as a load of it would have them: what placement shares out over nodes. Pure, but for
the header that says how the layers differ."""

from __future__ import annotations

from itertools import accumulate, pairwise

from agent.cluster.placement import Need
from agent.engine.decoder import DecoderSpec, layer_prefix
from agent.models.checkpoint import StoredModel
from agent.models.checkpoint_sizes import Sizes, measure
from agent.models.memory import LAYER_GRAPH, PAGE_TOKENS, TOKEN_BYTES, Memory, cache_bytes, weight_bytes
from agent.models.spec import decoder_spec


def need_of(model: StoredModel, memory: Memory) -> Need:
    """``memory``: what a load takes on one node, and what the parts add up to there.

    The graph is divided over the layers, the tokenizer is the first stage's, all other workspace each stage has whole.
    What adapters take is divided as the layers are. A model that is no decoder is one part. Raises ModelError.
    """
    if model.kind != "text":
        return Need(model.name, (memory.total,), embedding=0, head=0, cache=0, tokens=0, stage=0)
    spec = decoder_spec(model.path, model.digest)
    float_rows = 4 * model.sizes.embedding if memory.quantisation == "float" else 0  # else they are pages of a file
    head = weight_bytes(Sizes(head=model.sizes.head or model.sizes.embedding), memory.quantisation)
    tokenizer = TOKEN_BYTES * model.widths.vocabulary
    page = cache_bytes(model.widths, memory.cache_type, PAGE_TOKENS)
    return Need(
        model.name,
        layers=tuple(
            LAYER_GRAPH + part
            for part in _shared(memory.weights - float_rows - head, _layer_bytes(spec, memory.quantisation))
        ),
        embedding=float_rows + tokenizer,
        head=head,
        cache=-(-page // (PAGE_TOKENS * spec.layers)),
        tokens=memory.cache * PAGE_TOKENS // page,
        stage=memory.workspace - LAYER_GRAPH * spec.layers - tokenizer,
    )


def _layer_bytes(spec: DecoderSpec, quantisation: str) -> list[int]:
    """Of each layer: mixtures of experts have some that are small."""
    found = []
    for layer in range(spec.layers):
        tensors = spec.tensors(range(layer, layer + 1)).items()
        own = ((name, shape) for name, shape in tensors if name.startswith(layer_prefix(layer)))
        found.append(weight_bytes(measure(own), quantisation))
    return found


def _shared(total: int, parts: list[int]) -> list[int]:
    """``total`` as the parts stand to one another, to the last byte."""
    ends = [0, *accumulate(parts)]
    return [total * end // ends[-1] - total * start // ends[-1] for start, end in pairwise(ends)]
