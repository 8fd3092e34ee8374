"""A mixture of experts: of many small feed-forwards each token goes through those few that its router chooses. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from agent.engine.base import Json
from agent.engine.decoder_config import flag, size
from agent.errors import ModelError

ROUTERS = ("mlp.gate.weight", "mlp.shared_expert_gate.weight")  # what the names of tensors that choose end with


@dataclass(frozen=True, slots=True)
class Experts:
    """The experts of a decoder; which layers have them, one entry a layer."""

    layers: tuple[bool, ...]
    count: int
    chosen: int  # for each token
    ffn: int
    normalised: bool  # the weights of those chosen add up to 1; else they are shares among all
    shared: int  # size of a feed-forward that every token goes through besides, scaled by a gate of its own; 0: none

    def tensors(self, hidden: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes in a layer. The matrices of all experts lie one below the other, as one matrix."""
        shapes: dict[str, tuple[int, ...]] = {
            "mlp.gate.weight": (self.count, hidden),
            "mlp.experts.gate_proj.weight": (self.count * self.ffn, hidden),
            "mlp.experts.up_proj.weight": (self.count * self.ffn, hidden),
            "mlp.experts.down_proj.weight": (self.count * hidden, self.ffn),
        }
        if self.shared:
            shapes |= {
                "mlp.shared_expert.gate_proj.weight": (self.shared, hidden),
                "mlp.shared_expert.up_proj.weight": (self.shared, hidden),
                "mlp.shared_expert.down_proj.weight": (hidden, self.shared),
                "mlp.shared_expert_gate.weight": (1, hidden),
            }
        return shapes


def read_experts(config: Json, layers: int) -> Experts | None:
    """The experts that a config describes; None when it has none. Raises ModelError."""
    count = size(config, "num_experts", size(config, "num_local_experts", 0, least=0), least=0)
    if not count:
        return None
    dense = config.get("mlp_only_layers") or []
    if not isinstance(dense, list):
        raise ModelError("mlp_only_layers in config.json is not a list")
    every = size(config, "decoder_sparse_step", 1)
    chosen = size(config, "num_experts_per_tok")
    if chosen > count:
        raise ModelError(f"num_experts_per_tok is {chosen}, and there are {count} experts")
    return Experts(
        tuple(layer not in dense and (layer + 1) % every == 0 for layer in range(layers)),
        count,
        chosen,
        size(config, "moe_intermediate_size"),
        flag(config, "norm_topk_prob", False),
        size(config, "shared_expert_intermediate_size", 0, least=0),
    )
