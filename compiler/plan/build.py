"""Graph -> Plan: kernels per batch class, weight layout, arena, pages."""

from __future__ import annotations

from dataclasses import replace

from infc.errors import InputError
from infc.frontend.config import ModelConfig
from infc.ir import experts as e
from infc.ir import ops as o
from infc.ir.graph import Graph
from infc.kernels.spec import KernelSpec, candidates
from infc.kernels.target import Target
from infc.options import CompileOptions
from infc.plan.buffers import assign_buffers, buffer_name, tile_bytes
from infc.plan.experts import experts_phase, find_route
from infc.plan.kv import plan_kv
from infc.plan.layout import LayoutBuilder, Placed, n_panels, padded_floats, panel_bytes, place, unit_panels
from infc.plan.plan import KvPlan, LayerKind, LayerRun, LinearPlan, Phase, Plan, RopePlacement, TargetPlan

_MANY_ROWS = 512  # a prefill chunk, for which kernels of the largest class are compared


def _check_shapes(c: ModelConfig) -> None:
    widths = [("embedding_length", c.dim, 32), ("feed_forward_length", c.hidden_dim, 32), ("head dimension", c.head_dim, 16)]
    if c.experts is not None:
        widths.append(("expert_feed_forward_length", c.experts.hidden_dim, 32))
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
    def __init__(self, graph: Graph, chooser: _Chooser, kv: KvPlan, n_ctx: int) -> None:
        self.graph = graph
        self.chooser = chooser
        self.kv = kv
        self.n_ctx = n_ctx
        self.config = graph.config
        self.route = find_route(graph)

    def linear(self, role: str, w: o.Weight, source: str, per_unit: int, unit_offset: int, bias: int = -1) -> LinearPlan:
        return LinearPlan(role, w.type, w.n, w.k, source, self.chooser.choose(role, w), per_unit, unit_offset, bias)

    def phase(self, op: o.Op, placed: Placed, after: o.Op | None) -> Phase | None:
        """The phase of one operation, which ``after`` follows; None for those that only rename values."""
        src, dst = buffer_name(op.inputs[0]), buffer_name(op.outputs[0])
        tensor = op.origin.tensor.replace(f"blk.{op.origin.layer}.", "blk.*.") if op.origin.layer >= 0 else op.origin.tensor
        base = Phase("", dst, src, dst, offset=placed.offset, unit_bytes=placed.unit_bytes, extra=placed.extra, tensor=tensor)
        match op:
            case o.Embed():
                linears = (self.linear("embed", op.weight, src, 1, 0),)
                positions = op.positions.type if op.positions is not None else ""
                return replace(base, kind="embed", linears=linears, scale=op.scale, positions=positions)
            case o.NormQuantize():
                return replace(base, kind="norm", quantize=True, terms=op.terms, layer_norm=op.bias is not None)
            case o.RmsNorm() | o.LayerNorm():
                return replace(base, kind="norm", layer_norm=isinstance(op, o.LayerNorm))
            case o.NormAdd():
                return replace(base, kind="norm_add", name=tensor.split(".")[-2])
            case o.Quantize():
                return replace(base, kind="quantize", quantize=True)
            case o.QkvRopeKvWrite():
                return self._qkv(op, base)
            case o.NormRopeKvWrite():
                rope = buffer_name(op.inputs[3]) if len(op.inputs) > 3 else ""
                return replace(base, kind="rows_kv", name="rows_kv", rope=rope, scale=op.scale)
            case o.Attention():
                return self._attention(op, base)
            case o.GateUp() | o.Up():
                return self._mlp(op, base)
            case o.LinearResidual():
                name = "attn_output" if "attn_output" in tensor else "ffn_down"
                return self._single(op, replace(base, kind="residual", target=buffer_name(op.inputs[1]), scale=op.scale), name)
            case e.SharedResidual():
                target, scales = buffer_name(op.inputs[1]), buffer_name(op.inputs[2])
                return self._single(op, replace(base, kind="residual", target=target, row_scale=scales), "ffn_shared_down")
            case o.Linear():
                barrier = not isinstance(after, o.Linear)
                return self._single(op, replace(base, kind="store", barrier=barrier), tensor.split(".")[-2])
            case o.Head():
                head = self._single(op, replace(base, kind="head", scale=op.scale, cap=op.cap), "head")
                return replace(head, terms=2 if head.linears[0].kernels[0].activation == "q8" else 1)
        return experts_phase(op, after, base, self.linear, buffer_name, self.route)

    def _single(self, op: o.Biased, base: Phase, name: str) -> Phase:
        unit = unit_panels(n_panels(op.weight))
        linear = self.linear(name, op.weight, base.source, unit, 0, -1 if op.bias is None else 0)
        return replace(base, name=name, linears=(linear,), units=n_panels(op.weight) // unit)

    def _mlp(self, op: o.GateUp | o.Up, base: Phase) -> Phase:
        if isinstance(op, o.Up):
            return replace(self._single(op, base, "up"), kind="up", quantize=op.quantize, activation=op.activation)
        unit = unit_panels(n_panels(op.gate))
        gate_bias, up_bias = _places(op.gate_bias, op.up_bias)
        linears = (
            self.linear("gate", op.gate, base.source, unit, 0, gate_bias),
            self.linear("up", op.up, buffer_name(op.inputs[1]), unit, unit * panel_bytes(op.gate), up_bias),
        )
        units = n_panels(op.gate) // unit
        return replace(base, kind="gate_up", name="gate_up", linears=linears, units=units, quantize=op.quantize, activation=op.activation)

    def _qkv_unit(self, op: o.QkvRopeKvWrite) -> int:
        """Panels of one work item: a whole head where it has one scale or one norm."""
        head_panels = self.config.head_dim // 16
        whole = self.kv.whole_head or op.q.norm is not None or op.k.norm is not None
        return head_panels if whole else unit_panels(head_panels)

    def _qkv(self, op: o.QkvRopeKvWrite, base: Phase) -> Phase:
        c = self.config
        head_panels = c.head_dim // 16
        unit = self._qkv_unit(op)
        group = c.n_heads // c.n_kv_heads
        sources = [buffer_name(n) for n in op.inputs[:3]]
        q_bytes = group * head_panels * panel_bytes(op.q.weight)
        k_bytes = head_panels * panel_bytes(op.k.weight)
        q_bias, k_bias, v_bias, q_norm, k_norm = _places(op.q.bias, op.k.bias, op.v.bias, op.q.norm, op.k.norm)
        linears = (
            self.linear("attn_q", op.q.weight, sources[0], unit, 0, q_bias),
            self.linear("attn_k", op.k.weight, sources[1], unit, q_bytes, k_bias),
            self.linear("attn_v", op.v.weight, sources[2], unit, q_bytes + k_bytes, v_bias),
        )
        return replace(
            base,
            kind="qkv",
            name="qkv",
            target=buffer_name(op.outputs[0]),
            linears=linears,
            units=(c.n_heads + 2 * c.n_kv_heads) * head_panels // unit,
            head_norms=(q_norm, k_norm),
            rope=buffer_name(op.inputs[3]) if len(op.inputs) > 3 else "",
            scale=op.scale,
        )

    def _attention(self, op: o.Attention, base: Phase) -> Phase:
        c = self.config
        writer = next(w for w in self.graph.ops if w.outputs[-1] == op.inputs[1])
        awaits = 0
        if isinstance(writer, o.QkvRopeKvWrite):
            awaits = (c.n_heads // c.n_kv_heads + 2) * (c.head_dim // 16 // self._qkv_unit(writer))
        return replace(
            base,
            kind="attention",
            quantize=isinstance(op, o.AttentionQuantize),
            units=c.n_kv_heads,
            window=op.window if op.window < self.n_ctx else 0,
            cap=op.softcap,
            sinks=op.sinks is not None,
            awaits=awaits,
        )


def _places(*vectors: o.Weight | None) -> list[int]:
    """Where each vector begins in a block that has them side by side, in floats; -1: it is None."""
    found, at = [], 0
    for w in vectors:
        found.append(-1 if w is None else at)
        at += 0 if w is None else padded_floats(w)
    return found


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


def _place_ropes(graph: Graph, builder: LayoutBuilder, n_ctx: int) -> tuple[RopePlacement, ...]:
    """The tables of all rotations."""
    found = []
    for op in graph.ops:
        if isinstance(op, o.RopeRows):
            found.append(RopePlacement(builder.take(n_ctx * op.spec.dim * 4), n_ctx, op.spec, buffer_name(op.outputs[0])))
    return tuple(found)


def _check_positions(before: list[o.Op], n_ctx: int) -> None:
    """Learned positions end where the model's training did."""
    for op in before:
        if isinstance(op, o.Embed) and op.positions is not None and n_ctx > op.positions.n:
            raise InputError("P03", f"the model has learned {op.positions.n} positions, not {n_ctx}", f"use --ctx {op.positions.n} or less")


def build_plan(graph: Graph, options: CompileOptions, targets: tuple[Target, ...], name: str) -> Plan:
    """Decide everything. ``graph`` is fused and verified; the layout is the same for all ``targets``."""
    c = graph.config
    _check_shapes(c)
    options = options.resolved(c.n_ctx_train)
    assert options.ctx is not None and options.kv_tokens is not None  # resolved() decides both
    n_ctx = options.ctx
    kv = plan_kv(c, options.kv, n_ctx, options.kv_tokens, options.max_seqs)
    builder = LayoutBuilder()
    ropes = _place_ropes(graph, builder, n_ctx)
    before, layers, after = _layer_ops(graph)
    _check_positions(before, n_ctx)
    head_panels, group = c.head_dim // 16, c.n_heads // c.n_kv_heads

    placed: dict[int, Placed] = {}
    by_tensor: dict[str, Placed] = {}
    layer_offsets: list[int] = []
    shared = {w.tensor for op in after for w in op.weights}
    for op in before:
        if not any(w.tensor in shared for w in op.weights):
            placed[id(op)] = place(builder, op, head_panels, group)
    for ops in layers:
        base = builder.take(0)
        layer_offsets.append(base)
        for op in ops:
            p = place(builder, op, head_panels, group)
            placed[id(op)] = replace(p, offset=p.offset - base, extra=p.extra - base if p.extra else 0) if op.weights else p
    for op in after:
        placed[id(op)] = place(builder, op, head_panels, group)
        by_tensor.update({w.tensor: placed[id(op)] for w in op.weights})
    for op in before:
        if id(op) not in placed:
            tied = by_tensor[op.weights[0].tensor]
            positions = op.positions if isinstance(op, o.Embed) else None
            placed[id(op)] = replace(tied, extra=builder.matrix(positions) if positions is not None else 0)

    target_plans = []
    runs: tuple[LayerRun, ...] = ()
    for target in targets:
        planner = _Planner(graph, _Chooser(target), kv, n_ctx)

        def phases(ops: list[o.Op], planner: _Planner = planner) -> tuple[Phase, ...]:
            found = (planner.phase(op, placed[id(op)], after) for op, after in zip(ops, [*ops[1:], None], strict=True))
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
        layout=builder.finish(ropes),
        buffers=buffers,
        arena=arena,
        private=private,
        tile_bytes=tile_bytes(target_plans[0], max_rows),
        kv=kv,
        targets=tuple(target_plans),
    )


__all__ = ["build_plan"]
