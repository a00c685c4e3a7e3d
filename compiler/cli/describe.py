"""What ``inspect``, ``plan`` and ``targets`` print."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from infc.limits import Limits
from infc.options import TARGETS, CompileOptions
from infc.pipeline import Driver
from infc.progress import Silent
from infc.toolchain import host

_DESCRIPTION_BYTES = 3 * 4096  # the blob's head, description and trailer, a page each unless the description is long


def _visible(text: str) -> str:
    """A model's string as one harmless line."""
    return "".join(c if c.isprintable() else "?" for c in text)[:100]


def describe_model(path: Path, limits: Limits) -> str:
    """Hyper-parameters, warnings, tensors. Raises InputError for a file infc cannot compile."""
    reporter = Silent()
    driver = Driver(path, CompileOptions.create(target="scalar", limits=limits), reporter)
    model, config = driver.read()
    with model:
        lines = [f"{key:<16} {_visible(str(value))}" for key, value in asdict(config).items()]
        kinds = Counter(t.type for t in model.tensors.values())
        total = sum(t.nbytes for t in model.tensors.values())
        lines.append(f"{'tensors':<16} {len(model.tensors)}: " + ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())))
        lines.append(f"{'weights':<16} {total} bytes")
        lines += [f"{'note':<16} {_visible(n)}" for n in reporter.notes]
        lines.append("")
        lines += [f"{_visible(t.name):<28} {t.type:<5} {' x '.join(map(str, t.ne)):<18} {t.nbytes}" for t in model.tensors.values()]
    return "\n".join(lines)


def describe_plan(path: Path, batch: int, given: dict[str, Any]) -> str:
    """plan.txt of a model for ``batch`` sequences of ``ctx`` positions. Writes nothing."""
    if batch > given["max_seqs"]:
        given["max_seqs"] = batch
    from infc.plan.describe import describe, memory_need

    options = CompileOptions.create(**given, stop_after="plan")
    driver = Driver(path, options, Silent())
    model, config = driver.read()
    with model:
        if options.kv_tokens is None:
            ctx = options.resolved(config.n_ctx_train).ctx
            assert ctx is not None  # resolved() decides it
            driver = Driver(path, CompileOptions.create(**(given | {"kv_tokens": ctx * batch}), stop_after="plan"), Silent())
        graph = driver.graphs(model, config)[-1][1]
        plan = driver.plan(graph)
        threads = len(os.sched_getaffinity(0))
        need = memory_need(plan, plan.n_ctx, batch, threads, driver.sections(model, config).size + _DESCRIPTION_BYTES)
        sizes = [f"{f.name:<8} {getattr(need, f.name):>14}" for f in fields(need)] + [f"{'total':<8} {need.total:>14}"]
        head = f"bytes for {batch} sequences of {plan.n_ctx} positions, {threads} threads"
        return "\n".join([head, *sizes, "", describe(plan).rstrip()])


def describe_targets() -> str:
    """One line a target: what it needs and whether this CPU has it."""
    lines = []
    for name in TARGETS:
        lacks = host.missing(name)
        here = "runs here" if not lacks else f"this CPU lacks {', '.join(lacks)}"
        lines.append(f"{name:<8} {here:<44} needs {', '.join(host.requires(name)) or 'any x86-64'}")
    lines.append(f"native   is {host.runnable()[-1]} on this {host.cpu()[0]}")
    return "\n".join(lines)


__all__ = ["describe_model", "describe_plan", "describe_targets"]
