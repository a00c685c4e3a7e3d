"""Speed of every block-quantized format on one thread of this machine: one row of activations from L2 and from memory, 512 rows.

    python -m tests.bench_formats [--isa avx512] [--rounds 5] [--formats Q4_1,Q4_K]

Bytes are those of the r16 layout. The read bandwidth is what ``NAME bench`` measures (the best of its readers), on a buffer as large
and beside every round of a format; shares are medians of the rounds. Weights are random blocks, repeated; K = 2,048.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cffi
import numpy as np

from infc.formats import FORMATS
from infc.weights.repack import repack
from tests.kernels import reference as ref
from tests.kernels.build import RUNTIME, Build, c, ffi, finish, start
from tests.kernels.test_linear import random_activations, random_rows

K, M = 2048, 512
MEMORY, CACHE = 96 << 20, 1 << 20  # bytes of weights

_bandwidth = cffi.FFI()
_bandwidth.cdef(
    """
typedef struct { unsigned char *data; size_t size; int threads; int kernel; } infc_bandwidth;
int infc_bandwidth_open(infc_bandwidth *b, size_t size, int threads);
double infc_bandwidth_measure(const infc_bandwidth *b, double seconds);
"""
)


def reader(folder: Path) -> Callable[[], float]:
    """Bytes per second of one thread over a buffer of MEMORY bytes."""
    out = folder / "bandwidth.so"
    sources = [str(RUNTIME / f"infc_{n}.c") for n in ("bandwidth", "together", "output", "error")]
    subprocess.run(["gcc", "-O2", "-std=gnu11", "-fPIC", "-shared", "-pthread", *sources, "-o", str(out)], check=True)
    lib = _bandwidth.dlopen(str(out))
    state = _bandwidth.new("infc_bandwidth *")
    if lib.infc_bandwidth_open(state, MEMORY, 1) != 0:
        raise MemoryError("no buffer to read")
    return lambda: float(lib.infc_bandwidth_measure(state, 0.03))


class Kernel:
    """One format's functions, with weights and activations in place."""

    def __init__(self, lib: Any, name: str, many: str) -> None:
        self.lib, self.name, self.many = lib, name.lower(), many
        few = repack(name, random_rows(name, 64, K, seed=1))
        self.panel_bytes = few.shape[1]
        self.weights = np.tile(few, (MEMORY // few.nbytes + 1, 1))
        self.y = np.zeros((len(self.weights), 16), np.float32)
        self.scratch = np.zeros(lib.t_scratch_bytes(), np.uint8)
        a = ref.Activations(random_activations(M, K, seed=2))
        self.keep = [np.ascontiguousarray(p) for p in (a.q, a.d, a.s, a.ds)]
        self.tiles = [ref.tiled(p) for p in self.keep]
        self.row = ffi.new("infc_q8 *", [*(c(p) for p in self.keep), 0])
        self.rows = ffi.new("infc_q8 *", [*(c(p) for p in self.tiles), 1])

    def one_row(self, size: int) -> float:
        """Bytes per second over ``size`` bytes of weights, read again and again."""
        panels = size // self.panel_bytes
        call = getattr(self.lib, f"t_linear_{self.name}_q8_gemv")
        times = max(1, (MEMORY // 2) // size)
        call(c(self.weights), panels, K, self.row, 1, c(self.y), ffi.NULL)
        began = time.perf_counter()
        for _ in range(times):
            call(c(self.weights), panels, K, self.row, 1, c(self.y), ffi.NULL)
        return times * panels * self.panel_bytes / (time.perf_counter() - began)

    def many_rows(self) -> float:
        """Multiply-accumulates per second of M rows."""
        panels = 32
        y = np.zeros((panels, M, 16), np.float32)
        call = getattr(self.lib, f"t_linear_{self.name}_q8_{self.many}")
        call(c(self.weights), 2, K, self.rows, M, c(y), c(self.scratch))
        began = time.perf_counter()
        call(c(self.weights), panels, K, self.rows, M, c(y), c(self.scratch))
        return panels * 16 * M * K / (time.perf_counter() - began)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", default="avx512", choices=("avx2", "avx512", "amx"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--formats", default=",".join(f.name for f in FORMATS.values() if f.activation == "q8"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lib = ffi.dlopen(str(finish(start(Build(asked.isa, "gcc", "-O3"), Path(folder)))))
        bandwidth = reader(Path(folder))
        many = "gemm"
        if asked.isa == "amx":
            many = "tiles"
            if not lib.t_tiles():
                raise SystemExit("this machine has no AMX tiles")
        print("| format | bits a weight, r16 | L2, GB/s | memory, GB/s | % of read bandwidth | 512 rows, GMAC/s |")
        print("|---|---|---|---|---|---|")
        for name in asked.formats.split(","):
            k = Kernel(lib, name, many)
            rounds = [(k.one_row(CACHE), k.one_row(MEMORY), bandwidth(), k.many_rows()) for _ in range(asked.rounds)]
            cache, memory, _, macs = (statistics.median(r[i] for r in rounds) * 1e-9 for i in range(4))
            share = statistics.median(r[1] / r[2] for r in rounds)
            f = FORMATS[name]
            bits = f.r16_bytes / 2 / f.block_size
            print(f"| {name} | {bits:.4g} | {cache:.1f} | {memory:.1f} | {100 * share:.0f} | {macs:.0f} |", flush=True)


if __name__ == "__main__":
    main()
