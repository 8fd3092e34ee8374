"""The ONNX form on an arm64 processor against the same on this one. A script, not a test: emulation takes minutes.

    PYTHONPATH=. python tests/engine/arm64_check.py make FOLDER       where the tests run
    PYTHONPATH=. python tests/engine/arm64_check.py compare FOLDER    on arm64, with what the agent itself needs

``make`` leaves random checkpoints in the folder, and what comes out of them; ``compare`` ends with 1 if anything
differs. ``docs/ARCHITECTURE.md`` says how to get an arm64 Python under qemu.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
from pathlib import Path

import numpy as np

from agent.engine.base import Chunk, Floats
from agent.engine.decoder import DecoderSpec
from agent.engine.encoder_batch import EncoderBatch
from agent.engine.encoder_input import EncoderInput
from agent.engine.encoder_spec import EncoderSpec
from agent.engine.encoder_weights import EncoderWeights
from agent.engine.onnx import open_onnx
from agent.engine.onnx_encoder import OnnxEncoder
from agent.engine.quantise import Quantisation
from agent.engine.weights import Checkpoint

DECODERS = ("llama", "qwen2", "qwen3", "mistral-window")
# In packed formats activations are rounded to int8, on each processor in its own way; each is allowed 8e-2 of the exact
# result (test_stage_forms), and between two of them 5.4e-2 was measured.
BOUNDS: dict[Quantisation, float] = {"float": 1e-5, "int8": 8e-2, "int4": 8e-2}


def results(folder: Path) -> dict[str, Floats]:
    """What the ONNX forms give for every checkpoint of the folder."""
    found: dict[str, Floats] = {}
    tokens = np.random.default_rng(5).integers(3, 331, 48).tolist()
    for name in DECODERS:
        for quantisation in BOUNDS:
            spec = DecoderSpec.from_config(json.loads((folder / name / "config.json").read_text()))
            runner = open_onnx(
                Checkpoint.open(folder / name),
                spec,
                quantisation,
                slots=2,
                context_length=64,
                cache_tokens=128,
                threads=2,
                cache=None,
            )
            runner.begin(1, tokens)
            runner.reserve(1, 48)
            rows = [runner.forward([Chunk(1, 0, tokens[:40], "all")]).copy()]
            rows += [runner.forward([Chunk(1, at, tokens[at : at + 1])]).copy() for at in range(40, 48)]
            found[f"{name} {quantisation}"] = np.concatenate(rows)
            runner.close()
    shape = EncoderSpec.from_folder(folder / "nomic")
    encoder = OnnxEncoder(shape, EncoderWeights.read(shape, Checkpoint.open(folder / "nomic")), threads=2)
    found["nomic float"] = encoder.run(EncoderBatch.of([[EncoderInput(tuple(row))] for row in (tokens, tokens[::-1])]))
    return found


def make(folder: Path) -> int:
    from checkpoints import random_checkpoint
    from encoders import nomic

    for name in DECODERS:
        shutil.copytree(random_checkpoint(name).folder, folder / name, dirs_exist_ok=True)
    shutil.copytree(nomic()[0], folder / "nomic", dirs_exist_ok=True)
    np.savez(folder / "expected.npz", **results(folder))  # type: ignore[arg-type]
    return 0


def compare(folder: Path) -> int:
    expected = np.load(folder / "expected.npz")
    failures = 0
    for name, found in results(folder).items():
        want = expected[name]
        error = float(np.abs(found - want).max()) / float(want.max() - want.min())
        fine = error <= BOUNDS[name.split()[1]]  # type: ignore[index]
        failures += not fine
        sys.stdout.write(f"{platform.machine()} {name}: {error:.1e} of the range{'' if fine else ', TOO MUCH'}\n")
    return int(failures > 0)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("make", "compare"):
        sys.exit(__doc__)
    sys.exit(make(Path(sys.argv[2])) if sys.argv[1] == "make" else compare(Path(sys.argv[2])))
