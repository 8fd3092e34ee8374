"""The bodies of model management's calls, and what they answer."""

from __future__ import annotations

import difflib

from agent.api import schema
from agent.api.schema import Field, Json, Reader, object_schema, optional
from agent.errors import RequestError
from agent.models.options import CACHE_TYPES, FOR_EVER, QUANTISATIONS, LoadOptions, read_duration

_NAME = schema.string(1, 300)
MODEL = Field("model", _NAME, about="a model of GET /v1/models")

CONTEXT_LENGTH = optional("context_length", schema.integer(16, 1 << 24), "tokens; at most the model's own")
QUANTISATION = optional("quantisation", schema.choice(*QUANTISATIONS), "how the weights are kept")
SLOTS = optional("slots", schema.integer(1, 1024), "answers that are computed together")
CACHE_TYPE = optional("cache_type", schema.choice(*CACHE_TYPES), "how the key-value cache keeps its numbers")

DRAFT = optional("draft", _NAME, "a smaller model of the same vocabulary, which guesses tokens for this one")


def _read_duration(value: str, path: str) -> float:
    seconds = read_duration(value)
    if seconds is None:
        raise RequestError(f"{path!r} is no duration", hint="write seconds, or 90s, 10m, 24h", param=path)
    return seconds


KEEP_ALIVE = optional(
    "keep_alive",
    schema.either(
        "seconds, or a text such as 10m",
        (schema.is_number, schema.mapped(schema.number(-1e9, 1e9), lambda value, _: FOR_EVER if value < 0 else value)),
        (
            schema.is_string,
            schema.mapped(
                schema.string(1, 20),
                _read_duration,
                {"type": "string", "pattern": r"^-?[0-9]{1,9}(\.[0-9]{1,6})?(ms|s|m|h|d)?$", "maxLength": 20},
            ),
        ),
    ),
    "how long the model stays after its last answer; 0: no longer; below 0: for ever",
)
_OPTIONS: tuple[Field[object], ...] = (CONTEXT_LENGTH, QUANTISATION, SLOTS, CACHE_TYPE, DRAFT, KEEP_ALIVE)


def _read_options(value: object, path: str) -> LoadOptions:
    """A misspelt option must not load a model otherwise than meant, so an unknown one is an error here."""
    body = schema.mapping().read(value, path)
    known = [field.name for field in _OPTIONS]
    for key in body:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"options are {', '.join(known)}"
            raise RequestError(f"{key[:80]!r} is not an option", hint=hint, param=f"{path}.{key[:80]}")
    at = f"{path}."
    return LoadOptions(
        CONTEXT_LENGTH.of(body, at),
        QUANTISATION.of(body, at),
        SLOTS.of(body, at),
        CACHE_TYPE.of(body, at),
        DRAFT.of(body, at),
        KEEP_ALIVE.of(body, at),
    )


OPTIONS = Field(
    "options",
    Reader(_read_options, {**object_schema(_OPTIONS), "additionalProperties": False}),
    LoadOptions(),
    "what is left out is as the device's configuration says",
)
WAIT = Field("wait", schema.boolean(), True, "answer when the model is loaded; false: at once")
LOAD_FIELDS: tuple[Field[object], ...] = (MODEL, OPTIONS, WAIT)

CANCEL = Field("cancel", schema.boolean(), False, "end the answers that still run with an error, instead of waiting")
WAIT_S = Field("wait_s", schema.number(0, 600), 30.0, "how long to wait for answers that still run, in seconds")
UNLOAD_FIELDS: tuple[Field[object], ...] = (MODEL, CANCEL, WAIT_S)

PULLED = Field("model", schema.string(1, 4096), about="[host/]name[:tag]; file:///folder with an admin's key")
LOCAL_NAME = optional("name", _NAME, "of a folder taken in: what to call it; else as the folder is called")
STREAM = Field(
    "stream", schema.boolean(), False, "report progress as server-sent events, or as lines of JSON where Accept says so"
)
CANCEL_FIELDS: tuple[Field[object], ...] = (MODEL,)
PULL_FIELDS: tuple[Field[object], ...] = (PULLED, LOCAL_NAME, STREAM)

