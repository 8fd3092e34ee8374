"""An engine that answers by a script: deltas, pauses that a test ends, and errors. It notes what was asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from agent.engine.base import Delta, Embeddings, EmbedRequest, EngineStatus, Request, TokenLogprob, Usage
from agent.errors import OverloadedError, ThoxError

Step = Delta | ThoxError | threading.Event
Script = Callable[[Request], Iterable[Step]]

WORDS = ("Hello", " there", ",", " friend", ".")


def token(text: str, logprob: float = -0.5, tops: int = 0) -> TokenLogprob:
    top = tuple((i, text if i == 0 else f"{text}{i}", text.encode(), logprob - i) for i in range(tops))
    return TokenLogprob(hash(text) & 0xFFFF, text, text.encode(), logprob, top)


def say(request: Request, words: Iterable[str] = WORDS) -> Iterator[Delta]:
    """Every choice says the words, all choices in step, as a batch does; max_tokens holds."""
    said = list(words)[: request.sampling.max_tokens]
    choices, tops = len(request.prompts) * request.n, request.sampling.logprobs
    finish = "stop" if len(said) < (request.sampling.max_tokens or 1_000_000) else "length"
    for word in said:
        for index in range(choices):
            # Later choices are likelier: so best_of has something to choose.
            told = () if tops is None else (token(word, -1.0 / (index + 1), tops),)
            yield Delta(index, word, logprobs=told)
    for index in range(choices):
        usage = Usage(prompt=7, completion=len(said) * choices, cached=2) if index == choices - 1 else None
        yield Delta(index, finish="stop" if finish == "stop" else "length", usage=usage)


class ScriptedAnswer:
    """One run of the script. An event in it holds the answer up until it is set."""

    def __init__(self, engine: ScriptedEngine, steps: Iterable[Step]) -> None:
        self._engine = engine
        self._steps = iter(steps)
        self._held: threading.Event | None = None
        self.closed = threading.Event()
        self.polled = threading.Event()

    def poll(self, timeout: float) -> Delta | None:
        self.polled.set()
        if self._held is None:
            step = next(self._steps)
            if isinstance(step, ThoxError):
                raise step
            if isinstance(step, Delta):
                self._engine.last_token_at = time.monotonic()
                return step
            self._held = step
        if self._held.wait(timeout):
            self._held = None
        return None

    def __iter__(self) -> Iterator[Delta]:
        while True:
            delta = self.poll(1.0)
            if delta is not None:
                yield delta
                if delta.usage is not None:
                    return

    def close(self) -> None:
        self.closed.set()


class ScriptedEngine:
    """Takes one request after another; ``script`` decides what each is told."""

    def __init__(self, script: Script = say) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.embedded: list[EmbedRequest] = []
        self.answers: list[ScriptedAnswer] = []
        self.full = False
        self.refusal: ThoxError | None = None
        self.last_token_at: float | None = None

    def generate(self, request: Request) -> ScriptedAnswer:
        if self.full:
            raise OverloadedError("the waiting line is full", retry_after=3)
        if self.refusal is not None:
            raise self.refusal
        self.requests.append(request)
        answer = ScriptedAnswer(self, self.script(request))
        self.answers.append(answer)
        return answer

    def embed(self, request: EmbedRequest) -> Embeddings:
        self.embedded.append(request)
        if request.query is not None:
            shared = [len(set(request.query.split()) & set(str(text).split())) for text in request.inputs]
            scores = np.array([[count / (1 + len(request.query.split()))] for count in shared], np.float32)
            return Embeddings(scores, tokens=5 * len(request.inputs))
        size = request.dimensions or 4
        vectors = np.eye(len(request.inputs), size, dtype=np.float32)
        return Embeddings(vectors, tokens=3 * len(request.inputs))

    def status(self) -> EngineStatus:
        return EngineStatus("fake", "text", 512, slots=4, fingerprint="fp_test", last_token_at=self.last_token_at)

    def close(self) -> None:
        for answer in self.answers:
            answer.close()
