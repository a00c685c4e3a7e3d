"""The size of a part of the cache is known twice: to the plan, which lays pages out, and to the kernels, which walk over them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from infc.plan.kv import KV_FORMATS

RUNTIME = Path(__file__).resolve().parents[2] / "runtime_c"
SOURCE = """
#include "infc_simd.h"
#include "kv/q16.h"
#include <stdio.h>

int main(void) {
    for (int d = 16; d <= Q16_MAX_HEAD_DIM; d += 16) printf("%zu\\n", q16_part_bytes(d));
    return 0;
}
"""


def test_a_q16_part_is_as_large_to_the_kernels_as_to_the_plan(tmp_path: Path) -> None:
    (tmp_path / "sizes.c").write_text(SOURCE)
    flags = ("-std=gnu11", "-O1", "-DINFC_ISA_SCALAR", f"-I{RUNTIME}")
    subprocess.run(["gcc", *flags, str(tmp_path / "sizes.c"), "-o", str(tmp_path / "sizes"), "-lm"], check=True)
    done = subprocess.run([tmp_path / "sizes"], capture_output=True, text=True, check=True)
    assert [int(n) for n in done.stdout.split()] == [KV_FORMATS["q16"].part_bytes(d) for d in range(16, 257, 16)]
