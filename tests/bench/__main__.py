"""``python -m tests.bench``: the same random checkpoint through our HTTP API and through llama.cpp's server, in turn.

Each round starts every contender once, one after the other, and takes every measurement; the table shows medians over
the rounds and, below, the ratio of ours to the best of the others. It asserts nothing.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
from pathlib import Path

from tests.bench import checkpoint
from tests.bench.contenders import Endpoint, LlamaCpp, Thox
from tests.bench.load import Load

MEASURES = ("prefill 512", "decode 1", "4 streams", "8 streams", "16 streams", "context 2048", "first token ms")
CACHE = Path(".cache/bench")


def measure(endpoint: Endpoint, seed: int) -> dict[str, float]:
    """One row: tokens a second, and milliseconds to the first token of an answer to 16 tokens."""
    load = Load(endpoint.url, endpoint.key, endpoint.model, checkpoint.VOCABULARY, seed)
    try:
        load.decode(1, 16, 8)  # warm
        row = {
            "prefill 512": statistics.median(load.prefill(512) for _ in range(3)),
            "decode 1": load.decode(1, 16, 64),
            "4 streams": load.decode(4, 16, 64),
            "8 streams": load.decode(8, 16, 64),
        }
        before = load.step_seconds()
        row["16 streams"] = load.decode(16, 16, 64)
        step, forward = (now - then for now, then in zip(load.step_seconds(), before, strict=True))
        row["context 2048"] = load.decode(1, 2048, 32)
        row["first token ms"] = 1000 * statistics.median(load.first_token(16) for _ in range(5))
        row["resident MB"] = endpoint.resident_mb()
        if step:
            row["% of a step at 16 streams that is not the forward pass"] = 100 * (1 - forward / step)
        return row
    finally:
        load.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--llama-server", type=Path, help="a llama-server built for this machine; else xllamacpp's")
    parser.add_argument("--llama-quantize", type=Path, help="llama.cpp's own quantiser: adds Q4_K_M to Q4_0")
    parser.add_argument("--only", nargs="+", help="contenders whose name contains one of these")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers end with it

    contenders = _contenders(options.llama_server, options.llama_quantize)
    if options.only:
        contenders = [one for one in contenders if any(part in one.name for part in options.only)]
    rows: dict[str, list[dict[str, float]]] = {contender.name: [] for contender in contenders}
    for number in range(options.rounds):
        for contender in contenders:
            with contender.running() as endpoint:
                rows[contender.name].append(measure(endpoint, seed=number))
            _show(f"round {number + 1}: {contender.name}", rows[contender.name][-1])
    medians = {
        name: {what: statistics.median(row[what] for row in measured) for what in measured[0]}
        for name, measured in rows.items()
    }
    for name, row in medians.items():
        _show(f"median: {name}", row)
    _compare(medians)


def _contenders(server: Path | None, quantiser: Path | None) -> list[Thox | LlamaCpp]:
    model = CACHE / "state" / "models" / "llama-1b"
    checkpoint.make(model)
    contenders: list[Thox | LlamaCpp] = [Thox("thox int4", CACHE / "state", "llama-1b")]
    for kind in ("Q4_0", "Q4_K_M") if quantiser else ("Q4_0",):
        file = CACHE / f"llama-1b-{kind}{'' if quantiser else '-q8-head'}.gguf"
        if quantiser:
            full = CACHE / "llama-1b-f16.gguf"
            checkpoint.make_gguf(model, full)
            checkpoint.quantise_gguf(quantiser, full, file, kind)
        else:
            checkpoint.make_gguf(model, file, kind)
        contenders += [
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
    return contenders


def _show(title: str, row: dict[str, float]) -> None:
    print(f"{title:48}", "  ".join(f"{what} {value:.1f}" for what, value in row.items()), flush=True)  # noqa: T201


def _compare(medians: dict[str, dict[str, float]]) -> None:
    """Ours over the best any of the others reached in that measure."""
    ours = next((row for name, row in medians.items() if name.startswith("thox")), None)
    others = [row for name, row in medians.items() if name.startswith("llama.cpp")]
    if ours is None or not others:
        return
    ratios = {what: ours[what] / max(row[what] for row in others) for what in MEASURES if what != "first token ms"}
    print("ours / best of llama.cpp:", "  ".join(f"{what} {ratio:.2f}x" for what, ratio in ratios.items()))  # noqa: T201


if __name__ == "__main__":
    main()
