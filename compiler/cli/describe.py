"""What ``plan`` and ``targets`` print."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from infc.options import TARGETS, CompileOptions
from infc.pipeline import Driver
from infc.progress import Silent
from infc.toolchain import host

_DESCRIPTION_BYTES = 3 * 4096  # the blob's head, description and trailer, a page each unless the description is long


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


__all__ = ["describe_plan", "describe_targets"]
