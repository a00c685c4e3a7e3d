"""The operations of a mixture of experts (Shazeer et al., 2017; Jiang et al., 2024), plain and fused.

Each row takes ``n_used`` of as many feed-forward layers as the router has rows. A value of an expert layer has one row per row and
expert used: its ``Value.slots`` is ``n_used``. The biases of all experts are one vector.
"""

from __future__ import annotations

from dataclasses import dataclass

from infc.ir.ops import Biased, Op, Weight, some


@dataclass(frozen=True)
class Route(Biased):
    """Which experts a row takes, and with which weights. inputs: x. outputs: choices, the router's logits (scratch).

    The ``n_used`` largest of ``weight x + bias``; weights are their softmax over all experts or, ``renormalise``, over those chosen (which
    is also what a softmax of the chosen logits gives: the two orders in the literature agree). With ``shared``, one row, a third output:
    the weight of the layer that all rows take, sigmoid(shared x).
    """

    n_used: int = 1
    renormalise: bool = True
    shared: Weight | None = None

    @property
    def weights(self) -> tuple[Weight, ...]:
        return some(self.weight, self.shared, self.bias)


@dataclass(frozen=True)
class ExpertLinear(Biased):
    """y = W_e x + b_e, e the expert of each slot. inputs: x (a row, or its slots), choices."""


@dataclass(frozen=True)
class ExpertSum(Op):
    """x + the sum of a row's slots, each times its weight, experts ascending. inputs: x, slots, choices."""


@dataclass(frozen=True)
class ScaleRows(Op):
    """y = x times one number of each row. inputs: x, numbers."""


@dataclass(frozen=True)
class SwigluOai(Op):
    """h = g sigmoid(1.702 g) (u + 1), g = min(gate, 7), u = clamp(up, -7, 7): gpt-oss's activation. inputs: gate, up."""


# ---- fused -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExpertsGateUp(Op):
    """GateUp of each slot's expert. inputs: x of gate, x of up, choices. ``activation``: silu or swiglu_oai."""

    gate: Weight
    up: Weight
    activation: str
    quantize: bool
    gate_bias: Weight | None = None
    up_bias: Weight | None = None

    @property
    def weights(self) -> tuple[Weight, ...]:
        return some(self.gate, self.up, self.gate_bias, self.up_bias)


@dataclass(frozen=True)
class SharedResidual(Biased):
    """x += s (W h + b), s of each row. inputs: h, x, s."""


@dataclass(frozen=True)
class ExpertsResidual(Biased):
    """x += the weighted sum of W_e h + b_e over a row's experts. inputs: h, x, choices."""
