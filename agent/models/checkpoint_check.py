"""Whether this engine can load a model, told without loading it: a pull keeps no other.

``check_architecture`` needs config.json alone, so it is asked before gigabytes are fetched; ``check_loadable`` compares
the headers of all weights with what the engine will read.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from agent.engine import encoder_spec
from agent.engine.base import Floats, Json
from agent.engine.decoder import DecoderSpec
from agent.engine.encoder_spec import EncoderSpec
from agent.engine.encoder_weights import EncoderWeights
from agent.engine.families import text_config
from agent.engine.gguf_families import config_of
from agent.engine.gguf_file import GgufFile, find_gguf
from agent.engine.weights import Checkpoint
from agent.errors import ModelError
from agent.models.checkpoint import StoredModel

_LARGEST_CONFIG = 4 * 1024 * 1024


def check_architecture(config: Path, files: Collection[str]) -> None:
    """Of a config.json, in a folder of these files. Raises ModelError for an architecture that the engine has not.

    A file that is no configuration passes: ``inspect`` says what is wrong with it.
    """
    try:
        if config.stat().st_size > _LARGEST_CONFIG:
            return
        found = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return
    if not isinstance(found, dict):
        return
    if not encoder_spec.kind(found) and "modules.json" not in files:
        text_config(found)
    elif encoder_spec.architecture(found) is None:
        EncoderSpec.from_config(found)  # says so


def check_loadable(model: StoredModel) -> None:
    """Raises ModelError for what a load would refuse: settings that are not computed, tensors that lack or do not fit.

    An adapter was checked by its own reader, and is checked against its base when that loads.
    """
    if model.kind == "adapter":
        return
    checkpoint = Checkpoint.open(model.path)
    if model.kind == "text":
        DecoderSpec.from_config(_config(model.path)).check(checkpoint.shapes)
    else:
        EncoderWeights.read(EncoderSpec.from_folder(model.path), _Shapes(checkpoint.shapes))


@dataclass(frozen=True, slots=True)
class _Shapes:
    """A checkpoint without its numbers, for a reader that looks at shapes."""

    shapes: Mapping[str, tuple[int, ...]]

    def tensor(self, name: str) -> Floats:
        if name not in self.shapes:
            raise ModelError(
                f"the checkpoint lacks {name}", hint="the download may be incomplete: pull the model again"
            )
        return cast(Floats, np.broadcast_to(np.int8(0), self.shapes[name]))  # one byte, however large the shape


def _config(folder: Path) -> Json:
    gguf = find_gguf(folder)
    if gguf is not None:
        return config_of(GgufFile.read(gguf))
    found: Json = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return found
