"""The forms of the decoder that run on this machine, behind one call, and a reference that knows their weights."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.engine.decoder import DecoderSpec
from agent.engine.onnx import open_onnx
from agent.engine.quantise import Quantisation
from agent.engine.staged import StagedRunner
from agent.engine.weights import Checkpoint
from agent.engine.weights_lora import Adapter

_OPEN: dict[str, Callable[..., StagedRunner]] = {"onnx": open_onnx}
if platform.machine() == "x86_64":
    from agent.engine.openvino import open_openvino

    _OPEN["openvino"] = open_openvino

FORMS = tuple(_OPEN)


def read_spec(folder: Path) -> DecoderSpec:
    return DecoderSpec.from_config(json.loads((folder / "config.json").read_text()))


def open_form(
    form: str,
    folder: Path,
    quantisation: Quantisation = "float",
    *,
    cuts: Sequence[range] | None = None,
    slots: int = 4,
    context_length: int = 256,
    cache: Path | None = None,
    adapters: Sequence[Adapter] = (),
) -> StagedRunner:
    """A runner of a checkpoint in one of the forms, with a cache for a full context in every slot."""
    return _OPEN[form](
        Checkpoint.open(folder),
        read_spec(folder),
        quantisation,
        cuts=cuts,
        slots=slots,
        context_length=context_length,
        cache_tokens=slots * context_length,
        threads=2,
        cache=cache,
        adapters=adapters,
    )
