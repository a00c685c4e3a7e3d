"""``infc explain``: a table of kernels on a terminal, JSON elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from infc.measure.explain import Explained

_COLUMNS = ("phase", "kernel", "calls", "MB", "MMAC", "us", "% time", "GB/s", "GMAC/s", "bound", "% of limit")


def _title(e: Explained) -> str:
    w, p = e.profile.workload, e.profile
    what = f"a prompt of {w.rows}" if w.prompt else "one token" if w.rows == 1 else f"a token of each of {w.rows} sequences"
    depth = f" at depth {w.depth}" if w.depth else ""
    return f"{what}{depth}: {p.isa}, {p.threads} thread{'s' if p.threads > 1 else ''}, mean of the middle half of {w.steps} steps"


def _limits(e: Explained) -> str:
    x = e.limits
    peaks = f"int8 {x.int8_gmac_s:.0f} GMAC/s, int16 {x.int16_gmac_s:.0f}, f32 {x.f32_gmac_s:.0f}"
    return f"limits in this run: read {x.read_gb_s:.1f} GB/s, {peaks}"


def _cells(e: Explained) -> list[tuple[str, ...]]:
    """One row a kernel, then what lies outside them, then the sum."""
    rows: list[tuple[str, ...]] = []
    for k in e.kernels:
        ns = k.seconds * 1e9
        rates = (f"{k.bytes / ns:.1f}", f"{k.macs / ns:.1f}") if ns > 0 else ("", "")
        figures = (f"{k.calls:g}", f"{k.bytes * 1e-6:.2f}", f"{k.macs * 1e-6:.2f}", f"{k.seconds * 1e6:.1f}")
        share = f"{100 * k.seconds / e.step_s:.1f}"
        rows.append((k.phase, k.kernel, *figures, share, *rates, k.bound, f"{k.limit_pct:.1f}"))
    share = f"{100 * e.outside_s / e.step_s:.1f}"
    rows.append(("outside the kernels", "", "", "", "", f"{e.outside_s * 1e6:.1f}", share, "", "", "", ""))
    size, macs, ns = sum(k.bytes for k in e.kernels), sum(k.macs for k in e.kernels), e.step_s * 1e9
    sums = (f"{size * 1e-6:.2f}", f"{macs * 1e-6:.2f}", f"{e.step_s * 1e6:.1f}", "100.0", f"{size / ns:.1f}", f"{macs / ns:.1f}")
    rows.append(("step", f"{e.profile.workload.rows / e.step_s:.1f} tok/s", "", *sums, "", f"{e.limit_pct:.1f}"))
    return rows


def show(e: Explained) -> None:
    """The table on stdout, drawn by rich."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=_title(e), caption=_limits(e))
    for i, name in enumerate(_COLUMNS):
        table.add_column(name, justify="left" if i < 2 or name == "bound" else "right", overflow="fold" if i == 1 else "ellipsis")
    cells = _cells(e)
    for row in cells[:-2]:
        table.add_row(*row)
    table.add_section()
    for row in cells[-2:]:
        table.add_row(*row)
    Console().print(table)


def run(artifact: Path, as_json: bool, threads: int, isa: str | None, cc: str | None, **given: Any) -> None:
    """Profile one workload and print it."""
    from infc.binding.artifact import Artifact
    from infc.cli.progress import Progress
    from infc.measure.explain import explainer
    from infc.measure.profile import Workload

    opened = Artifact.open(artifact)
    prompt = given["prompt"]
    steps = given["steps"] or (3 if prompt else 32)
    workload = Workload(prompt or given["batch"], given["depth"], bool(prompt), steps)
    with Progress() as progress:
        progress.reporter.stage("compile")  # with the probes on
        with explainer(opened, threads, isa, cc) as e:
            progress.reporter.stage("measure")
            explained = e.explain(workload)
    if as_json:
        print(json.dumps({"artifact": opened.name} | explained.to_json(), indent=1))
    else:
        show(explained)
