"""What the answers of chat and completions have in common on the wire: heads, usage, and JSON itself."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.engine.base import Delta, FinishReason, TokenLogprob, ToolCallDelta, Usage

Object = dict[str, object]

# JSON has no infinity; OpenAI writes this for a token that could not be chosen.
IMPOSSIBLE = -9999.0


@dataclass(frozen=True, slots=True)
class Head:
    """The fields that every object and chunk of one answer begins with."""

    id: str
    model: str  # as the client asked for it
    fingerprint: str
    created: int = field(default_factory=lambda: int(time.time()))

    def object(self, kind: str, choices: Iterable[Object]) -> Object:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint or None,
            "choices": list(choices),
        }


@dataclass(slots=True)
class Choice:
    """All pieces of one choice, put together."""

    text: str = ""
    reasoning: str = ""
    tool_calls: dict[int, ToolCallDelta] = field(default_factory=dict)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: FinishReason | None = None

    def add(self, delta: Delta) -> None:
        self.text += delta.text
        self.reasoning += delta.reasoning
        self.logprobs += delta.logprobs
        self.finish = delta.finish or self.finish
        for piece in delta.tool_calls:
            known = self.tool_calls.get(piece.index, ToolCallDelta(piece.index))
            self.tool_calls[piece.index] = ToolCallDelta(
                piece.index, known.id or piece.id, known.name or piece.name, known.arguments + piece.arguments
            )


def collect(deltas: Iterable[Delta | None], count: int) -> tuple[list[Choice], Usage]:
    """The ``count`` choices of an answer, whole; None stands for "nothing yet"."""
    choices, usage = [Choice() for _ in range(count)], Usage()
    for delta in deltas:
        if delta is not None:
            choices[delta.index].add(delta)
            usage = delta.usage or usage
    return choices, usage


def new_id(kind: str) -> str:
    """An id as OpenAI's look: ``chatcmpl-`` and 32 hexadecimal digits."""
    return f"{kind}-{uuid.uuid4().hex}"


def dumps(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def usage_object(usage: Usage) -> Object:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def finite(logprob: float) -> float:
    return max(logprob, IMPOSSIBLE)
