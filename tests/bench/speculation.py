"""What speculation brings: the same greedy answers with and without it, in turn, in one process. Asserts only equality.

    python -m tests.bench.speculation MODEL_FOLDER [--quantisation int4] [--tokens 160] [--rounds 4] [--cache FOLDER]

Answers of one token over and over (what speculation brings at most), of two at random, and of any (it must then cost
nothing); the model's weights do not matter. Prints tokens a second from the first token on, pairs of runs in turn, and
how many guesses held. The cost of a step by its tokens comes first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from agent.engine.base import Chunk, Request, Sampling, Usage
from agent.engine.batched import BatchedEngine
from agent.engine.batched_guesses import Guesses
from agent.engine.decoder import DecoderSpec
from agent.engine.openvino import open_openvino
from agent.engine.staged import StagedRunner
from agent.engine.tokenizer import Tokenizer
from agent.engine.weights import Checkpoint
from agent.loader import physical_cores

COUNTS = (1, 2, 5, 9, 17, 33)
CONTEXT = 1024


class Tally:
    """A Meter that adds up guesses."""

    def __init__(self) -> None:
        self.proposed = self.accepted = 0

    def step(self, model: str, seconds: float, forward_seconds: float, prompt_tokens: int, new_tokens: int) -> None:
        """Speed is measured from outside."""

    def first_token(self, model: str, seconds: float) -> None:
        """Prompts are short."""

    def guessed(self, model: str, source: str, proposed: int, accepted: int) -> None:
        self.proposed += proposed
        self.accepted += accepted

    def finished(self, model: str, reason: str, usage: Usage) -> None:
        """Answers are counted by whoever asked."""


class Unclosed:
    """The same runner for one engine after another."""

    def __init__(self, runner: StagedRunner) -> None:
        self._runner = runner
        self.slots, self.context_length, self.vocab_size = runner.slots, runner.context_length, runner.vocab_size
        self.begin, self.reserve, self.forward = runner.begin, runner.reserve, runner.forward
        self.settle, self.release, self.cache_use = runner.settle, runner.release, runner.cache_use

    def close(self) -> None:
        """Others go on with it."""


def step_costs(runner: StagedRunner) -> dict[int, float]:
    """Seconds of a step that appends so many tokens to one slot, the median of seven."""
    tokens = [int(token) for token in np.random.default_rng(0).integers(10, runner.vocab_size, 300)]
    costs = {}
    for count in COUNTS:
        runner.begin(0, [1])
        runner.reserve(0, 300)
        runner.forward([Chunk(0, 0, tokens[:64], "none")])
        taken = []
        for at in range(64, 64 + 7 * count, count):
            began = time.perf_counter()
            runner.forward([Chunk(0, at, tokens[at : at + count], "all")])
            taken.append(time.perf_counter() - began)
        runner.release(0)
        costs[count] = statistics.median(taken)
    return costs


def spoken(engine: BatchedEngine, prompts: list[list[int]], sampling: Sampling) -> tuple[list[str], float]:
    """The texts, and tokens a second over all of them, from the first token on."""
    answers = [engine.generate(Request("bench", (tuple(prompt),), sampling)) for prompt in prompts]
    texts, tokens, began = [], 0, 0.0
    for answer in answers:
        text = ""
        for delta in answer:
            began = began or time.perf_counter()
            text += delta.text
            tokens += delta.usage.completion - 1 if delta.usage else 0
        texts.append(text)
    return texts, tokens / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quantisation", default="int4")
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--threads", type=int, default=physical_cores())
    options = parser.parse_args()
    spec = DecoderSpec.from_config(json.loads((options.folder / "config.json").read_text()))
    runner = open_openvino(
        Checkpoint.open(options.folder),
        spec,
        options.quantisation,
        slots=4,
        context_length=min(CONTEXT, spec.context_length),
        cache_tokens=4 * CONTEXT,
        threads=options.threads,
        cache=options.cache,
    )
    costs = step_costs(runner)
    print(  # noqa: T201  what it is for
        "step of n tokens, ms:", ", ".join(f"{n}: {1000 * s:.1f}" for n, s in costs.items())
    )
    tokenizer = Tokenizer.load(options.folder, spec.vocab)
    random = np.random.default_rng(1)
    phrase = [int(token) for token in random.integers(10, spec.vocab, 24)]
    words = [token for token in range(10, spec.vocab) if tokenizer.token_text(token).isalpha()]
    ending: dict[str, Any] = {"max_tokens": options.tokens, "ignore_eos": True}
    # A bias of 100 leaves only those tokens: one of them repeats for ever, of two each is a toss.
    one = Sampling(temperature=0.0, logit_bias={words[0]: 100.0}, **ending)
    two = Sampling(temperature=4.0, seed=1, logit_bias={words[0]: 100.0, words[1]: 100.0}, **ending)
    cases = {
        "all repeats, 1 stream": ([phrase], one),
        "all repeats, 4 streams": ([[*phrase, stream + 10] for stream in range(4)], one),
        "half of it, 1 stream": ([phrase], two),
        "nothing repeats, 1 stream": ([phrase], Sampling(temperature=1.0, seed=1, **ending)),
    }
    engines = {}
    for name in ("without", "with"):
        meter = Tally()
        guesses = Guesses() if name == "with" else None
        engines[name] = (BatchedEngine("bench", Unclosed(runner), tokenizer, None, None, meter, guesses=guesses), meter)
    for case, (prompts, sampling) in cases.items():
        for turn in range(options.rounds):
            speeds, said = {}, {}
            for name in ("without", "with") if turn % 2 else ("with", "without"):
                engine, meter = engines[name]
                meter.proposed = meter.accepted = 0
                said[name], speeds[name] = spoken(engine, prompts, sampling)
            held = engines["with"][1]
            print(  # noqa: T201  what it is for
                f"{case}: {speeds['without']:.1f} -> {speeds['with']:.1f} tokens/s, ratio "
                f"{speeds['with'] / speeds['without']:.2f}, {held.accepted} of {held.proposed} guesses held, "
                f"{'same text' if said['with'] == said['without'] else 'texts differ'}"
            )
    for engine, _ in engines.values():
        engine.close()
    runner.close()


if __name__ == "__main__":
    main()
