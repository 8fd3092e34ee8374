"""Small random checkpoints, one for each family and oddity, made by transformers, which is the oracle as well."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.engine.base import Floats

if TYPE_CHECKING:
    import torch

CONTEXT = 256

# Head sizes of 32 and more, a multiple of 16: what both runtimes take. Odd counts of heads on purpose.
_SIZES: dict[str, Any] = {
    "vocab_size": 331,
    "hidden_size": 384,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

_YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
_PHI = {  # partly rotated: 48 of 64 dimensions
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.75,
    "short_factor": [1.0 + 0.02 * pair for pair in range(24)],
    "long_factor": [1.5 + 0.25 * pair for pair in range(24)],
    "original_max_position_embeddings": 64,
}

_EXPERTS = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 128}

# name -> (transformers' config class, what differs from _SIZES)
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {"rope_parameters": _LLAMA3, "tie_word_embeddings": True}),
    "llama-biased": (
        "LlamaConfig",
        {
            "attention_bias": True,
            "mlp_bias": True,
            "hidden_size": 192,  # no multiple of 128: groups of 32
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "head_dim": 64,
            "num_hidden_layers": 2,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
        },
    ),
    "qwen2": (
        "Qwen2Config",
        # Qwen2 has no head_dim of its own: hidden / heads. 160 makes no groups of 128.
        {
            "hidden_size": 160,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "head_dim": None,
            "rms_norm_eps": 1e-5,
        },
    ),
    "qwen3": ("Qwen3Config", {"tie_word_embeddings": True, "num_hidden_layers": 4, "head_dim": 48}),
    "mistral": ("MistralConfig", {"sliding_window": None, "num_attention_heads": 7, "num_key_value_heads": 1}),
    "mistral-window": ("MistralConfig", {"sliding_window": 24, "num_hidden_layers": 2}),
    "ministral": ("MinistralConfig", {"sliding_window": 24, "num_hidden_layers": 2}),
    "ministral3": (
        "Ministral3Config",
        # Queries grow from position 32 on.
        {"rope_parameters": {**_YARN, "llama_4_scaling_beta": 0.4, "original_max_position_embeddings": 32}},
    ),
    "yarn": ("Qwen2Config", {"rope_parameters": _YARN, "num_hidden_layers": 2, "head_dim": None}),
    "gemma": ("GemmaConfig", {"num_hidden_layers": 2}),
    "gemma2": (
        "Gemma2Config",
        {"sliding_window": 24, "query_pre_attn_scalar": 48, "attn_logit_softcapping": 2.0},
    ),
    "gemma3": (
        "Gemma3TextConfig",
        {"sliding_window": 24, "sliding_window_pattern": 3, "query_pre_attn_scalar": 48},
    ),
    "phi3": (
        "Phi3Config",
        {
            "hidden_size": 192,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "head_dim": None,
            "num_hidden_layers": 2,
            "rope_parameters": _PHI,
            "original_max_position_embeddings": 64,
        },
    ),
    "phi3-window": ("Phi3Config", {"hidden_size": 192, "sliding_window": 24, "num_hidden_layers": 2}),
    "smollm3": (
        "SmolLM3Config",
        {"no_rope_layer_interval": 2, "num_hidden_layers": 2, "head_dim": 64},
    ),
    "qwen2-moe": (
        "Qwen2MoeConfig",
        {
            **_EXPERTS,
            "head_dim": None,
            "num_attention_heads": 4,
            "hidden_size": 128,
            "shared_expert_intermediate_size": 128,
            "mlp_only_layers": [1],
        },
    ),
    "qwen3-moe": ("Qwen3MoeConfig", {**_EXPERTS, "norm_topk_prob": True, "num_hidden_layers": 2}),
    "granite": (
        "GraniteConfig",
        {
            "num_hidden_layers": 2,
            "head_dim": 64,
            "attention_multiplier": 0.11,
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.6,
            "logits_scaling": 4.0,
        },
    ),
}


@dataclass(frozen=True)
class RandomCheckpoint:
    """A checkpoint on disk and transformers' own model of it in float32, in eager attention."""

    name: str
    folder: Path
    model: Any

    def logits(self, tokens: list[int], *, context: int = CONTEXT) -> Floats:
        """The oracle's logits after each of the tokens, [tokens, vocab].

        ``context``: transformers chooses between longrope's two rotations by the length of the text, where the engine
        goes by that of the context. What follows a token does not change its logits, so a longer text is computed.
        """
        import torch

        rope = getattr(self.model.config, "rope_parameters", None) or {}
        original = rope["original_max_position_embeddings"] if rope.get("rope_type") == "longrope" else 0
        filled = tokens + [3] * (original + 1 - len(tokens) if context > original else 0)
        with torch.no_grad():
            rows: torch.Tensor = self.model(torch.tensor([filled])).logits[0, : len(tokens)]
        return rows.float().numpy()

    def greedy(self, prompt: list[int], count: int) -> list[int]:
        """The oracle's likeliest continuation."""
        tokens = list(prompt)
        for _ in range(count):
            tokens.append(int(self.logits(tokens)[-1].argmax()))
        return tokens[len(prompt) :]


def save_random(name: str, folder: Path, *, dtype: str = "bfloat16", shards: str = "5GB", **changes: object) -> None:
    """Write a random checkpoint of a family; ``changes`` go to its config, ``shards`` is the largest size of a file."""
    import torch
    import transformers

    config_class, differences = FAMILIES[name]
    values: dict[str, Any] = {**_SIZES, **differences, **changes}
    values = {key: value for key, value in values.items() if value is not None or key == "sliding_window"}
    torch.manual_seed(len(name) * 1000 + values["hidden_size"])
    config = getattr(transformers, config_class)(**values)
    model: Any = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            # Larger than the usual 0.02, so that logits spread and attention is not flat; norms and biases not trivial.
            if key.endswith("norm.weight"):
                weight.uniform_(0.5, 1.5).sub_(float("Gemma" in config_class))  # Gemma adds 1
            elif weight.ndim == 1:
                weight.normal_(0.0, 0.3)
            else:
                weight.normal_(0.0, 1.4 * weight.shape[-1] ** -0.5)
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shards)


def oracle(folder: Path) -> Any:  # noqa: ANN401  transformers has no types to name
    """transformers' model of a checkpoint folder, float32."""
    import torch
    import transformers

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


@functools.cache
def random_checkpoint(name: str) -> RandomCheckpoint:
    """The checkpoint of a family, made once in a test run. The folder lives as long as the process."""
    scratch = tempfile.TemporaryDirectory(prefix=f"thox-{name}-")
    _scratch.append(scratch)  # removed at exit by its finaliser
    folder = Path(scratch.name)
    save_random(name, folder)
    return RandomCheckpoint(name, folder, oracle(folder))


def prompt_tokens(count: int, seed: int = 0, vocab: int = 331) -> list[int]:
    """Random token ids."""
    return [int(token) for token in np.random.default_rng(seed).integers(3, vocab, count)]


def assert_close(logits: Floats, expected: Floats, bound: float = 1e-3) -> None:
    """Max absolute error within ``bound`` of the range of the expected logits."""
    error = float(np.abs(logits - expected).max())
    spread = float(expected.max() - expected.min())
    assert error <= bound * spread, f"error {error:.2e} is {error / spread:.2e} of the range {spread:.2f}"


_scratch: list[tempfile.TemporaryDirectory[str]] = []