SOURCE = Field("source", _NAME, about="a model of GET /v1/models")
DESTINATION = Field("destination", _NAME, about="the further name")
COPY_FIELDS: tuple[Field[object], ...] = (SOURCE, DESTINATION)

PACKED = Field("packed", schema.boolean(), False, "also the packed weights of models that are not loaded")
PRUNE_FIELDS: tuple[Field[object], ...] = (PACKED,)

_TEXT: Json = {"type": "string"}
_WHOLE: Json = {"type": "integer", "minimum": 0}
_STATE: Json = {"enum": ["available", "loading", "loaded", "failed", "broken"]}


def _answer(required: Json, further: Json | None = None) -> Json:
    return {"type": "object", "required": list(required), "properties": {**required, **(further or {})}}


_MEMORY = _answer(
    {
        "weights_bytes": _WHOLE,
        "cache_bytes": _WHOLE,
        "workspace_bytes": _WHOLE,
        "needed_bytes": _WHOLE,
        "quantisation": _TEXT,
        "cache_type": _TEXT,
    }
)
_HOSTED: Json = {
    "loading": {"type": "object"},
    "memory": _MEMORY,
    "answering": _WHOLE,
    "expires_in_s": {"type": ["number", "null"]},
}
_MODEL: Json = {
    "id": _TEXT,
    "object": {"const": "model"},
    "created": _WHOLE,
    "owned_by": _TEXT,
    "kind": {"enum": ["text", "embedding", "reranker", "adapter"]},
    "state": _STATE,
    "parameters": _WHOLE,
    "format": _TEXT,
    "quantisation": _TEXT,
    "bytes": _WHOLE,
    "context_length": _WHOLE,
    "root": _TEXT,
}
_FURTHER: Json = {
    "error": _TEXT,
    "base": _TEXT,
    "digest": _TEXT,
    "source": _TEXT,
    "architecture": _TEXT,
    "modified": _WHOLE,
    **_HOSTED,
}
MODEL_ANSWER = _answer(_MODEL, _FURTHER)
SHOW_ANSWER = _answer(
    {**_MODEL, "licence": _TEXT, "template": _TEXT, "sampling": {"type": "object"}},
    {**_FURTHER, "needed": _MEMORY, "path": _TEXT},
)
_LISTED = _answer({**_MODEL, "nodes": {"type": "array", "items": _TEXT}}, _FURTHER)
LIST_ANSWER = _answer({"object": {"const": "list"}, "data": {"type": "array", "items": _LISTED}})
STATE_ANSWER = _answer(
    {"model": _TEXT, "state": _STATE},
    {"seconds": {"type": "number"}, "context_length": _WHOLE, "slots": _WHOLE, **_HOSTED},
)
_PROGRESS: Json = {"status": _TEXT, "completed": _WHOLE, "total": _WHOLE, "blobs": {"type": "array"}}
PULL_ANSWER = _answer({"status": {"const": "success"}, "model": _TEXT, "bytes": _WHOLE})
PULLS_ANSWER = _answer(
    {"object": {"const": "list"}, "data": {"type": "array", "items": _answer({"model": _TEXT, **_PROGRESS})}}
)
CANCEL_ANSWER = _answer({"model": _TEXT, "status": {"const": "cancelled"}})
DELETE_ANSWER = _answer({"id": _TEXT, "object": {"const": "model"}, "deleted": {"const": True}})
_USED = _answer({"model": _TEXT, "bytes": _WHOLE, "shared_bytes": _WHOLE, "packed_bytes": _WHOLE})
USAGE_ANSWER = _answer(
    {
        "models": {"type": "array", "items": _USED},
        "models_bytes": _WHOLE,
        "packed_bytes": _WHOLE,
        "unused_bytes": _WHOLE,
        "partial_bytes": _WHOLE,
        "free_bytes": _WHOLE,
        "disk_bytes": _WHOLE,
    }
)
PRUNE_ANSWER = _answer({"freed_bytes": _WHOLE, "packed_bytes": _WHOLE, "unused_bytes": _WHOLE})
