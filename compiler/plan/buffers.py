"""Activations: which live in the shared arena, which in each thread's scratch, and where."""

from __future__ import annotations

import re
from collections.abc import Sequence

from infc.ir import experts as e
from infc.ir import ops as o
from infc.ir.graph import Graph, Value
from infc.plan.experts import beside, private_lifetimes, slot_rows
from infc.plan.memory import ArenaPlan, Lifetime, plan_arena
from infc.plan.plan import Buffer, TargetPlan

READY_BYTES = 64  # sizeof(infc_ready), one per kv head


def buffer_name(value: str) -> str:
    """Values of all layers share buffers: ``q_rope.3`` -> ``q_rope``; the residual stream is one buffer, updated in place."""
    name, _, kind = re.sub(r"\.\d+", "", value).partition(":")
    name = "x" if name in ("x_attn", "x_ffn", "x_experts") else name
    return f"{name}_{kind}" if kind else name


def _is_private(op: o.Op) -> bool:
    """Work on whole rows is cheaper than a barrier while M is small: each thread makes its own copy of the result."""
    return isinstance(op, o.NormQuantize | o.RmsNorm | o.LayerNorm | o.NormAdd | o.Quantize | e.Route)


def _barrier_intervals(steps: Sequence[o.Op]) -> list[int]:
    """The step number of each operation. Attention starts while other threads still project q, k and v (they meet at a counter
    per kv head, not at a barrier), so it shares their step: what either reads or writes is live through both. Projections that one
    NormRopeKvWrite reads share a step, too: there is a barrier behind the last of them only. So do the experts' layers and a shared one."""
    numbers: list[int] = []
    for op, before in zip(steps, [None, *steps], strict=False):
        same = isinstance(op, o.Attention) or (isinstance(op, o.Linear) and isinstance(before, o.Linear)) or beside(before, op)
        numbers.append((numbers[-1] if numbers else 0) + (0 if same else 1))
    return numbers


def _last_uses(steps: Sequence[o.Op], numbers: list[int]) -> list[int]:
    """Until when each operation's inputs are in use: a private one's until the threads have met, since one of them may be ahead."""
    last = list(numbers)
    for i in reversed(range(len(steps) - 1)):
        if _is_private(steps[i]):
            last[i] = max(last[i], last[i + 1])
    return last


def assign_buffers(
    graph: Graph, before: Sequence[o.Op], layer: Sequence[o.Op], after: Sequence[o.Op], max_rows: int, small_rows: int
) -> tuple[tuple[Buffer, ...], ArenaPlan, ArenaPlan]:
    """(buffers, shared arena for max_rows rows, private arena for small_rows rows).

    Lifetimes are those of one layer, which all layers repeat: what enters a layer (the stream, the RoPE rows) lives throughout.
    """
    values = graph.value_map()
    layers = [op for op in graph.ops if op.origin.layer >= 0]
    buffers: dict[str, Buffer] = {}

    def add(v: Value) -> None:
        if v.dtype not in ("i32", "kv") and v.name not in ("logits", "out_rows"):
            name = buffer_name(v.name)
            buffers.setdefault(name, Buffer(name, v.width, v.dtype, slot_rows(graph, max_rows) if v.slots else max_rows))

    steps = [*before, *layer, *after]
    for op in (*before, *layers, *after):  # all layers: mixed formats may need a buffer that layer 0 does not
        for out in op.outputs:
            add(values[out])

    first: dict[str, int] = {}
    last: dict[str, int] = {}
    numbers = _barrier_intervals(steps)
    for i, end, op in zip(numbers, _last_uses(steps, numbers), steps, strict=True):
        for value, until in (*((n, i) for n in op.outputs), *((n, end) for n in op.inputs)):
            name = buffer_name(value)
            if name in buffers:
                first.setdefault(name, i)
                last[name] = max(until, last.get(name, 0))
    for op in steps:
        if isinstance(op, e.Route):  # threads that still choose read the logits while others are at the experts
            choices, logits = (buffer_name(n) for n in op.outputs[:2])
            last[logits] = last[choices]
    everywhere = {buffer_name(n) for op in before for n in op.outputs}
    for op in reversed(layer):  # what a layer's last private steps read, another thread may not yet replace in the next layer
        if not _is_private(op):
            break
        everywhere.update(buffer_name(n) for n in op.inputs)
    lifetimes = []
    for name, b in buffers.items():
        always = name in everywhere or name not in first
        lo, hi = (0, len(steps) + 1) if always else (first[name], last[name])
        lifetimes.append(Lifetime(name, b.size, lo, hi))
    lifetimes.append(Lifetime("ready", READY_BYTES * graph.config.n_kv_heads, 0, len(steps) + 1))
    private = [
        Lifetime(b.name, Buffer(b.name, b.width, b.dtype, small_rows).size, 0, 0)
        for b in (buffers[buffer_name(op.outputs[0])] for op in (*layers, *after) if _is_private(op))
    ]
    private += private_lifetimes(graph, buffers, buffer_name, max_rows, small_rows)
    unique = {life.name: life for life in private}
    return tuple(buffers.values()), plan_arena(lifetimes), plan_arena(list(unique.values()))


def tile_bytes(plan: TargetPlan, max_rows: int) -> int:
    """The largest tile of linear outputs, (panels of one unit, M, 16) f32, of any phase."""
    phases = [p for k in plan.kinds for p in k.phases] + list(plan.epilogue)
    widest = most = 0
    for phase in phases:
        per_unit = [lin.panels_per_unit for lin in phase.linears]
        if phase.kind == "route":  # all experts' logits of one tile of rows
            most = max(most, phase.units * 16 * 16 * 4)
        widest = max(widest, sum(per_unit) if phase.kind in ("gate_up", "experts_gate_up") else max(per_unit, default=0) * phase.terms)
    return max(most, widest * max_rows * 16 * 4)
