"""Vectors in OpenAI's shape, and the order of reranked documents in Cohere's and Jina's."""

from __future__ import annotations

import base64

import numpy as np

from agent.api.render import Object
from agent.api.schema_rerank import RerankCall
from agent.engine.base import Embeddings


def embeddings_object(model: str, embeddings: Embeddings, *, as_base64: bool) -> Object:
    """The vectors as lists of numbers, or as base64 of little-endian float32."""
    vectors = np.ascontiguousarray(embeddings.vectors, dtype="<f4")
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.tobytes()).decode("ascii") if as_base64 else vector.tolist(),
        }
        for index, vector in enumerate(vectors)
    ]
    return {"object": "list", "data": data, "model": model, "usage": _usage(embeddings)}


def rerank_object(call: RerankCall, found: Embeddings) -> Object:
    """The best documents first; of those that score alike, the one that was sent first."""
    scores = [float(score) for score in found.vectors[:, 0]]
    order = sorted(range(len(scores)), key=lambda index: -scores[index])[: call.top_n]
    results: list[Object] = []
    for index in order:
        result: Object = {"index": index, "relevance_score": scores[index]}
        if call.return_documents:
            result["document"] = {"text": call.documents[index]}
        results.append(result)
    return {"object": "list", "id": call.request.id, "model": call.model, "results": results, "usage": _usage(found)}


def _usage(found: Embeddings) -> Object:
    return {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
