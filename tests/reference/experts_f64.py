"""A layer of experts in float64, from the papers: arXiv:1701.06538 (routing), arXiv:2401.04088 (softmax over those chosen)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from infc.frontend.config import Experts

F64 = NDArray[np.float64]


def experts(w: Mapping[str, F64], e: Experts, blk: str, x: F64) -> F64:
    """(T, dim) normalised rows -> what the experts of each add to it. The lower expert is taken where two logits are equal."""
    logits = x @ w[blk + "ffn_gate_inp.weight"].T + w.get(blk + "ffn_gate_inp.bias", np.float64(0))
    out = np.zeros_like(x)
    for t, row in enumerate(logits):
        taken = np.argsort(-row, kind="stable")[: e.used]
        p = np.exp(row - row.max())
        p /= p[taken].sum() if e.renormalise else p.sum()
        for i in taken:
            gate, up, down = (_linear(w, f"{blk}ffn_{role}_exps", i) for role in ("gate", "up", "down"))
            out[t] += p[i] * down(_swiglu(gate(x[t]), up(x[t])))
    return out


def _linear(w: Mapping[str, F64], name: str, i: int):  # type: ignore[no-untyped-def]
    bias = w[name + ".bias"][i] if name + ".bias" in w else 0.0
    return lambda x: w[name + ".weight"][i] @ x + bias


def _swiglu(gate: F64, up: F64) -> F64:
    return gate / (1 + np.exp(-gate)) * up
