"""POST /v1/rerank: from its JSON, in the shape of Cohere's and Jina's, to an EmbedRequest with a query."""

from __future__ import annotations

from dataclasses import dataclass

from agent.api import schema
from agent.api.schema import Field, Json, Reader, optional
from agent.api.schema_json import log_unknown
from agent.api.schema_sampling import MODEL, USER
from agent.engine.base import EmbedRequest

_MOST_DOCUMENTS = 2048

_TEXT = Field("text", schema.string(1))


def _text_of(value: Json, path: str) -> str:
    return _TEXT.of(value, path + ".")


_DOCUMENT: Reader[str] = schema.either(
    "a string or an object with a text",
    (schema.is_string, schema.string(1)),
    (schema.is_mapping, schema.mapped(schema.mapping(), _text_of, schema.object_schema((_TEXT,)))),
)

QUERY = Field("query", schema.string(1), about="what the documents should answer")
DOCUMENTS = Field("documents", schema.array(_DOCUMENT, 1, _MOST_DOCUMENTS), about="texts, or objects with a text")
TOP_N = optional("top_n", schema.integer(1, 2**31 - 1), "give back only so many, the best")
RETURN = Field("return_documents", schema.boolean(), False, "give the texts back with their scores")
TRUNCATE = Field("truncate", schema.boolean(), True, "cut pairs that are too long; false: refuse them")

FIELDS: tuple[Field[object], ...] = (MODEL, QUERY, DOCUMENTS, TOP_N, RETURN, TRUNCATE, USER)


@dataclass(frozen=True, slots=True)
class RerankCall:
    """A rerank request as the engine takes it, and how its answer is written."""

    model: str
    request: EmbedRequest
    documents: tuple[str, ...]
    top_n: int
    return_documents: bool


def read_rerank(body: Json, request_id: str) -> RerankCall:
    """Raises RequestError that names the field at fault."""
    log_unknown(body, FIELDS)
    documents = DOCUMENTS.of(body)
    request = EmbedRequest(id=request_id, inputs=documents, query=QUERY.of(body), truncate=TRUNCATE.of(body))
    return RerankCall(MODEL.of(body), request, documents, TOP_N.of(body) or len(documents), RETURN.of(body))
