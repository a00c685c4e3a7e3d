"""plan.txt: what was decided and why, and the bytes a running program needs."""

from __future__ import annotations

from dataclasses import dataclass

from infc.plan.memory import align
from infc.plan.plan import Plan

GEMM_SCRATCH_BYTES = 48 * 640  # INFC_GEMM_SCRATCH_BYTES of runtime_c/infc_forward_sizes.h; a test compares the two


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes of one process: mapped weights (shared between processes), KV pages, arena, scratch of all threads."""

    weights: int
    kv: int
    arena: int
    scratch: int

    @property
    def total(self) -> int:
        """All of it; code, stacks and the C library come to about 2 MB more."""
        return self.weights + self.kv + self.arena + self.scratch


def memory_need(plan: Plan, ctx: int, batch: int, threads: int) -> MemoryNeed:
    """Exact bytes when ``batch`` sequences of ``ctx`` positions are held and chunks are full."""
    pages = batch * -(-ctx // plan.kv.page_size)
    scratch = align(plan.tile_bytes + GEMM_SCRATCH_BYTES + plan.private.size, 4096)
    return MemoryNeed(plan.layout.size, pages * plan.kv.page_bytes, align(plan.arena.size, 4096), threads * scratch)


def describe(plan: Plan) -> str:
    """The text of plan.txt; stable."""
    c = plan.config
    lines = [
        f"program {plan.name}: {c.arch}, dim {c.dim}, {c.n_layers} layers, {c.n_heads}/{c.n_kv_heads} heads of {c.head_dim}",
        f"context {plan.n_ctx}, chunk {plan.max_rows} rows, {plan.kv.max_seqs} sequences",
        f"weights {plan.layout.size} bytes (mapped, shared between processes)",
        f"kv pool {plan.kv.n_pages} pages of {plan.kv.page_size} positions, {plan.kv.page_bytes} bytes each, {plan.kv.dtype}",
        f"arena {plan.arena.size} bytes, scratch per thread {plan.tile_bytes + GEMM_SCRATCH_BYTES + plan.private.size} bytes",
        "",
        "arena",
    ]
    lines += [f"  {off:>12} {name}" for name, off in sorted(plan.arena.offsets, key=lambda x: (x[1], x[0]))]
    lines += ["", "layers"]
    lines += [f"  {r.first}..{r.first + r.count - 1}: kind {r.kind}" for r in plan.runs]
    for tp in plan.targets:
        lines += ["", f"target {tp.target.name}"]
        for kind in tp.kinds:
            lines.append(f"  layer kind {kind.index}")
            lines += [f"    {p.kind:<10} {p.source} -> {p.target}" + (f"  {p.units} units" if p.units else "") for p in kind.phases]
        lines += [f"  {note}" for note in tp.notes]
    return "\n".join(lines) + "\n"
