"""A GGUF file of one block, as the gguf package writes it."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import gguf
import numpy as np

_SHAPES = {
    "token_embd.weight": (32, 16),
    "output_norm.weight": (16,),
    "blk.0.attn_norm.weight": (16,),
    "blk.0.attn_q.weight": (16, 16),
    "blk.0.attn_k.weight": (8, 16),
    "blk.0.attn_v.weight": (8, 16),
    "blk.0.attn_output.weight": (16, 16),
    "blk.0.ffn_norm.weight": (16,),
    "blk.0.ffn_gate.weight": (32, 16),
    "blk.0.ffn_up.weight": (32, 16),
    "blk.0.ffn_down.weight": (16, 32),
}


@cache
def gguf_bytes() -> bytes:
    """A Llama of one layer, random and always the same, with a vocabulary of 32."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "small.gguf"
        writer = gguf.GGUFWriter(file, "llama")
        writer.add_context_length(512)
        writer.add_embedding_length(16)
        writer.add_block_count(1)
        writer.add_feed_forward_length(32)
        writer.add_head_count(4)
        writer.add_head_count_kv(2)
        writer.add_layer_norm_rms_eps(1e-6)
        writer.add_vocab_size(32)
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list([f"t{number}" for number in range(32)])
        for name, shape in _SHAPES.items():
            writer.add_tensor(name, random.standard_normal(shape, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return file.read_bytes()
