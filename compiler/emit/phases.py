"""src/phases.json: what each INFC_PROBE of the emitted forward passes stands for, for ``infc explain``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from infc.emit.names import attention_name, experts_name, linear_name
from infc.kernels.target import CLASSES
from infc.plan.cost import PhaseCost, phase_costs
from infc.plan.plan import Phase, Plan, TargetPlan

FILE = "phases.json"
_KV_FIGURES = ("kv_bytes", "kv_int16_macs", "kv_f32_macs", "window")
_FIGURES = ("probe", "calls", "wanted_calls", "weight_bytes", "row_bytes", "int_macs", "f32_macs", *_KV_FIGURES)
_EXPERT_FIGURES = ("expert_bytes", "experts", "experts_used")


@dataclass(frozen=True)
class BatchClass:
    """One function of a linear phase: which kernel of each matrix it calls, its C name, and its smallest and largest count of rows."""

    index: int
    name: str
    rows: tuple[int, int]


def batch_classes(phase: Phase, tp: TargetPlan) -> list[BatchClass]:
    """The batch classes that a phase can meet, ascending: two terms are two rows, so that M = 1 does not occur; gemm does not where
    tiles follow small at once."""
    small, many = tp.target.small_max, 1 << 30
    gemm_last = phase.tiles_from - 1 if phase.tiles_from else many
    rows = [(1, 1), (2, small), (small + 1, gemm_last), (phase.tiles_from, many)]
    found = [i for i in range(phase.terms - 1, 4 if phase.tiles_from else 3) if rows[i][0] <= rows[i][1]]
    return [BatchClass(i, linear_name(phase, CLASSES[i], tp.target), rows[i]) for i in found]


ROWS = ("norm", "norm_add", "quantize", "rows_kv")  # phases that work row by row


def row_function(phase: Phase) -> str:
    """The function of runtime_c that such a phase calls for a row."""
    norm = "layernorm" if phase.layer_norm else "rmsnorm"
    match phase.kind:
        case "norm_add":
            return f"{norm}_add_row"
        case "rows_kv":
            return f"{norm}_row"
        case "quantize":
            return f"quantize_q8{'x2' if phase.terms == 2 else ''}_row"
    return f"{norm}_q8{'x2' if phase.terms == 2 else ''}_row" if phase.quantize else f"{norm}_row"


def _kernels(plan: Plan, tp: TargetPlan, phase: Phase) -> list[dict[str, Any]]:
    """Name and row counts of the functions a phase calls; ``rows`` counts int8 rows, of which a row of two terms makes two."""
    c = plan.config
    if phase.kind == "attention":
        group = c.n_heads // c.n_kv_heads
        name = attention_name(phase, tp.target, plan.kv.dtype, c.head_dim, group, plan.kv.page_size)
        return [{"name": name, "rows": None}]
    if phase.kind == "embed":
        return [{"name": f"embed_{phase.linears[0].weight_type.lower()}_row", "rows": None}]
    if phase.kind in ROWS:
        return [{"name": row_function(phase), "rows": None}]
    if phase.experts is not None:
        return [{"name": experts_name(phase, tp.target), "rows": None}]
    return [{"name": c.name, "rows": list(c.rows)} for c in batch_classes(phase, tp)]


def _entry(plan: Plan, tp: TargetPlan, cost: PhaseCost) -> dict[str, Any]:
    phase = cost.phase
    title = phase.kind if phase.kind in ("embed", "attention") else phase.name
    figures = {name: getattr(cost, name) for name in _FIGURES + (_EXPERT_FIGURES if cost.experts else ())}
    return figures | {"phase": title, "terms": phase.terms, "kernels": _kernels(plan, tp, phase)}


def phases_json(plan: Plan) -> str:
    """Stable text: {isa: [phase, ...]} in the order of the probes; see ``PhaseCost`` for the figures."""
    table = {tp.target.isa: [_entry(plan, tp, cost) for cost in phase_costs(plan, tp)] for tp in plan.targets}
    return json.dumps(table, indent=1, sort_keys=True) + "\n"
