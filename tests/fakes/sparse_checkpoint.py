"""A checkpoint of any size: true headers over a file without contents, which takes no room on the disk."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

from agent.engine.decoder import DecoderSpec

# 7.2 B parameters, as Mistral 7B has them.
SEVEN_B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}


def write_sparse(folder: Path, **changes: object) -> Path:
    """A model of SEVEN_B's shape with these changes, in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**SEVEN_B, **changes}
    spec = DecoderSpec.from_config(config)
    entries: dict[str, object] = {}
    end = 0
    for name, shape in spec.tensors(range(spec.layers)).items():
        start, end = end, end + 2 * math.prod(shape)
        entries[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(8 + len(header) + end)
    return folder
