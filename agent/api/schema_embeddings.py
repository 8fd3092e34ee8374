"""POST /v1/embeddings: from its JSON to an EmbedRequest."""

from __future__ import annotations

from dataclasses import dataclass

from agent.api import schema
from agent.api.schema import Field, Json, optional
from agent.api.schema_completions import texts
from agent.api.schema_json import log_unknown
from agent.api.schema_sampling import MODEL, USER
from agent.engine.base import EmbedRequest

INPUT = Field("input", texts(1), about="what to turn into vectors")
FORMAT = Field("encoding_format", schema.choice("float", "base64"), "float", "base64: of little-endian float32")
DIMENSIONS = optional("dimensions", schema.integer(1, 65_536), "keep only so many, and make them a unit vector again")

TRUNCATE = Field("truncate", schema.boolean(), False, "cut inputs that are too long; false: refuse them")
PROMPT_NAME = optional("prompt_name", schema.string(1), "which of the model's prompts is put before each text")
INPUT_TYPE = optional(
    "input_type",
    schema.choice("query", "document", "passage", "search_query", "search_document", "classification", "clustering"),
    "what the texts are: the model's prompt for such, where it has one, is put before them",
)
NORMALIZE = Field("normalize", schema.boolean(), True, "vectors of length 1; false: as long as the model makes them")

FIELDS: tuple[Field[object], ...] = (
    *(MODEL, INPUT, FORMAT, DIMENSIONS, USER),
    *(TRUNCATE, PROMPT_NAME, INPUT_TYPE, NORMALIZE),
)


@dataclass(frozen=True, slots=True)
class EmbeddingCall:
    """An embedding request as the engine takes it, and how its vectors are written."""

    model: str
    request: EmbedRequest
    base64: bool


def read_embedding(body: Json, request_id: str) -> EmbeddingCall:
    """Raises RequestError that names the field at fault."""
    log_unknown(body, FIELDS)
    request = EmbedRequest(
        id=request_id,
        inputs=INPUT.of(body),
        dimensions=DIMENSIONS.of(body),
        truncate=TRUNCATE.of(body),
        prompt_name=PROMPT_NAME.of(body),
        input_type=INPUT_TYPE.of(body),
        normalise=NORMALIZE.of(body),
    )
    return EmbeddingCall(MODEL.of(body), request, FORMAT.of(body) == "base64")
