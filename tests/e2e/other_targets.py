"""The C of targets that cannot run here, checked by the compiler without the minutes that its code would take."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import infc
from infc.options import TARGETS
from tests import tiles

MISSING = [t for t in TARGETS if t not in tiles.runnable()]
only_where_missing = pytest.mark.skipif(not MISSING, reason="every target runs here, amx on emulated tiles where the CPU has none")


def assert_valid(model: Path, out: Path, **options: object) -> None:
    """``model``'s forward pass for every target of ``MISSING``: gcc finds nothing, warnings included. ``out``: a new folder."""
    infc.compile(model, **(options | {"target": ",".join(MISSING), "out": out, "stop_after": "emit"}))
    objects = [f"forward_{t}.o" for t in MISSING]
    command = ["make", "-s", "-C", str(out / "src"), "CC=gcc -fsyntax-only -Wall -Wextra -Werror", *objects]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
