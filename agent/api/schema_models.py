"""The bodies of model management's calls, and what they answer."""

from __future__ import annotations

import difflib

from agent.api import schema
from agent.api.schema import Field, Json, Reader, object_schema, optional
from agent.errors import RequestError
from agent.models.options import QUANTISATIONS, LoadOptions

_NAME = schema.string(1, 300)
MODEL = Field("model", _NAME, about="a model of GET /v1/models")

CONTEXT_LENGTH = optional("context_length", schema.integer(16, 1 << 24), "tokens; at most the model's own")
QUANTISATION = optional("quantisation", schema.choice(*QUANTISATIONS), "how the weights are kept")
SLOTS = optional("slots", schema.integer(1, 1024), "answers that are computed together")
_OPTIONS: tuple[Field[object], ...] = (CONTEXT_LENGTH, QUANTISATION, SLOTS)


def _read_options(value: object, path: str) -> LoadOptions:
    """A misspelt option must not load a model otherwise than meant, so an unknown one is an error here."""
    body = schema.mapping().read(value, path)
    known = [field.name for field in _OPTIONS]
    for key in body:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"options are {', '.join(known)}"
            raise RequestError(f"{key[:80]!r} is not an option", hint=hint, param=f"{path}.{key[:80]}")
    return LoadOptions(
        CONTEXT_LENGTH.of(body, f"{path}."), QUANTISATION.of(body, f"{path}."), SLOTS.of(body, f"{path}.")
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
STREAM = Field("stream", schema.boolean(), False, "report progress as server-sent events")
PULL_FIELDS: tuple[Field[object], ...] = (PULLED, LOCAL_NAME, STREAM)

SOURCE = Field("source", _NAME, about="a model of GET /v1/models")
DESTINATION = Field("destination", _NAME, about="its further name")
COPY_FIELDS: tuple[Field[object], ...] = (SOURCE, DESTINATION)

_TEXT: Json = {"type": "string"}
_WHOLE: Json = {"type": "integer", "minimum": 0}
_STATE: Json = {"enum": ["available", "loading", "loaded", "failed", "broken"]}


def _answer(required: Json, further: Json | None = None) -> Json:
    return {"type": "object", "required": list(required), "properties": {**required, **(further or {})}}


MODEL_ANSWER = _answer(
    {
        "id": _TEXT,
        "object": {"const": "model"},
        "created": _WHOLE,
        "owned_by": _TEXT,
        "kind": {"enum": ["text", "embedding"]},
        "state": _STATE,
        "parameters": _WHOLE,
        "bytes": _WHOLE,
        "context_length": _WHOLE,
        "root": _TEXT,
    },
    {"error": _TEXT, "digest": _TEXT, "source": _TEXT, "architecture": _TEXT, "modified": _WHOLE},
)
LIST_ANSWER = _answer({"object": {"const": "list"}, "data": {"type": "array", "items": MODEL_ANSWER}})
STATE_ANSWER = _answer(
    {"model": _TEXT, "state": _STATE},
    {"seconds": {"type": "number"}, "context_length": _WHOLE, "slots": _WHOLE},
)
PULL_ANSWER = _answer({"status": {"const": "success"}, "model": _TEXT, "bytes": _WHOLE})
DELETE_ANSWER = _answer({"id": _TEXT, "object": {"const": "model"}, "deleted": {"const": True}})
