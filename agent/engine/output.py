"""The text of an answer, as it grows, told apart: content, reasoning and tool calls."""

from __future__ import annotations

from collections.abc import Container, Iterable

from agent.engine.output_piece import Piece
from agent.engine.reasoning import ReasoningFormat, ReasoningParser
from agent.engine.tool_calls import ToolCallParser
from agent.engine.tool_formats import ToolFormat


class OutputParser:
    """Takes the text of one answer in pieces of any size. Where they are cut makes no difference to the whole.

    Content is held back only while it may turn out to be markup.
    """

    def __init__(
        self,
        tools: ToolFormat | None = None,
        names: Container[str] = (),
        *,
        parallel: bool = True,
        reasoning: ReasoningFormat | None = None,
        opened: bool = False,
    ) -> None:
        """``opened``: the prompt ends within a reasoning span. Without formats, all is content."""
        self._reasoning = ReasoningParser(reasoning, opened=opened) if reasoning else None
        self._tools = ToolCallParser(tools, names, parallel=parallel) if tools else None

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain now."""
        return self._calls(self._reasoning.feed(text) if self._reasoning else [Piece(text)] if text else [])

    def end(self) -> list[Piece]:
        """The rest, when the answer is over."""
        pieces = self._calls(self._reasoning.end() if self._reasoning else [])
        return pieces + (self._tools.end() if self._tools else [])

    @property
    def saw_tool_call(self) -> bool:
        """A call was found: an answer that ends by itself has the finish reason ``tool_calls``."""
        return self._tools is not None and self._tools.found

    @property
    def reasoning(self) -> bool:
        """Whether the answer is within a reasoning span now."""
        return self._reasoning is not None and self._reasoning.inside

    @property
    def done(self) -> bool:
        """Nothing that follows will be given: the one call that was allowed is complete. The engine may stop here."""
        return self._tools is not None and self._tools.over

    def _calls(self, pieces: Iterable[Piece]) -> list[Piece]:
        found: list[Piece] = []
        for piece in pieces:
            if self._tools is not None and piece.text:
                found += self._tools.feed(piece.text)
            else:
                found.append(piece)
        return found
