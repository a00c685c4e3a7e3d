"""What a mixture of experts adds to a plan: the phases of its layers, and each thread's lists of rows and gathered activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from infc.ir import experts as e
from infc.ir import ops as o
from infc.ir.graph import Graph
from infc.ir.ops import Weight
from infc.plan.layout import n_panels, padded_floats, panel_bytes, unit_panels
from infc.plan.memory import Lifetime, align
from infc.plan.plan import Buffer, ExpertsPlan, LinearPlan, Phase

GATHER_ROWS = 128  # INFC_GATHER_ROWS of runtime_c/infc_experts.h
MEMBER_BYTES, GROUP_BYTES = 8, 24  # sizeof(infc_member), sizeof(infc_group)
KINDS = ("route", "experts_gate_up", "experts_residual")

MakeLinear = Callable[[str, Weight, str, int, int, int], LinearPlan]  # role, weight, source, panels per unit, offset in the unit, bias


def most_members(rows: int, used: int, count: int) -> int:
    """infc_most_members of runtime_c/infc_experts.h: rows of all experts, those of many rows in whole tiles."""
    return rows * used + 15 * min(rows * used // 8, count)


def beside(before: o.Op | None, op: o.Op | None) -> bool:
    """Whether no barrier is needed between two operations: what all rows share reads what the experts read, and adds to columns of the
    residual stream that are the same thread's, since both are dealt out alike."""
    match before, op:
        case (e.ExpertsGateUp(), o.GateUp()) | (e.ExpertsResidual(), e.SharedResidual()):
            return True
    return False


def find_route(graph: Graph) -> e.Route | None:
    """One of the layers' routers: all of them have as many experts. None: the model is dense."""
    return next((op for op in graph.ops if isinstance(op, e.Route)), None)


def slot_rows(graph: Graph, max_rows: int) -> int:
    """Rows of a buffer that holds a row per expert used."""
    route = find_route(graph)
    return most_members(max_rows, route.n_used, route.weight.n) if route is not None else 0


def private_lifetimes(
    graph: Graph, buffers: dict[str, Buffer], name: Callable[[str], str], max_rows: int, small_rows: int
) -> list[Lifetime]:
    """Each thread's own: rows by expert, a copy of the rows of one expert for each activation that experts read, and while rows are few
    the weights of a shared layer."""
    route = find_route(graph)
    if route is None:
        return []
    shares = {name(op.outputs[2]) for op in graph.ops if isinstance(op, e.Route) and op.shared is not None}
    groups = min(route.weight.n, max_rows * route.n_used) * GROUP_BYTES
    found = {"groups": align(groups) + slot_rows(graph, max_rows) * MEMBER_BYTES}
    for op in graph.ops:
        if isinstance(op, e.ExpertsGateUp):
            for b in (buffers[name(n)] for n in op.inputs[:2]):
                found[gather_name(b.name)] = replace(b, rows=GATHER_ROWS).size
    found |= {n: replace(buffers[n], rows=small_rows).size for n in shares}
    return [Lifetime(n, size, 0, 0) for n, size in found.items()]


def gather_name(buffer: str) -> str:
    """The name of a thread's copy of some rows of a buffer."""
    return f"gather_{buffer}"


def experts_phase(
    op: o.Op, after: o.Op | None, base: Phase, linear: MakeLinear, name: Callable[[str], str], route: e.Route | None
) -> Phase | None:
    """The phase of an operation of infc.ir.experts, which ``after`` follows; None for any other."""
    if route is None:
        return None
    linears: tuple[LinearPlan, ...]
    plan = ExpertsPlan(route.weight.n, route.n_used)
    match op:
        case e.Route():
            linears = (linear("router", op.weight, base.source, 1, 0, _first_bias(op.bias)),)
            plan = replace(plan, renormalise=op.renormalise, share=name(op.outputs[2]) if op.shared is not None else "")
            units = n_panels(op.weight) + (1 if op.shared is not None else 0)
            return replace(base, kind="route", name="route", linears=linears, units=units, experts=plan)
        case e.ExpertsGateUp():
            unit = unit_panels(n_panels(op.gate))
            units = n_panels(op.gate) // unit
            up_bias = -1 if op.up_bias is None else 0 if op.gate_bias is None else padded_floats(op.gate_bias)
            linears = (
                linear("gate", op.gate, base.source, unit, 0, _first_bias(op.gate_bias)),
                linear("up", op.up, name(op.inputs[1]), unit, unit * panel_bytes(op.gate), up_bias),
            )
            phase = replace(base, kind="experts_gate_up", name="gate_up", linears=linears, units=units)
            stride = units * base.unit_bytes
            plan = replace(plan, stride=stride)
            return replace(phase, quantize=op.quantize, activation=op.activation, experts=plan, barrier=not beside(op, after))
        case e.ExpertsResidual():
            unit = unit_panels(n_panels(op.weight))
            units = n_panels(op.weight) // unit
            linears = (linear("ffn_down", op.weight, base.source, unit, 0, _first_bias(op.bias)),)
            phase = replace(base, kind="experts_residual", name="ffn_down", target=name(op.inputs[1]), linears=linears, units=units)
            plan = replace(plan, stride=units * base.unit_bytes)
            return replace(phase, experts=plan, barrier=not beside(op, after))
    return None


def _first_bias(bias: Weight | None) -> int:
    return -1 if bias is None else 0
