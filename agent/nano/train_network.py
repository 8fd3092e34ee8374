"""The network, in plain torch: the Llama architecture at a size that two cores can train within an hour.

Parameter names are those of transformers' LlamaForCausalLM, so the state is the checkpoint. It is written out here
because fused projections and a head that looks only at the answers save time on a CPU.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    """The sizes of the network."""

    vocabulary: int = 3072
    hidden: int = 256
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    head: int = 64
    inner: int = 640
    positions: int = 2048
    theta: float = 10000.0
    epsilon: float = 1e-5

    def config(self, bos: int, eos: int) -> dict[str, Any]:
        """config.json of the checkpoint."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head,
            "hidden_act": "silu",
            "max_position_embeddings": self.positions,
            "rope_theta": self.theta,
            "rms_norm_eps": self.epsilon,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "mlp_bias": False,
            "tie_word_embeddings": True,
            "initializer_range": 0.02,
            "pretraining_tp": 1,
            "bos_token_id": bos,
            "eos_token_id": eos,
            "pad_token_id": bos,
            "torch_dtype": "float16",
            "use_cache": True,
        }


class Block(nn.Module):
    """One layer: attention, then the gated feed-forward part."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        wide, narrow = shape.heads * shape.head, shape.kv_heads * shape.head
        self.qkv = nn.Linear(shape.hidden, wide + 2 * narrow, bias=False)
        self.out = nn.Linear(wide, shape.hidden, bias=False)
        self.gate_up = nn.Linear(shape.hidden, 2 * shape.inner, bias=False)
        self.down = nn.Linear(shape.inner, shape.hidden, bias=False)
        self.first_norm = nn.Parameter(torch.ones(shape.hidden))
        self.second_norm = nn.Parameter(torch.ones(shape.hidden))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The layer's contribution added to x of [batch, length, hidden]."""
        shape = self.shape
        size = (shape.hidden,)
        batch, length, _ = x.shape
        mixed = self.qkv(F.rms_norm(x, size, self.first_norm, shape.epsilon)).view(batch, length, -1, shape.head)
        both = mixed[:, :, : shape.heads + shape.kv_heads]
        half = shape.head // 2
        turned = both * cos + torch.cat((-both[..., half:], both[..., :half]), dim=-1) * sin
        query, key = turned.transpose(1, 2).split((shape.heads, shape.kv_heads), dim=1)
        value = mixed[:, :, shape.heads + shape.kv_heads :].transpose(1, 2)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, length, -1))
        gate, up = self.gate_up(F.rms_norm(x, size, self.second_norm, shape.epsilon)).chunk(2, dim=-1)
        result: Tensor = x + self.down(F.silu(gate) * up)
        return result


class Network(nn.Module):
    """Embedding, layers, final norm; the head is the embedding again."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Parameter(torch.empty(shape.vocabulary, shape.hidden))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.hidden))
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                spread = 0.02 if not name.endswith(("out.weight", "down.weight")) else 0.02 / (2 * shape.layers) ** 0.5
                nn.init.normal_(parameter, std=spread)
        steps = torch.arange(0, shape.head, 2).float() / shape.head
        angles = torch.arange(shape.positions).float()[:, None] / shape.theta**steps
        twice = torch.cat((angles, angles), dim=-1)[:, None, :]
        self.cos, self.sin = twice.cos(), twice.sin()

    def hidden(self, ids: Tensor) -> Tensor:
        """The final hidden states of ids of [batch, length]."""
        length = ids.shape[1]
        x = F.embedding(ids, self.embedding)
        cos, sin = self.cos[:length], self.sin[:length]
        for block in self.blocks:
            x = block(x, cos, sin)
        return F.rms_norm(x, (self.shape.hidden,), self.norm, self.shape.epsilon)

    def loss(self, ids: Tensor, wanted: Tensor) -> Tensor:
        """The mean loss where something is wanted; the head is not computed anywhere else."""
        states = self.hidden(ids[:, :-1]).flatten(0, 1)
        targets = wanted[:, 1:].flatten()
        places = (targets >= 0).nonzero().squeeze(1)
        return F.cross_entropy(states[places] @ self.embedding.T, targets[places])

    def checkpoint(self) -> dict[str, Tensor]:
        """The weights under the names that LlamaForCausalLM gives them, in half precision."""
        shape = self.shape
        wide, narrow = shape.heads * shape.head, shape.kv_heads * shape.head
        found: dict[str, Tensor] = {"model.embed_tokens.weight": self.embedding, "model.norm.weight": self.norm}
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            at = f"model.layers.{index}."
            query, key, value = torch.split(block.qkv.weight, [wide, narrow, narrow])
            gate, up = block.gate_up.weight.chunk(2)
            found |= {
                at + "input_layernorm.weight": block.first_norm,
                at + "post_attention_layernorm.weight": block.second_norm,
                at + "self_attn.q_proj.weight": query,
                at + "self_attn.k_proj.weight": key,
                at + "self_attn.v_proj.weight": value,
                at + "self_attn.o_proj.weight": block.out.weight,
                at + "mlp.gate_proj.weight": gate,
                at + "mlp.up_proj.weight": up,
                at + "mlp.down_proj.weight": block.down.weight,
            }
        return {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in found.items()}

    def restore(self, weights: dict[str, Tensor]) -> None:
        """The weights of a checkpoint read back: the inverse of `checkpoint`, up to half precision."""
        found = {"embedding": weights["model.embed_tokens.weight"], "norm": weights["model.norm.weight"]}
        for index in range(self.shape.layers):
            at, to = f"model.layers.{index}.", f"blocks.{index}."
            attention = [weights[f"{at}self_attn.{name}_proj.weight"] for name in "qkv"]
            inner = [weights[f"{at}mlp.{name}_proj.weight"] for name in ("gate", "up")]
            found |= {
                to + "first_norm": weights[at + "input_layernorm.weight"],
                to + "second_norm": weights[at + "post_attention_layernorm.weight"],
                to + "qkv.weight": torch.cat(attention),
                to + "out.weight": weights[at + "self_attn.o_proj.weight"],
                to + "gate_up.weight": torch.cat(inner),
                to + "down.weight": weights[at + "mlp.down_proj.weight"],
            }
        self.load_state_dict({name: tensor.float() for name, tensor in found.items()})
