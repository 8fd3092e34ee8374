"""What a load costs, step by step: python tests/bench/loading.py MODEL_FOLDER CACHE_FOLDER [int4]

Elapsed and processor seconds since the start, and memory: what is the process's own, what are pages of files, the peak.
The first run packs the weights into CACHE_FOLDER, the next one maps them.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import cast

from agent.engine.decoder import DecoderSpec
from agent.engine.gguf_folder import describe
from agent.engine.openvino import OpenVinoStage
from agent.engine.quantise import Quantisation
from agent.engine.weights import Checkpoint
from agent.engine.weights_packed import Weights

_PAGES = 128  # 4,096 tokens


def main(folder: Path, cache: Path, quantisation: Quantisation) -> None:
    begin = time.perf_counter(), time.process_time()

    def tell(step: str) -> None:
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        memory = ", ".join(f"{key} {int(status[key].split()[0]) // 1024} MB" for key in ("RssAnon", "RssFile", "VmHWM"))
        spent = time.perf_counter() - begin[0], time.process_time() - begin[1]
        sys.stdout.write(f"{step:10s} {spent[0]:7.2f} s {spent[1]:7.2f} s of processor; {memory}\n")

    checkpoint = Checkpoint.open(folder)
    spec = DecoderSpec.from_config(json.loads((describe(folder, cache) / "config.json").read_text()))
    tell("opened")
    weights = Weights.open(checkpoint, spec, range(spec.layers), quantisation, cache=cache, threads=2)
    tell("packed")
    stage = OpenVinoStage(spec, range(spec.layers), weights, pages=_PAGES, activations=128, threads=2)
    tell("ready")
    stage.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), cast(Quantisation, (*sys.argv[3:], "int4")[0]))
