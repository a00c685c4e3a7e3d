"""What the families with a mixture of experts share: their keys, their tensors and the feed-forward part of a layer."""

from __future__ import annotations

from collections.abc import Iterator

from infc.frontend.builder import Builder
from infc.frontend.config import Experts, ModelConfig
from infc.frontend.dense import layer_count
from infc.frontend.keys import Keys
from infc.frontend.rules import MATRIX, VECTOR, Rule, vector
from infc.limits import Limits


def has_experts(keys: Keys, limits: Limits) -> bool:
    """Whether ``expert_count`` is there and more than 0."""
    return keys.u32(".expert_count", "G37", 0, limits.experts, 0) > 0


def read_experts(keys: Keys, limits: Limits, width: str, *, renormalise: bool) -> Experts:
    """``expert_count`` layers, as wide as key ``width`` says (without it the feed-forward width shared out), of which a row takes
    ``expert_used_count``. Raises InputError G27, G33 or G37."""
    count = keys.u32(".expert_count", "G37", 1, limits.experts)
    used = keys.u32(".expert_used_count", "G37", 1, count, 0)  # missing: none, which is out of range
    n_layers = layer_count(keys, limits)
    default = None
    if not keys.has(width):
        default = keys.uniform_u32(".feed_forward_length", n_layers, "G33", used) // used
    return Experts(count, used, keys.uniform_u32(width, n_layers, "G33", 1, default), renormalise)


def expert_tensors(c: ModelConfig, blk: str, bias: bool = False) -> Iterator[Rule]:
    """Router, and gate, up and down of all experts; with biases or without any."""
    e = c.experts
    assert e is not None
    yield Rule(blk + "ffn_gate_inp.weight", (c.dim, e.count), VECTOR)
    if bias:
        yield vector(blk + "ffn_gate_inp.bias", e.count)
    for name, k, n in (("gate", c.dim, e.hidden_dim), ("up", c.dim, e.hidden_dim), ("down", e.hidden_dim, c.dim)):
        name = f"ffn_{name}_exps"
        yield Rule(f"{blk}{name}.weight", (k, n, e.count), MATRIX)
        if bias:
            yield Rule(f"{blk}{name}.bias", (n, e.count), VECTOR)


def mixture(b: Builder, x: str, n: str, i: int) -> str:
    """x + the weighted sum of SwiGLU layers of the normalised row n, those that the router chooses."""
    choices, _ = b.route(n, i)
    gate, up = b.expert_linear(n, choices, "ffn_gate_exps", i), b.expert_linear(n, choices, "ffn_up_exps", i)
    return b.expert_sum(x, b.expert_linear(b.mul(b.silu(gate), up), choices, "ffn_down_exps", i), choices, i)
