"""A mixture of experts with fixed shapes: each expert has room for a fixed number of tokens.

How many tokens an expert gets depends on data, and a captured step has fixed shapes. GShard
(Lepikhin et al. 2020) and the Switch Transformer (Fedus et al. 2022) give each expert a capacity:
its fair share of the tokens times a factor. Tokens that find an expert full skip it. A factor of
experts / experts per token leaves room for every token, and nothing is skipped.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

CAPACITY_FACTOR = 1.25


def room(tokens: int, chosen: int, experts: int, factor: float) -> int:
    """How many tokens an expert takes, of `tokens` that choose `chosen` experts each."""
    return math.ceil(tokens * chosen / experts * factor)


def places(choices: Tensor, experts: int, capacity: int) -> Tensor:
    """The row of each choice [n] in a table of `capacity` rows per expert, first come, first
    served; experts * capacity for those that find no room."""
    is_chosen = (choices.unsqueeze(1) == torch.arange(experts, device=choices.device)).long()
    before = ((is_chosen.cumsum(0) - 1) * is_chosen).sum(1)
    full = torch.full_like(choices, experts * capacity)
    return torch.where(before < capacity, choices * capacity + before, full)


def experts_with_capacity(
    self: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor
) -> Tensor:
    """hidden_states [t, width], the k experts of each token and their weights [t, k]; `self` holds
    the weights of all experts as transformers keeps them."""
    tokens, width = hidden_states.shape
    chosen = top_k_index.shape[1]
    capacity = room(tokens, chosen, self.num_experts, self.config.capacity_factor)
    place = places(top_k_index.flatten(), self.num_experts, capacity)
    # One more row takes what finds no room and is cut off; coming back it is zeros.
    table = hidden_states.new_zeros(self.num_experts * capacity + 1, width)
    copies = hidden_states.unsqueeze(1).expand(-1, chosen, -1).flatten(0, 1)
    table = table.index_put((place,), copies)[:-1].unflatten(0, (self.num_experts, capacity))
    gate, up = torch.bmm(table, self.gate_up_proj.transpose(1, 2)).chunk(2, -1)
    made = torch.bmm(self.act_fn(gate) * up, self.down_proj.transpose(1, 2))
    returned = F.pad(made.flatten(0, 1), (0, 0, 0, 1))[place].unflatten(0, (tokens, chosen))
    return (returned * top_k_weights.unsqueeze(-1)).sum(1)


def mixtral(factor: float = CAPACITY_FACTOR, **options: object) -> nn.Module:
    """Mixtral of transformers with experts of fixed capacity."""
    ALL_EXPERTS_FUNCTIONS["capacity"] = experts_with_capacity
    config = transformers.MixtralConfig(
        use_cache=False, experts_implementation="capacity", **options
    )
    config.capacity_factor = factor
    return transformers.MixtralForCausalLM(config)
