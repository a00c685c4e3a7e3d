"""The C of targets that this CPU cannot run, checked by the compiler without the minutes that its code would take."""

from __future__ import annotations

import subprocess
from pathlib import Path

import infc
from infc.options import TARGETS
from infc.toolchain import host


def assert_valid(model: Path, out: Path, **options: object) -> None:
    """``model``'s forward pass for every target that is not runnable here: gcc finds nothing, warnings included. ``out``: a new folder."""
    missing = [t for t in TARGETS if t not in host.runnable()]
    if not missing:
        return
    infc.compile(model, **(options | {"target": ",".join(missing), "out": out, "stop_after": "emit"}))
    objects = [f"forward_{t}.o" for t in missing]
    command = ["make", "-s", "-C", str(out / "src"), "CC=gcc -fsyntax-only -Wall -Wextra -Werror", *objects]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
