"""plan.txt: what was decided and why, and the bytes a running program needs."""

from __future__ import annotations

from dataclasses import dataclass

from infc.plan.memory import align
from infc.plan.plan import Plan

GEMM_SCRATCH_BYTES = 48 * 640  # INFC_GEMM_SCRATCH_BYTES of runtime_c/infc_forward_sizes.h; a test compares the two


# What every process of an executable has besides: measured 2.2 MB of its code, the C library and the loader (3 MiB are allowed), and
# per thread 48 KB of stack and what the C library keeps of it (128 KiB are allowed).
CODE_BYTES = 3 << 20
STACK_BYTES = 128 << 10
SAMPLING_WORDS = 7  # 4-byte words a token of the vocabulary: its logit, and with every option of the sampler in use six more


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes of one process: mapped weights and tables of the tokenizer (both shared between processes), KV pages, arena, scratch of all
    threads, and the process itself: code, stacks, logits of one row and a sampler. All but ``process`` are exact."""

    weights: int
    tables: int
    kv: int
    arena: int
    scratch: int
    process: int

    @property
    def total(self) -> int:
        """All of it: what the executable never exceeds. The logits of many positions, when asked for, are the caller's."""
        return self.weights + self.tables + self.kv + self.arena + self.scratch + self.process


def memory_need(plan: Plan, ctx: int, batch: int, threads: int, tables: int = 0) -> MemoryNeed:
    """Bytes when ``batch`` sequences of ``ctx`` positions are held and chunks are full. ``tables``: of the blob's other sections."""
    process = CODE_BYTES + threads * STACK_BYTES + 4 * SAMPLING_WORDS * plan.config.vocab_size
    pages = batch * -(-ctx // plan.kv.page_size)
    scratch = align(plan.tile_bytes + GEMM_SCRATCH_BYTES + plan.private.size, 4096)
    return MemoryNeed(
        weights=plan.layout.size,
        tables=align(tables, 4096),
        kv=pages * plan.kv.page_bytes,
        arena=align(plan.arena.size, 4096),
        scratch=threads * scratch,
        process=align(process, 4096),
    )


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
    lines.append(f"  {c.n_layers - 1}, from its attention on: rows that somebody wants")
    for tp in plan.targets:
        lines += ["", f"target {tp.target.name}"]
        for kind in tp.kinds:
            lines.append(f"  layer kind {kind.index}")
            lines += [f"    {p.kind:<10} {p.source} -> {p.target}" + (f"  {p.units} units" if p.units else "") for p in kind.phases]
        lines += [f"  {note}" for note in tp.notes]
    return "\n".join(lines) + "\n"
