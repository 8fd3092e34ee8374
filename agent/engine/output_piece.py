"""A piece of an answer, once it is known what it is."""

from __future__ import annotations

from dataclasses import dataclass

from agent.engine.base import ToolCallDelta


@dataclass(frozen=True, slots=True)
class Piece:
    """One of: text of the answer itself, reasoning before it, pieces of tool calls."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
