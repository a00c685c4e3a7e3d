"""TargetPlan -> the context of templates/forward.c.j2. All arithmetic happens here."""

from __future__ import annotations

import math
import struct
from itertools import count
from typing import Any

from infc.emit.experts import KINDS as EXPERT_KINDS
from infc.emit.experts import experts_function, gathered
from infc.emit.names import attention_name, experts_name, linear_name
from infc.emit.phases import ROWS, batch_classes
from infc.ir.ops import Weight
from infc.kernels.spec import KernelSpec
from infc.kernels.target import CLASSES
from infc.plan.cost import epilogue_phases
from infc.plan.experts import GROUP_BYTES
from infc.plan.layout import panel_bytes
from infc.plan.memory import align
from infc.plan.plan import LinearPlan, Phase, Plan, TargetPlan, padded, wanted_phases

_TITLES = {
    "gate_up": "h = {act}(Wg x) * (Wu x)",
    "up": "h = {act}(W x)",
    "store": "y = W x",
    "residual": "x += W a",
    "head": "logits = W x",
}


def _title(phase: Phase) -> str:
    """What a function computes, biases and factors apart: those are in its name."""
    if phase.kind == "qkv":
        norm = "each head of q and k normalised, " if max(phase.head_norms) >= 0 else ""
        turn = "RoPE, " if phase.rope else ""
        return f"q, k, v = W x; then {norm}{turn}q scaled for attention, k and v written to their page"
    return _TITLES[phase.kind].format(act=phase.activation) + (", quantized at once" if phase.quantize else "")


def f32_literal(x: float) -> str:
    """A C99 hex literal of ``x`` rounded to f32: the same bits everywhere."""
    mantissa, exponent = float(struct.unpack("<f", struct.pack("<f", x))[0]).hex().split("p")
    mantissa = mantissa.rstrip("0")
    return f"{mantissa}{'0' if mantissa.endswith('.') else ''}p{exponent}f"


def exponent_unit(kv: str) -> float:
    """Attention over a q16 cache takes powers of two, over f16 powers of e: scores, and so queries, are multiplied by this."""
    return math.log2(math.e) if kv == "q16" else 1.0


def attention_rows(head_dim: int, group: int) -> int:
    """Rows of one block of attention: their results, f32 on the stack where they are quantized, stay within 128 KiB."""
    most = 131072 // (4 * head_dim * group)
    return next((n for n in (32, 16, 4) if n <= most), 1)


