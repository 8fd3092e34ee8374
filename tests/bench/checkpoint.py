"""A random-weight checkpoint of Llama-3.2-1B's shape, and the same weights as GGUF: values do not matter for speed.

16 layers, hidden 2048, 32 heads, 8 kv heads, ffn 8192, vocabulary 32,000, tied head: 1.04 billion parameters.
"""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors import safe_open
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 32_000
SPECIAL = ["<|begin_of_text|>", "<|eot_id|>", "<|end_of_text|>"]


def make(folder: Path) -> None:
    """Write the checkpoint (bfloat16 safetensors, tokenizer, config) unless it is there."""
    if (folder / "model.safetensors").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    _make_tokenizer().save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=2048,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        intermediate_size=8192,
        head_dim=64,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).bfloat16().save_pretrained(folder)


def _make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE trained on Python's own library, which every machine that runs this has."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))[:1500]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((path.read_text(errors="replace") for path in files), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[1], pad_token=SPECIAL[2]
    )
    fast.chat_template = "{% for m in messages %}{{ m['content'] }}<|eot_id|>{% endfor %}"
    return fast


def make_gguf(folder: Path, target: Path, kind: str = "F16") -> None:
    """Write the same weights as GGUF, with the names and the rotary order of llama.cpp's Llama graph.

    ``kind`` is F16, or Q4_0 with the embedding in Q8_0 (llama.cpp's own quantiser takes Q6_K there, which the gguf
    package cannot write).
    """
    if target.exists():
        return
    partial = target.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "llama")
    writer.add_block_count(16)
    writer.add_context_length(4096)
    writer.add_embedding_length(2048)
    writer.add_feed_forward_length(8192)
    writer.add_head_count(32)
    writer.add_head_count_kv(8)
    writer.add_rope_dimension_count(64)
    writer.add_rope_freq_base(500_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if kind == "F16" else gguf.LlamaFileType.MOSTLY_Q4_0)
    _add_tokenizer(writer, folder)
    with safe_open(folder / "model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118  a safetensors file is no mapping
            tensor = file.get_tensor(name).float().numpy()
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                tensor = _interleave_rotary_halves(tensor, heads=tensor.shape[0] // 64)
            if tensor.ndim == 1:
                writer.add_tensor(_gguf_name(name), tensor)
            elif kind == "F16":
                writer.add_tensor(_gguf_name(name), tensor.astype(np.float16))
            else:
                stored = gguf.GGMLQuantizationType.Q8_0 if "embed" in name else gguf.GGMLQuantizationType.Q4_0
                writer.add_tensor(_gguf_name(name), gguf.quants.quantize(tensor, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(target)


def quantise_gguf(tool: Path, source: Path, target: Path, kind: str) -> None:
    """Let llama.cpp quantise its own file: ``kind`` is Q4_0 or Q4_K_M."""
    if not target.exists():
        subprocess.run([tool, source, target, kind], check=True, capture_output=True, timeout=900)


def _interleave_rotary_halves(weight: np.ndarray, heads: int) -> np.ndarray:
    """Hugging Face rotates the two halves of a head, llama.cpp neighbouring pairs; the rows are reordered to match."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _gguf_name(name: str) -> str:
    plain = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in plain:
        return plain[name]
    parts = name.split(".")  # model.layers.<i>.<block>.<what>.weight, or model.layers.<i>.<norm>.weight
    what = {
        "q_proj": "attn_q",
        "k_proj": "attn_k",
        "v_proj": "attn_v",
        "o_proj": "attn_output",
        "gate_proj": "ffn_gate",
        "up_proj": "ffn_up",
        "down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }[parts[-2]]
    return f"blk.{parts[2]}.{what}.weight"


def _add_tokenizer(writer: gguf.GGUFWriter, folder: Path) -> None:
    tokens = list(gguf.BpeVocab(folder).all_tokens())
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([text for text, _score, _kind in tokens])
    writer.add_token_types([kind for _text, _score, kind in tokens])
    gguf.SpecialVocab(folder, load_merges=True).add_to_gguf(writer)
