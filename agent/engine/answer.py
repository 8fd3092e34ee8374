"""An answer on its way from the engine's thread to the client's: a queue with a bound, and a way to cancel."""

from __future__ import annotations

import queue
from collections.abc import Iterator

from agent.engine.base import Delta
from agent.errors import RequestError, ThoxError

DELTA_BYTES = 200  # what a Delta costs in memory, roughly, beside its text
LOGPROB_BYTES = 150  # and each token with its log probability
POLL_S = 1.0


class StreamedAnswer:
    """Written by one engine thread, read by one client's thread, closed by any."""

    def __init__(self, buffer_bytes: int) -> None:
        self._queue: queue.SimpleQueue[Delta | ThoxError | None] = queue.SimpleQueue()
        self._buffer_bytes = buffer_bytes
        # Each counter has one writer, so neither needs a lock.
        self._bytes_in = 0
        self._bytes_out = 0
        self._error: ThoxError | None = None
        self._ended = False  # the client has seen the end
        self._closed = False

    @property
    def closed(self) -> bool:
        """Nobody will read any more: what is left to compute need not be."""
        return self._closed

    def put(self, delta: Delta) -> None:
        """From the engine: the next piece. Cancels the answer when the client has left too much unread."""
        if self._closed:
            return
        size = _size(delta)
        unread = self._bytes_in - self._bytes_out
        if unread and unread + size > self._buffer_bytes:
            self._error = RequestError(
                "the answer was cut off: its text was not read as fast as it was written",
                hint="read the stream as it comes, or ask for fewer tokens or logprobs",
            )
            self._closed = True
            return
        self._bytes_in += size
        self._queue.put(delta)

    def fail(self, error: ThoxError) -> None:
        """The answer broke. What came before can still be read; then ``poll`` raises."""
        self._queue.put(error)

    def poll(self, timeout: float) -> Delta | None:
        """The next piece, or None when none came in ``timeout`` seconds. Raises ThoxError when the answer broke."""
        if self._error is not None:
            raise self._error
        if self._ended or self._closed:
            return None
        try:
            item = self._queue.get(timeout=max(timeout, 0.0))
        except queue.Empty:
            return None
        if isinstance(item, ThoxError):
            self._error = item
            raise item
        if item is not None:
            self._bytes_out += _size(item)
            self._ended = item.usage is not None
        return item

    def __iter__(self) -> Iterator[Delta]:
        """All pieces, to the last; none after ``close``."""
        while True:
            delta = self.poll(POLL_S)
            if delta is not None:
                yield delta
            if self._ended or (self._closed and self._error is None):
                return

    def close(self) -> None:
        """Cancel what is left. The engine's thread frees the slots before its next step."""
        self._closed = True
        self._queue.put(None)  # wakes a reader


def _size(delta: Delta) -> int:
    tokens = sum(1 + len(logprob.top) for logprob in delta.logprobs)
    calls = sum(DELTA_BYTES + len(call.arguments) for call in delta.tool_calls)
    return DELTA_BYTES + 4 * (len(delta.text) + len(delta.reasoning)) + calls + LOGPROB_BYTES * tokens
