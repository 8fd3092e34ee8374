"""The decoder that a model's folder describes, read without its weights."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from agent.engine.decoder import DecoderSpec
from agent.engine.gguf_families import config_of
from agent.engine.gguf_file import GgufFile, find_gguf
from agent.errors import ModelError


@lru_cache(maxsize=64)
def decoder_spec(path: Path, digest: str) -> DecoderSpec:
    """Raises ModelError. ``digest`` tells the cache when the files are others."""
    file = find_gguf(path)
    try:
        config = json.loads((path / "config.json").read_text()) if file is None else config_of(GgufFile.read(file))
    except (OSError, ValueError) as error:
        raise ModelError(f"config.json cannot be read: {error}") from error
    return DecoderSpec.from_config(config)
