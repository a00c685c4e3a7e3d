"""manifest.json: what an artifact was made from and how. No dates, no places of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infc import __version__
from infc.options import CompileOptions
from infc.toolchain.build import Built
from infc.toolchain.cc import Compiler

if TYPE_CHECKING:
    from infc.plan.plan import Plan
    from infc.weights.blob import BlobInfo

_SECTIONS = {1: "weights", 2: "tokenizer", 3: "chat", 4: "meta"}


def encode(facts: dict[str, Any]) -> str:
    """Stable JSON text."""
    return json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=True) + "\n"


def render(
    options: CompileOptions,
    name: str,
    model_name: str,
    model_sha256: str,
    plan: Plan,
    blob: BlobInfo,
    built: Built,
    cc: Compiler,
    notes: tuple[str, ...] = (),
) -> str:
    """The manifest of a finished build. Sizes are bytes."""
    from infc.plan.describe import memory_need

    facts: dict[str, Any] = {
        "infc": __version__,
        "name": name,
        "model": {"file": model_name, "sha256": model_sha256, "arch": plan.config.arch, "name": plan.config.name},
        "targets": list(options.target),
        "options": {
            "ctx": plan.n_ctx,
            "kv": options.kv,
            "kv_tokens": plan.kv.n_pages * plan.kv.page_size,
            "max_rows": plan.max_rows,
            "max_seqs": plan.kv.max_seqs,
            "quantize": options.quantize,
            "quantize_embedding": options.quantize_embedding,
            "date": options.date,
        },
        "toolchain": {"cc": cc.family, "version": cc.version, "lto": built.lto, "pgo": built.pgo},
        "memory": {
            "arena_bytes": plan.arena.size,
            "kv_page_bytes": plan.kv.page_bytes,
            "kv_page_size": plan.kv.page_size,
            "kv_bytes": plan.kv.pool_bytes,
            "thread_bytes": memory_need(plan, plan.n_ctx, 1, 1).scratch,
        },
        "weights": {
            "blob_bytes": blob.size,
            "sha256": blob.sha256,
            "sections": {_SECTIONS.get(i, str(i)): size for i, size in blob.sections},
        },
        "code_bytes": {path.name: _size(path) for path in (built.program, built.library)},
        "notes": [*notes, *built.notes],
    }
    return encode(facts)


def _size(path: Path) -> int:
    return path.stat().st_size
