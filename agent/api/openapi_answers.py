"""JSON Schemas of what port 8080 answers, for its OpenAPI document; render.py and its neighbours write them."""

from __future__ import annotations

from agent.api.schema import Json

_TEXT: Json = {"type": "string"}
_WHOLE: Json = {"type": "integer", "minimum": 0}
_NULLABLE_TEXT: Json = {"type": ["string", "null"]}


def _object(required: Json, **optional: Json) -> dict[str, object]:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


def _list(items: Json) -> dict[str, object]:
    return {"type": "array", "items": items}


def _nullable(schema: Json) -> dict[str, object]:
    return {"anyOf": [schema, {"type": "null"}]}


_USAGE = _object(
    {"prompt_tokens": _WHOLE, "completion_tokens": _WHOLE, "total_tokens": _WHOLE},
    prompt_tokens_details=_object({"cached_tokens": _WHOLE}),
    completion_tokens_details=_object({"reasoning_tokens": _WHOLE}),
)
_TOKEN: dict[str, Json] = {"token": _TEXT, "logprob": {"type": "number"}, "bytes": _list(_WHOLE)}
_CHAT_LOGPROBS = _object({"content": _list(_object({**_TOKEN, "top_logprobs": _list(_object(_TOKEN))}))})
_FUNCTION = _object({"name": _TEXT, "arguments": _TEXT})
_CALL = _object({"id": _TEXT, "type": {"const": "function"}, "function": _FUNCTION})
_MESSAGE = _object(
    {"role": {"const": "assistant"}, "content": _NULLABLE_TEXT, "refusal": _NULLABLE_TEXT},
    reasoning_content=_TEXT,
    tool_calls=_list(_CALL),
    function_call=_FUNCTION,
)


def _answer(kind: str, choice: Json) -> dict[str, object]:
    return _object(
        {
            "id": _TEXT,
            "object": {"const": kind},
            "created": _WHOLE,
            "model": _TEXT,
            "system_fingerprint": _NULLABLE_TEXT,
            "choices": _list(choice),
            "usage": _USAGE,
        }
    )


CHAT = _answer(
    "chat.completion",
    _object(
        {
            "index": _WHOLE,
            "message": _MESSAGE,
            "logprobs": _nullable(_CHAT_LOGPROBS),
            "finish_reason": {"enum": ["stop", "length", "tool_calls", "function_call"]},
        }
    ),
)
COMPLETION = _answer(
    "text_completion",
    _object(
        {
            "index": _WHOLE,
            "text": _TEXT,
            "logprobs": _nullable(
                _object(
                    {
                        "tokens": _list(_TEXT),
                        "token_logprobs": _list({"type": "number"}),
                        "top_logprobs": _nullable(_list({"type": "object"})),
                        "text_offset": _list(_WHOLE),
                    }
                )
            ),
            "finish_reason": {"enum": ["stop", "length"]},
        }
    ),
)
EMBEDDINGS = _object(
    {
        "object": {"const": "list"},
        "model": _TEXT,
        "data": _list(
            _object(
                {
                    "object": {"const": "embedding"},
                    "index": _WHOLE,
                    "embedding": {"anyOf": [_list({"type": "number"}), _TEXT]},
                }
            )
        ),
        "usage": _object({"prompt_tokens": _WHOLE, "total_tokens": _WHOLE}),
    }
)
RERANK = _object(
    {
        "object": {"const": "list"},
        "id": _TEXT,
        "model": _TEXT,
        "results": _list(
            _object(
                {"index": _WHOLE, "relevance_score": {"type": "number", "minimum": 0, "maximum": 1}},
                document=_object({"text": _TEXT}),
            )
        ),
        "usage": _object({"prompt_tokens": _WHOLE, "total_tokens": _WHOLE}),
    }
)
HEALTH = _object({"status": {"const": "ok"}, "model": _TEXT})
METRICS: Json = {"type": "string"}
