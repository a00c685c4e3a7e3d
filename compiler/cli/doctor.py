"""``infc doctor``: what this machine offers, one line each, with the remedy where something is missing."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from infc import __version__
from infc.errors import ToolchainError
from infc.toolchain import cache, cc, host


def _quota() -> str:
    """The cgroup's CPU quota as its files state it."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return "none" if quota == "max" else f"{int(quota) / int(period):.2f} CPUs"
    except (OSError, ValueError):
        pass
    try:
        q = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text())
        p = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text())
        return "none" if q < 0 else f"{q / p:.2f} CPUs"
    except (OSError, ValueError, ZeroDivisionError):
        return "none found"


def _compiler(named: str | None, work: Path) -> list[str]:
    found = cc.find(named, work)
    lto = "works" if cc.lto_flags(found, work) else "does not link here: infc leaves it out"
    remedy = "install llvm and the compiler-rt runtime" if found.family == "clang" else "install libgcc's gcov"
    pgo = "works" if cc.instrument_works(found, work) else f"not available: {remedy}"
    return [f"compiler   {found.command} ({found.version})", f"lto        {lto}", f"pgo        {pgo}"]


def examine(named: str | None) -> str:
    """The report. Raises ToolchainError after the other lines were printed if there is no compiler."""
    name, features = host.cpu()
    runs = host.runnable()
    known = sorted({f for t in ("avx2", "avx512", "amx") for f in host.requires(t)})
    lines = [
        f"infc       {__version__}, Python {sys.version.split()[0]}",
        f"cpu        {name}, {os.cpu_count()} logical, {len(os.sched_getaffinity(0))} allowed, quota {_quota()}",
        f"features   {' '.join(f for f in known if f in features) or 'none of those infc uses'}",
        f"targets    {', '.join(runs)}",
    ]
    root = cache.default_root()
    if root is None:
        lines.append("cache      none: this user has no home; name a folder with INFC_CACHE")
    else:
        nearest = next(p for p in (root, *root.absolute().parents) if p.exists())
        lines.append(f"cache      {root}, {shutil.disk_usage(nearest).free >> 30} GiB free")
    lines.append(f"disk       {shutil.disk_usage('.').free >> 30} GiB free here")
    with tempfile.TemporaryDirectory(prefix="infc-probe-") as folder:
        try:
            lines += _compiler(named, Path(folder))
        except ToolchainError:
            print("\n".join(lines))
            raise
    return "\n".join(lines)
