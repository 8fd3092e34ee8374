"""A chat's answer in OpenAI's shapes: ``chat.completion``, or ``chat.completion.chunk`` after chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agent.api.render import Choice, Head, Object, finite, usage_object
from agent.engine.base import Delta, TokenLogprob, ToolCallDelta, Usage


def chat_object(head: Head, choices: Sequence[Choice], usage: Usage, *, logprobs: bool, legacy: bool) -> Object:
    """The whole answer. ``legacy``: a tool call is written as ``function_call``."""
    rendered: list[Object] = [
        {
            "index": index,
            "message": _message(choice, legacy),
            "logprobs": _logprobs(choice.logprobs) if logprobs else None,
            "finish_reason": _finish(choice.finish, legacy),
        }
        for index, choice in enumerate(choices)
    ]
    return {**head.object("chat.completion", rendered), "usage": usage_object(usage)}


def _message(choice: Choice, legacy: bool) -> Object:
    calls = [choice.tool_calls[index] for index in sorted(choice.tool_calls)]
    message: Object = {
        "role": "assistant",
        "content": choice.text if choice.text or not calls else None,
        "refusal": None,
        "annotations": [],
    }
    if choice.reasoning:
        # Two names for one thing are about: DeepSeek's and vLLM's.
        message["reasoning_content"] = message["reasoning"] = choice.reasoning
    if calls and legacy:
        message["function_call"] = {"name": calls[0].name or "", "arguments": calls[0].arguments}
    elif calls:
        message["tool_calls"] = [
            {"id": c.id or "", "type": "function", "function": {"name": c.name or "", "arguments": c.arguments}}
            for c in calls
        ]
    return message


class ChatChunks:
    """A chat's answer as it grows."""

    def __init__(self, head: Head, *, logprobs: bool, legacy: bool, usage: bool) -> None:
        self._head, self._logprobs, self._legacy, self._usage = head, logprobs, legacy, usage
        self._begun: set[int] = set()

    def of(self, delta: Delta) -> Iterator[Object]:
        """The chunks of one piece: a first one with the role, the piece itself, the end of its choice."""
        if delta.index not in self._begun:
            self._begun.add(delta.index)
            yield self._chunk(delta.index, {"role": "assistant", "content": "", "refusal": None})
        changed = self._changed(delta)
        if changed or (self._logprobs and delta.logprobs):
            yield self._chunk(delta.index, changed, _logprobs(delta.logprobs) if self._logprobs else None)
        if delta.finish is not None:
            yield self._chunk(delta.index, {}, finish=_finish(delta.finish, self._legacy))
        if delta.usage is not None and self._usage:
            yield {**self._head.object("chat.completion.chunk", ()), "usage": usage_object(delta.usage)}

    def _changed(self, delta: Delta) -> Object:
        changed: Object = {}
        if delta.text:
            changed["content"] = delta.text
        if delta.reasoning:
            changed["reasoning_content"] = changed["reasoning"] = delta.reasoning
        if delta.tool_calls and self._legacy:
            changed["function_call"] = _function(delta.tool_calls[0])
        elif delta.tool_calls:
            changed["tool_calls"] = [_call(piece) for piece in delta.tool_calls]
        return changed

    def _chunk(self, index: int, delta: Object, logprobs: Object | None = None, finish: str | None = None) -> Object:
        choice: Object = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        chunk = self._head.object("chat.completion.chunk", (choice,))
        if self._usage:
            chunk["usage"] = None
        return chunk


def _call(piece: ToolCallDelta) -> Object:
    call: Object = {"index": piece.index}
    if piece.id is not None:
        call.update(id=piece.id, type="function")
    return {**call, "function": _function(piece)}


def _function(piece: ToolCallDelta) -> Object:
    named: Object = {} if piece.name is None else {"name": piece.name}
    return {**named, "arguments": piece.arguments}


def _finish(finish: str | None, legacy: bool) -> str:
    return "function_call" if legacy and finish == "tool_calls" else finish or "stop"


def _logprobs(tokens: Sequence[TokenLogprob]) -> Object:
    return {
        "content": [
            {
                **_token(t.text, t.data, t.logprob or 0.0),
                "top_logprobs": [_token(text, data, logprob) for _, text, data, logprob in t.top],
            }
            for t in tokens
        ],
        "refusal": None,
    }


def _token(text: str, data: bytes, logprob: float) -> Object:
    return {"token": text, "logprob": finite(logprob), "bytes": list(data)}
