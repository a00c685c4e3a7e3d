"""What the phases of a forward pass must read and multiply: the figures behind ``infc explain`` and the limits of ``bench``."""

from __future__ import annotations

from dataclasses import dataclass, replace

from infc.formats import ROWS, format_of
from infc.kernels.spec import KernelSpec
from infc.plan.plan import LinearPlan, Phase, Plan, TargetPlan, wanted_phases


@dataclass(frozen=True)
class PhaseCost:
    """One phase. Bytes and multiply-accumulates (MACs) are those of one call, of which a chunk makes ``calls``; the last ``wanted_calls``
    of them take only rows that somebody wants, and are not made if there are none.

    A call on M rows reads ``weight_bytes + M * row_bytes`` and, of every sequence it touches, ``kv_bytes`` a position held. A row takes
    ``int_macs`` on int8 operands, ``f32_macs`` on floats, and a position it attends to ``kv_int16_macs`` or ``kv_f32_macs``, as keys and
    values are stored; of no more than ``window`` positions, if that is not 0. Of ``experts`` layers of ``expert_bytes`` each a row takes
    ``experts_used``, so that a call reads those of M rows, at most all. MACs are those that the arithmetic contract asks for: the head's
    second int8 term counts.
    """

    probe: int  # index of its INFC_PROBE
    phase: Phase
    calls: int
    wanted_calls: int = 0
    weight_bytes: int = 0
    row_bytes: int = 0
    int_macs: int = 0
    f32_macs: int = 0
    kv_bytes: int = 0
    kv_int16_macs: int = 0
    kv_f32_macs: int = 0
    window: int = 0
    expert_bytes: int = 0
    experts: int = 0
    experts_used: int = 0


@dataclass(frozen=True)
class StepCost:
    """Sums over a step, in the words of ``infc_costs`` in runtime_c/infc_session.h. MACs are those of one row, attention apart. head: of
    what rows go through that somebody wants, the last layer from its attention on included. kv: of one layer's attention, a position."""

    stream_bytes: int
    head_bytes: int
    int_macs: int
    f32_macs: int
    head_int_macs: int
    head_f32_macs: int
    kv_int16_macs: int
    kv_f32_macs: int
    kv_window: int
    kv_windowed_layers: int
    kv_last_window: int


def _matrix_bytes(lin: LinearPlan) -> int:
    spec: KernelSpec = lin.kernels[0]
    return spec.weight_bytes(lin.n, lin.k)


def _cost(plan: Plan, phase: Phase, probe: int, calls: int) -> PhaseCost:
    c = plan.config
    match phase.kind:
        case "embed":
            (table,) = phase.linears
            f = format_of(table.weight_type)
            row = table.k // f.block_size * f.r16_bytes // ROWS
            if phase.positions:
                row += table.k // format_of(phase.positions).block_size * format_of(phase.positions).r16_bytes // ROWS
            tables = sum(r.spec.dim * 4 for r in plan.layout.ropes)  # its position's rows of the RoPE tables
            return PhaseCost(probe, phase, calls, row_bytes=row + tables)
        case "norm":
            width = plan.buffer(phase.target).width
            return PhaseCost(probe, phase, calls, weight_bytes=(8 if phase.layer_norm else 4) * width, f32_macs=2 * width)
        case "norm_add":
            return PhaseCost(probe, phase, calls, weight_bytes=4 * c.dim, f32_macs=2 * c.dim)
        case "rows_kv":
            width = (c.n_heads + c.n_kv_heads) * c.head_dim
            return PhaseCost(probe, phase, calls, weight_bytes=4 * width, f32_macs=2 * width)
        case "quantize":
            return PhaseCost(probe, phase, calls)
        case "attention":
            bytes_per_position = plan.kv.part_bytes // plan.kv.page_size * c.n_kv_heads
            macs = 2 * c.n_heads * c.head_dim
            integer, real = (macs, 0) if plan.kv.integer else (0, macs)
            return PhaseCost(probe, phase, calls, kv_bytes=bytes_per_position, kv_int16_macs=integer, kv_f32_macs=real, window=phase.window)
    by_activation = {"q8": 0, "f32": 0}
    for lin in phase.linears:
        by_activation[lin.kernels[0].activation] += lin.n * lin.k * phase.terms
    weights = sum(_matrix_bytes(lin) for lin in phase.linears)
    e = phase.experts
    if e is not None and phase.kind != "route":
        int_macs, f32_macs = e.used * by_activation["q8"], e.used * by_activation["f32"]
        return PhaseCost(
            probe, phase, calls, int_macs=int_macs, f32_macs=f32_macs, expert_bytes=weights, experts=e.count, experts_used=e.used
        )
    return PhaseCost(probe, phase, calls, weight_bytes=weights, int_macs=by_activation["q8"], f32_macs=by_activation["f32"])


def epilogue_phases(tp: TargetPlan) -> tuple[Phase, ...]:
    """What the head runs for logits: a norm whose result only a caller's hidden state wants is left out."""
    *norms, head = tp.epilogue
    return (*(p for p in norms if p.target == head.source), head)


def phase_costs(plan: Plan, tp: TargetPlan) -> tuple[PhaseCost, ...]:
    """All phases in the order of their probes: the embedding, every layer kind's, the head's."""
    calls = {kind.index: sum(r.count for r in plan.runs if r.kind == kind.index) for kind in tp.kinds}
    embed = next(p for p in tp.prologue if p.kind == "embed")
    wanted = {id(p) for p in (*wanted_phases(plan, tp), *epilogue_phases(tp))}
    costs: list[PhaseCost] = []
    for phases, n in (((embed,), 1), *((k.phases, calls[k.index]) for k in tp.kinds), (epilogue_phases(tp), 1)):
        read: set[int] = set()
        for phase in phases:
            cost = replace(_cost(plan, phase, len(costs), n), wanted_calls=1 if id(phase) in wanted else 0)
            if phase.kind == "norm" and phase.offset in read:
                cost = replace(cost, weight_bytes=0)  # in two precisions: the second finds the vector in the cache
            read.add(phase.offset)
            costs.append(cost)
    return tuple(costs)


def step_cost(plan: Plan) -> StepCost:
    """The sums; those of all targets are equal, since layout and formats are."""
    costs = phase_costs(plan, plan.targets[0])
    attention = [p for p in costs if p.phase.kind == "attention"]
    windowed = [p for p in attention if p.window]  # no family has two windows
    row_bytes = [p.weight_bytes + p.experts_used * p.expert_bytes for p in costs]
    return StepCost(
        stream_bytes=sum(p.calls * size for p, size in zip(costs, row_bytes, strict=True)),
        head_bytes=sum(p.wanted_calls * size for p, size in zip(costs, row_bytes, strict=True)),
        int_macs=sum((p.calls - p.wanted_calls) * p.int_macs for p in costs),
        f32_macs=sum((p.calls - p.wanted_calls) * p.f32_macs for p in costs),
        head_int_macs=sum(p.wanted_calls * p.int_macs for p in costs),
        head_f32_macs=sum(p.wanted_calls * p.f32_macs for p in costs),
        kv_int16_macs=attention[0].kv_int16_macs,
        kv_f32_macs=attention[0].kv_f32_macs,
        kv_window=max((p.window for p in windowed), default=0),
        kv_windowed_layers=sum(p.calls for p in windowed),
        kv_last_window=next(p.window for p in attention if p.wanted_calls),
    )
