"""Graph -> Plan: kernels per batch class, weight layout, arena, pages."""

from __future__ import annotations

from dataclasses import replace

from infc.errors import InputError
from infc.frontend.config import ModelConfig
from infc.ir import ops as o
from infc.ir.graph import Graph
from infc.kernels.spec import KernelSpec, candidates
from infc.kernels.target import Target
from infc.options import CompileOptions
from infc.plan.buffers import assign_buffers, buffer_name, tile_bytes
from infc.plan.kv import plan_kv
from infc.plan.layout import LayoutBuilder, n_panels, panel_bytes, place, unit_panels
from infc.plan.plan import KvPlan, LayerKind, LayerRun, LinearPlan, Phase, Plan, RopePlacement, TargetPlan

_MANY_ROWS = 512  # a prefill chunk, for which kernels of the largest class are compared


def _check_shapes(c: ModelConfig) -> None:
    widths = (("embedding_length", c.dim, 32), ("feed_forward_length", c.hidden_dim, 32), ("head dimension", c.head_dim, 16))
    for what, value, unit in widths:
        if value % unit:
            raise InputError("P01", f"{what} {value} is not a multiple of {unit}", "the kernels work on whole vectors")


class _Chooser:
    """Picks one kernel per batch class and remembers, for plan.txt, what it rejected."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.notes: list[str] = []
        self.seen: set[tuple[str, str, int, int]] = set()

    def choose(self, role: str, w: o.Weight) -> tuple[KernelSpec, ...]:
        """gemv, small and gemm; on a target with tiles then what is best for many rows: tiles, or gemm once more."""
        specs = candidates(w.type, self.target)
        first_gemm = self.target.small_max + 1
        fresh = (role, w.type, w.n, w.k) not in self.seen
        self.seen.add((role, w.type, w.n, w.k))
        if fresh:
            self.notes.append(f"{role} {w.type}[{w.n},{w.k}]")
        chosen = []
        for batch in self.target.classes:
            m = {"gemv": 1, "small": 4, "gemm": first_gemm, "tiles": _MANY_ROWS}[batch]
            usable = [s for s in specs if s.rejects(m) is None and (batch == "tiles" or s.batch != "tiles")]
            best = min(usable, key=lambda s: s.cost(w.n, w.k, m))
            chosen.append(best)
            if fresh:
                us = best.cost(w.n, w.k, m) * 1e6
                self.notes.append(f"  M={m}: {best.c_function}, {best.weight_bytes(w.n, w.k)} bytes, {w.n * w.k * m} MACs, {us:.1f} us")
                for s in specs:
                    reason = s.rejects(m)
                    if reason is None and s in usable and s is not best:
                        reason = f"{s.cost(w.n, w.k, m) * 1e6:.1f} us"
                    if reason is not None:
                        self.notes.append(f"    not {s.c_function}: {reason}")
        return tuple(chosen)

    def tiles_from(self, linears: tuple[LinearPlan, ...]) -> int:
        """Rows from which the last kernels of a phase beat gemm, by cost; 0: never, or the target has no tiles."""
        if all(lin.kernels[-1].batch != "tiles" for lin in linears):
            return 0

        def cost(i: int, m: int) -> float:
            return sum(lin.kernels[i].cost(lin.n, lin.k, m) for lin in linears)

        found = next((m for m in range(self.target.small_max + 1, _MANY_ROWS) if cost(-1, m) <= cost(-2, m)), 0)
        if found:
            self.notes.append(f"{'+'.join(lin.role for lin in linears)}: tiles from M={found}")
        return found


class _Planner:
    def __init__(self, graph: Graph, chooser: _Chooser, kv: KvPlan) -> None:
        self.graph = graph
        self.chooser = chooser
        self.kv = kv
        self.config = graph.config

    def linear(self, role: str, w: o.Weight, source: str, per_unit: int, unit_offset: int) -> LinearPlan:
        return LinearPlan(role, w.type, w.n, w.k, source, self.chooser.choose(role, w), per_unit, unit_offset)

    def phase(self, op: o.Op, offset: int, unit_bytes: int) -> Phase | None:
        """The phase of one operation; None for those that only rename values."""
        c = self.config
        src, dst = buffer_name(op.inputs[0]), buffer_name(op.outputs[0])
        tensor = op.origin.tensor.replace(f"blk.{op.origin.layer}.", "blk.*.") if op.origin.layer >= 0 else op.origin.tensor
        base = Phase("", dst, src, dst, offset=offset, unit_bytes=unit_bytes, tensor=tensor)
        match op:
            case o.Embed():
                return replace(base, kind="embed", linears=(self.linear("embed", op.weight, src, 1, 0),))
            case o.NormQuantize() | o.RmsNorm():
                return replace(base, kind="norm", quantize=isinstance(op, o.NormQuantize), terms=getattr(op, "terms", 1))
            case o.Quantize():
                return replace(base, kind="quantize", quantize=True)
            case o.QkvRopeKvWrite():
                return self._qkv(op, base)
            case o.Attention() | o.AttentionQuantize():
                return replace(base, kind="attention", quantize=isinstance(op, o.AttentionQuantize), units=c.n_kv_heads)
            case o.GateUpSwiglu():
                unit = unit_panels(n_panels(op.gate))
                up = unit * panel_bytes(op.gate)
                linears = (
                    self.linear("gate", op.gate, src, unit, 0),
                    self.linear("up", op.up, buffer_name(op.inputs[1]), unit, up),
                )
                return replace(base, kind="gate_up", name="gate_up", linears=linears, units=n_panels(op.gate) // unit, quantize=op.quantize)
            case o.LinearResidual():
                unit = unit_panels(n_panels(op.weight))
                name = "attn_output" if "attn_output" in tensor else "ffn_down"
                linear = self.linear(name, op.weight, src, unit, 0)
                units = n_panels(op.weight) // unit
                return replace(base, kind="residual", name=name, target=buffer_name(op.inputs[1]), linears=(linear,), units=units)
            case o.Linear():
                unit = unit_panels(n_panels(op.weight))
                linear = self.linear("head", op.weight, src, unit, 0)
                terms = 2 if linear.kernels[0].activation == "q8" else 1
                return replace(base, kind="head", name="head", linears=(linear,), units=n_panels(op.weight) // unit, terms=terms)
        return None

    def _qkv(self, op: o.QkvRopeKvWrite, base: Phase) -> Phase:
        c = self.config
        head_panels = c.head_dim // 16
        unit = head_panels if self.kv.whole_head else unit_panels(head_panels)
        group = c.n_heads // c.n_kv_heads
        sources = [buffer_name(n) for n in op.inputs[:3]]
        q_bytes = group * head_panels * panel_bytes(op.q)
        k_bytes = head_panels * panel_bytes(op.k)
        linears = (
            self.linear("attn_q", op.q, sources[0], unit, 0),
            self.linear("attn_k", op.k, sources[1], unit, q_bytes),
            self.linear("attn_v", op.v, sources[2], unit, q_bytes + k_bytes),
        )
        units = (c.n_heads + 2 * c.n_kv_heads) * head_panels // unit
        return replace(base, kind="qkv", name="qkv", target=buffer_name(op.outputs[0]), linears=linears, units=units)


def _layer_ops(graph: Graph) -> tuple[list[o.Op], list[list[o.Op]], list[o.Op]]:
    """(before the layers, per layer, after the layers)."""
    layers: list[list[o.Op]] = [[] for _ in range(graph.config.n_layers)]
    before: list[o.Op] = []
    after: list[o.Op] = []
    for op in graph.ops:
        if op.origin.layer >= 0:
            layers[op.origin.layer].append(op)
        else:
            (after if layers[0] else before).append(op)
    return before, layers, after


def _runs(kind_of: list[int]) -> tuple[LayerRun, ...]:
    runs: list[LayerRun] = []
    for i, kind in enumerate(kind_of):
        if runs and runs[-1].kind == kind:
            runs[-1] = replace(runs[-1], count=runs[-1].count + 1)
        else:
            runs.append(LayerRun(kind, i, 1))
    return tuple(runs)


def build_plan(graph: Graph, options: CompileOptions, targets: tuple[Target, ...], name: str) -> Plan:
    """Decide everything. ``graph`` is fused and verified; the layout is the same for all ``targets``."""
    c = graph.config
    _check_shapes(c)
    options = options.resolved(c.n_ctx_train)
    assert options.ctx is not None and options.kv_tokens is not None  # resolved() decides both
    n_ctx = options.ctx
    kv = plan_kv(c, options.kv, n_ctx, options.kv_tokens, options.max_seqs)
    builder = LayoutBuilder()
    factors = next(op.freq_factors for op in graph.ops if isinstance(op, o.RopeRows))
    rope = RopePlacement(builder.take(n_ctx * c.rope_dim * 4), n_ctx, factors)
    before, layers, after = _layer_ops(graph)
    head_panels, group = c.head_dim // 16, c.n_heads // c.n_kv_heads

    placed: dict[int, tuple[int, int]] = {}
    by_tensor: dict[str, tuple[int, int]] = {}
    layer_offsets: list[int] = []
    tied = {w.tensor for op in after for w in op.weights}
    for op in before:
        if not any(w.tensor in tied for w in op.weights):
            placed[id(op)] = place(builder, op, head_panels, group)
    for ops in layers:
        base = builder.take(0)
        layer_offsets.append(base)
        for op in ops:
            offset, unit = place(builder, op, head_panels, group)
            placed[id(op)] = (offset - base if op.weights else 0, unit)
    for op in after:
        placed[id(op)] = place(builder, op, head_panels, group)
        by_tensor.update({w.tensor: placed[id(op)] for w in op.weights})
    for op in before:
        if id(op) not in placed:
            placed[id(op)] = by_tensor[op.weights[0].tensor]

    target_plans = []
    runs: tuple[LayerRun, ...] = ()
    for target in targets:
        planner = _Planner(graph, _Chooser(target), kv)

        def phases(ops: list[o.Op], planner: _Planner = planner) -> tuple[Phase, ...]:
            found = (planner.phase(op, *placed[id(op)]) for op in ops)
            return tuple(
                replace(p, tiles_from=planner.chooser.tiles_from(p.linears) if p.linears and p.kind != "embed" else 0)
                for p in found
                if p is not None
            )

        prologue = phases(before)
        kinds: list[LayerKind] = []
        kind_of: list[int] = []
        for ops in layers:
            made = phases(ops)
            known = next((k.index for k in kinds if k.phases == made), None)
            if known is None:
                known = len(kinds)
                kinds.append(LayerKind(known, made))
            kind_of.append(known)
        runs = _runs(kind_of)
        epilogue = phases(after)
        target_plans.append(TargetPlan(target, prologue, tuple(kinds), epilogue, tuple(planner.chooser.notes)))

    max_rows = min(options.max_rows, n_ctx)
    small_rows = max(t.small_max for t in targets)
    buffers, arena, private = assign_buffers(graph, before, layers[0], after, max_rows, small_rows)
    return Plan(
        name=name,
        config=c,
        n_ctx=n_ctx,
        max_rows=max_rows,
        small_rows=small_rows,
        layer_offsets=tuple(layer_offsets),
        runs=runs,
        layout=builder.finish(rope),
        buffers=buffers,
        arena=arena,
        private=private,
        tile_bytes=tile_bytes(target_plans[0], max_rows),
        kv=kv,
        targets=tuple(target_plans),
    )


__all__ = ["build_plan"]