class ForwardContext:
    """Builds the dictionaries that the template prints, for one target of a plan."""

    def __init__(self, plan: Plan, target_plan: TargetPlan) -> None:
        self.plan = plan
        self.tp = target_plan
        self.config = plan.config
        self.private = dict(plan.private.offsets)
        self.narrows = wanted_phases(plan, target_plan)[0]  # where rows that nobody wants are left out

    def _argument(self, phase: Phase) -> str:
        return ", ".join(("&p->" if self.plan.buffer(s).dtype != "f32" else "p->") + s for s in self._sources(phase))

    def _sources(self, phase: Phase) -> list[str]:
        return list(dict.fromkeys(lin.source for lin in phase.linears))

    def _arguments(self, phase: Phase) -> list[str]:
        kinds = [self.plan.buffer(s).dtype for s in self._sources(phase)]
        return [f"const infc_q8 *x{i}" if k != "f32" else f"const float *x{i}" for i, k in enumerate(kinds)]

    def _linear(self, lin: LinearPlan, spec: KernelSpec, sources: list[str]) -> dict[str, Any]:
        w = Weight("", lin.weight_type, lin.n, lin.k)
        return {
            "role": lin.role,
            "n": lin.n,
            "k": lin.k,
            "type": lin.weight_type.lower(),
            "activation": spec.activation,
            "kernel": spec.c_function,
            "batch": spec.batch,
            "panels": lin.panels_per_unit,
            "unit_offset": lin.unit_offset,
            "unit_bytes": lin.panels_per_unit * panel_bytes(w),
            "bias": lin.bias,
            "x": f"x{sources.index(lin.source)}",
        }

    def _function(self, phase: Phase, i: int) -> dict[str, Any]:
        c = self.config
        specs = [lin.kernels[i] for lin in phase.linears]
        vectors = [*(lin.bias for lin in phase.linears), *phase.head_norms]
        batch = CLASSES[i]
        sources = self._sources(phase)
        head_units = c.head_dim // 16 // phase.linears[0].panels_per_unit
        group = c.n_heads // c.n_kv_heads
        return {
            "kind": phase.kind,
            "batch": batch,
            "c_name": linear_name(phase, batch, self.tp.target),
            "title": _title(phase),
            "used_by": phase.tensor,
            "linears": [self._linear(lin, spec, sources) for lin, spec in zip(phase.linears, specs, strict=True)],
            "arguments": self._arguments(phase),
            "units": phase.units,
            "unit_bytes": phase.unit_bytes,
            "quantize": phase.quantize,
            "terms": phase.terms,
            "target": phase.target,
            "megabytes": f"{sum(s.weight_bytes(lin.n, lin.k) for lin, s in zip(phase.linears, specs, strict=True)) / 1e6:.2f}",
            "mmacs": f"{sum(lin.n * lin.k for lin in phase.linears) / 1e6:.2f}",
            "head_units": head_units,
            "experts": None,
            "q_units": group * head_units,
            "group_units": (group + 2) * head_units,
            "q_scale": f32_literal(exponent_unit(self.plan.kv.dtype) * phase.scale),
            "kv": self.plan.kv.dtype,
            "vectors": max(vectors) >= 0,
            "head_norms": phase.head_norms,
            "rope": phase.rope,
            "activation": phase.activation,
            "gated": {"silu": "swiglu", "gelu": "geglu"}.get(phase.activation, ""),
            "scale": f32_literal(phase.scale) if phase.scale != 1 else "",
            "row_scale": phase.row_scale,
            "cap": f32_literal(phase.cap) if phase.cap else "",
            "uncap": f32_literal(1 / phase.cap) if phase.cap else "",
        }

    def _calls(self, phase: Phase) -> list[dict[str, str]]:
        """The functions of a phase's classes, each with the test that chooses it, in ascending order of rows."""
        found = batch_classes(phase, self.tp)
        tests = {0: "p->M == 1", 1: "p->M <= SMALL_MAX", 2: f"p->M < {phase.tiles_from}"}
        guards = ["else " if c is found[-1] else f"{'else ' if c is not found[0] else ''}if ({tests[c.index]}) " for c in found]
        return [{"guard": g, "name": c.name} for g, c in zip(guards, found, strict=True)]

    def _attention(self, phase: Phase) -> dict[str, Any]:
        c = self.config
        group = c.n_heads // c.n_kv_heads
        cap = phase.cap * exponent_unit(self.plan.kv.dtype)
        return {
            "kind": "attention",
            "linears": (),
            "c_name": attention_name(phase, self.tp.target, self.plan.kv.dtype, c.head_dim, group, self.plan.kv.page_size),
            "kv": self.plan.kv.dtype,
            "rows": attention_rows(c.head_dim, group),
            "quantize": phase.quantize,
            "source": phase.source,
            "target": phase.target,
            "group_units": phase.awaits,
            "limited": phase.window > 0 or phase.cap > 0 or phase.sinks,
            "sinks": phase.sinks,
            "window": phase.window,
            "cap": f32_literal(cap) if cap else "0.0f",
            "kv_bytes_per_position": self.plan.kv.part_bytes // self.plan.kv.page_size * c.n_kv_heads,
        }

    def phase(self, phase: Phase, probe: int) -> dict[str, Any]:
        """What a call site needs. ``probe``: its number in ``phase_costs``; -1 for what is not timed."""
        d: dict[str, Any] = {
            "probe": probe,
            "kind": phase.kind,
            "experts": phase.experts,
            "linears": phase.linears,
            "source": phase.source,
            "target": phase.target,
            "offset": phase.offset,
            "quantize": phase.quantize,
            "terms": phase.terms,
            "private": phase.target in self.private,
            "width": 0,
            "layer_norm": phase.layer_norm,
            "barrier": phase.barrier,
        }
        if phase.kind == "rows_kv":
            d |= {"rope": phase.rope, "kv": self.plan.kv.dtype, "q_scale": f32_literal(exponent_unit(self.plan.kv.dtype) * phase.scale)}
        elif phase.kind in ROWS:
            d["width"] = self.plan.buffer(phase.target).width
            d["buffer_offset"] = self.plan.arena.offset(phase.target)
            d["private_offset"] = self.private.get(phase.target, 0)
        elif phase.kind == "embed":
            d["weight"] = phase.linears[0].weight_type.lower()
            d["scale"] = f32_literal(phase.scale) if phase.scale != 1 else ""
            d |= {"positions": phase.positions.lower(), "extra": phase.extra}
        elif phase.kind == "attention":
            d["c_name"] = self._attention(phase)["c_name"]
            d["narrows"] = phase is self.narrows
            d["sinks"] = f"(const float *)(const void *)(w + {phase.extra})" if phase.sinks else ""
        elif phase.kind in EXPERT_KINDS:
            d["argument"] = self._argument(phase)
            if any(lin.bias >= 0 for lin in phase.linears):
                d["argument"] += f", (const float *)(w + {phase.extra})"
            d["c_name"] = experts_name(phase, self.tp.target)
        else:
            d["argument"] = self._argument(phase)
            if max(*(lin.bias for lin in phase.linears), *phase.head_norms) >= 0:
                d["argument"] += f", (const float *)(w + {phase.extra})"
            if phase.kind == "store":
                d["argument"] += f", p->{phase.target}"
            d["calls"] = self._calls(phase)
        return d

    def functions(self) -> list[dict[str, Any]]:
        """Each distinct function once, in order of first use."""
        found: dict[str, dict[str, Any]] = {}
        phases = [p for k in self.tp.kinds for p in k.phases] + list(self.tp.epilogue)
        for phase in phases:
            if phase.kind == "attention":
                f = self._attention(phase)
                found.setdefault(f["c_name"], f)
            elif phase.kind in EXPERT_KINDS:
                f = experts_function(self.plan, phase, self.tp.target)
                found.setdefault(f["c_name"], f)
            elif phase.linears:
                for found_class in batch_classes(phase, self.tp):
                    f = self._function(phase, found_class.index)
                    known = found.setdefault(f["c_name"], f)
                    if known is not f and phase.tensor not in known["used_by"]:
                        known["used_by"] += ", " + phase.tensor
        return list(found.values())

    def build(self) -> dict[str, Any]:
        """The whole context."""
        plan = self.plan
        buffers = [
            {
                "name": b.name,
                "dtype": {"f32": "float *", "choice": "infc_expert_choice *"}.get(b.dtype, "infc_q8 "),
                "rows": padded(b.rows) if b.rows > plan.max_rows else 0,
                "terms": b.terms,
                "width": b.width,
                "offset": plan.arena.offset(b.name),
                "private": b.name in self.private and b.name in self._layer_buffers(),
                "private_offset": self.private.get(b.name, 0),
            }
            for b in plan.buffers
        ]
        probe = count(1)  # 0 is the embedding's, as in phase_costs
        kinds = [{"index": k.index, "phases": [self.phase(p, next(probe)) for p in k.phases]} for k in self.tp.kinds]
        timed = epilogue_phases(self.tp)
        return {
            "isa": self.tp.target.isa,
            "small_max": self.tp.target.small_max,
            "buffers": buffers,
            "groups": self._groups(),
            "gathered": gathered(plan),
            "functions": self.functions(),
            "kinds": kinds,
            "prologue": self.phase(next(p for p in self.tp.prologue if p.kind == "embed"), 0),
            "epilogue": [self.phase(p, next(probe) if p in timed else -1) for p in self.tp.epilogue],
            "runs": plan.runs,
            "ropes": [{"buffer": r.buffer, "offset": r.offset} for r in plan.layout.ropes],
            "eps": f32_literal(self.config.norm_eps),
        }

    def _groups(self) -> dict[str, int] | None:
        """A thread's lists of each expert's rows: where they lie in its scratch, and what the first of them takes. None: no experts."""
        plan = next((p.experts for k in self.tp.kinds for p in k.phases if p.experts is not None), None)
        if plan is None:
            return None
        return {"offset": self.private["groups"], "members": align(min(plan.count, self.plan.max_rows * plan.used) * GROUP_BYTES)}

    def _layer_buffers(self) -> set[str]:
        return {p.target for k in self.tp.kinds for p in k.phases if p.kind in ROWS or p.kind == "route"} | self._shares()

    def _shares(self) -> set[str]:
        return {p.experts.share for k in self.tp.kinds for p in k.phases if p.experts is not None and p.experts.share}
