"""plan.txt: what was decided, in bytes, and per operation which kernel was chosen and which were rejected and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infc.plan.plan import Plan


def plan_text(plan: Plan) -> str:
    """Stable text. Sizes are bytes; the process maps and reserves them at its start and never more."""
    c, kv = plan.config, plan.kv
    thread = plan.private.size + plan.tile_bytes
    sizes = (
        ("weights", plan.layout.size, "mapped read-only, shared between processes"),
        ("kv pool", kv.pool_bytes, f"{kv.n_pages} pages of {kv.page_size} positions, {kv.page_bytes} bytes each ({kv.dtype})"),
        ("arena", plan.arena.size, f"activations of up to {plan.max_rows} rows"),
        ("scratch", thread, "per thread"),
    )
    total = plan.layout.size + kv.pool_bytes + plan.arena.size + thread
    lines = [
        f"{plan.name}: {c.arch}, {c.n_layers} layers, dim {c.dim}, heads {c.n_heads}/{c.n_kv_heads} of {c.head_dim}, vocab {c.vocab_size}",
        f"context {plan.n_ctx}, up to {kv.max_seqs} sequences, {kv.n_pages * kv.page_size} positions in all",
        "",
        *(f"{name:<8} {size:>14}  {why}" for name, size, why in sizes),
        f"{'total':<8} {total:>14}  with one thread; {thread} more for each further one",
        "",
        "arena (offset, bytes, buffer)",
        *(f"  {offset:>10} {plan.buffer(name).size:>10}  {name}" for name, offset in sorted(plan.arena.offsets, key=lambda x: x[1])),
    ]
    for target in plan.targets:
        lines += ["", f"target {target.target.name}", *(f"  {note}" for note in target.notes)]
    return "\n".join(lines) + "\n"
