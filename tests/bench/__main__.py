"""``python -m tests.bench``: the same random checkpoint through our HTTP API and through llama.cpp's server, in pairs.

A shared machine changes its speed by the minute, so no two numbers count that were not taken side by side: our server
runs all the time, each of llama.cpp's beside it in turn, and every measurement is taken of one directly after the
other, now in this order, now in that. The ratio of such a pair is what is told, as the median over the rounds; the
tokens a second stand beside it so that it can be checked. It asserts nothing.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.bench import checkpoint
from tests.bench.contenders import Endpoint, LlamaCpp, Thox
from tests.bench.load import Load

# Tokens a second, but for the last: seconds from a request to the first token of its answer.
MEASURES: Mapping[str, Callable[[Load], float]] = {
    "prefill 512": lambda load: statistics.median(load.prefill(512) for _ in range(2)),
    "decode 1": lambda load: load.decode(1, 16, 64),
    "4 streams": lambda load: load.decode(4, 16, 48),
    "8 streams": lambda load: load.decode(8, 16, 48),
    "16 streams": lambda load: load.decode(16, 16, 48),
    "context 2048": lambda load: load.decode(1, 2048, 32),
    "first token s": lambda load: statistics.median(load.first_token(16) for _ in range(5)),
}
CACHE = Path(".cache/bench")

Pairs = dict[str, list[tuple[float, float]]]  # by measure: ours and theirs, of each round


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--llama-server", type=Path, help="a llama-server built for this machine; else xllamacpp's")
    parser.add_argument("--llama-quantize", type=Path, help="llama.cpp's own quantiser: adds Q4_K_M to Q4_0")
    parser.add_argument("--only", nargs="+", help="of llama.cpp's, those whose name contains one of these")
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=list(MEASURES))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers end with it

    ours, others = _contenders(options.llama_server, options.llama_quantize)
    if options.only:
        others = [one for one in others if any(part in one.name for part in options.only)]
    with ours.running() as endpoint:
        for other in others:
            with other.running() as rival:
                pairs = _measure(endpoint, rival, options.measures, options.rounds)
                memory = (endpoint.resident_mb(), rival.resident_mb())
            _show(other.name, pairs, memory)
        _say(f"of our steps, {_beside_forward(endpoint):.1f} % of the time at 16 streams is not the forward pass")


def _measure(ours: Endpoint, theirs: Endpoint, measures: list[str], rounds: int) -> Pairs:
    loads = [Load(one.url, one.key, one.model, checkpoint.VOCABULARY, seed) for seed, one in enumerate((ours, theirs))]
    pairs: Pairs = {measure: [] for measure in measures}
    try:
        for load in loads:
            load.decode(1, 16, 8)  # warm
        for number in range(rounds):
            for measure in measures:
                taken = {which: MEASURES[measure](loads[which]) for which in ((0, 1), (1, 0))[number % 2]}
                pairs[measure].append((taken[0], taken[1]))
    finally:
        for load in loads:
            load.close()
    return pairs


def _beside_forward(ours: Endpoint) -> float:
    """Percent of the time of our steps that is spent outside of the forward pass."""
    load = Load(ours.url, ours.key, ours.model, checkpoint.VOCABULARY, seed=2)
    try:
        before = load.step_seconds()
        load.decode(16, 16, 48)
        step, forward = (now - then for now, then in zip(load.step_seconds(), before, strict=True))
        return 100 * (1 - forward / step)
    finally:
        load.close()


def _show(name: str, pairs: Pairs, memory: tuple[int, int]) -> None:
    _say(f"\n{name:40}{'ours':>10}{'theirs':>10}{'ratio':>8}   of each round")
    for measure, taken in pairs.items():
        ours, theirs = (statistics.median(pair[which] for pair in taken) for which in (0, 1))
        ratios = [pair[0] / pair[1] for pair in taken]
        rounds = " ".join(f"{ratio:.2f}" for ratio in ratios)
        _say(f"  {measure:38}{ours:10.2f}{theirs:10.2f}{statistics.median(ratios):8.2f}   {rounds}")
    _say(f"  {'resident MB':38}{memory[0]:10}{memory[1]:10}{memory[0] / memory[1]:8.2f}")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def _contenders(server: Path | None, quantiser: Path | None) -> tuple[Thox, list[LlamaCpp]]:
    model = CACHE / "state" / "models" / "llama-1b"
    checkpoint.make(model)
    others: list[LlamaCpp] = []
    for kind in ("Q4_0", "Q4_K_M") if quantiser else ("Q4_0",):
        file = CACHE / f"llama-1b-{kind}{'' if quantiser else '-q8-head'}.gguf"
        if quantiser:
            full = CACHE / "llama-1b-f16.gguf"
            checkpoint.make_gguf(model, full)
            checkpoint.quantise_gguf(quantiser, full, file, kind)
        else:
            checkpoint.make_gguf(model, file, kind)
        others += [
            LlamaCpp(
                f"llama.cpp {kind} fa {'on' if flash else 'off'} repack {'on' if repack else 'off'}",
                file,
                flash_attention=flash,
                repack=repack,
                binary=server,
            )
            for flash in (False, True)
            for repack in (True, False)
        ]
    return Thox("thox int4", CACHE / "state", "llama-1b"), others


if __name__ == "__main__":
    main()
