"""Phases of a mixture of experts -> the dictionaries that templates/phases/experts.c.j2 prints."""

from __future__ import annotations

from typing import Any

from infc.emit.names import experts_name
from infc.kernels.target import Target
from infc.plan.experts import GATHER_ROWS, KINDS, gather_name
from infc.plan.layout import n_panels, panel_bytes
from infc.plan.plan import LinearPlan, Phase, Plan

__all__ = ["KINDS", "experts_function", "gathered"]

_TITLES = {
    "route": "the experts of each row and their weights, and each expert's rows",
    "experts_gate_up": "h = {}(Wg x) * (Wu x) of each row's experts{}",
    "experts_residual": "x += the weighted sum of W h over each row's experts, in ascending order",
}


def gathered(plan: Plan) -> list[dict[str, Any]]:
    """A thread's copies of activations: the buffer copied, and where the copy lies in its scratch."""
    private = dict(plan.private.offsets)
    buffers = (b for b in plan.buffers if gather_name(b.name) in private)
    return [{"name": gather_name(b.name), "dtype": b.dtype, "width": b.width, "offset": private[gather_name(b.name)]} for b in buffers]


def _linear(plan: Plan, lin: LinearPlan) -> dict[str, Any]:
    from infc.ir.ops import Weight

    w = Weight("", lin.weight_type, lin.n, lin.k)
    return {
        "role": lin.role,
        "n": lin.n,
        "k": lin.k,
        "type": lin.weight_type.lower(),
        "activation": lin.kernels[0].activation,
        "kernels": [k.c_function for k in lin.kernels],
        "panels": lin.panels_per_unit,
        "all_panels": n_panels(w),
        "unit_offset": lin.unit_offset,
        "bias": lin.bias,
        "panel_bytes": panel_bytes(w),
        "source": lin.source,
        "gather": gather_name(lin.source),
        "quantized": plan.buffer(lin.source).dtype != "f32",
    }


def experts_function(plan: Plan, phase: Phase, target: Target) -> dict[str, Any]:
    """One function of a phase; it takes any number of rows."""
    e = phase.experts
    assert e is not None
    title = _TITLES[phase.kind].format(phase.activation, ", quantized at once" if phase.quantize else "")
    linears = [_linear(plan, lin) for lin in phase.linears]
    return {
        "kind": phase.kind,
        "linears": linears,
        "sources": [next(x for x in linears if x["source"] == s) for s in dict.fromkeys(x["source"] for x in linears)],
        "c_name": experts_name(phase, target),
        "title": title,
        "used_by": phase.tensor,
        "units": phase.units,
        "unit_bytes": phase.unit_bytes,
        "experts": e,
        "vectors": any(lin.bias >= 0 for lin in phase.linears),
        "gated": {"silu": "swiglu", "swiglu_oai": "swiglu_oai", "": ""}[phase.activation],
        "target": phase.target,
        "quantize": phase.quantize,
        "tiles_from": phase.tiles_from,
        "gather_rows": GATHER_ROWS,
        "megabytes": f"{sum(len(x) and x['panel_bytes'] * x['all_panels'] for x in linears) / 1e6:.2f}",
        "mmacs": f"{sum(x['n'] * x['k'] for x in linears) / 1e6:.2f}",
    }
