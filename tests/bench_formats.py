"""Speed of every weight format on one thread of this machine, each figure beside the limit of the same moment.

    python -m tests.bench_formats [--isa avx512,avx2] [--rounds 7] [--formats Q4_1,Q4_K] [-k 2048] [-o md|json]

One row of activations, weights read again and again from L2 (half a megabyte) and from memory (a quarter of a gigabyte, eight
times the third-level cache of the machines so far), and 512 rows. Bytes are those of the r16 layout. The read bandwidth is what
``NAME bench`` measures, the best of its readers, on a buffer as large; the arithmetic peaks are its peaks too: MACs at the integer peak
for quantized weights, at the float peak for the others. Weights and buffer lie in huge pages. Limits are measured in every round, bandwidth
before and after, and shares are medians of the rounds. Weights are random blocks, repeated.

The kernels are those of tests/kernels/harness.c, built once into build/bench_formats; ``--build`` does only that.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import mmap
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cffi
import numpy as np

from infc.formats import FORMATS
from infc.weights.repack import repack
from tests.kernels import reference as ref
from tests.kernels.build import HERE, RUNTIME, Build, c, ffi, finish, start
from tests.kernels.test_linear import random_activations, random_rows

M, PANELS = 512, 32  # rows of activations, and panels of weights they meet
MEMORY, CACHE = 256 << 20, 512 << 10  # bytes of weights
SLACK = 1 << 16  # kernels prefetch past the end
INT8, F32 = 0, 2  # of infc_peak.h
FOLDER = RUNTIME.parent / "build" / "bench_formats"

_limits = cffi.FFI()
_limits.cdef(
    """
typedef struct { unsigned char *data; size_t size; int threads; int kernel; } infc_bandwidth;
int infc_bandwidth_open(infc_bandwidth *b, size_t size, int threads);
double infc_bandwidth_measure(const infc_bandwidth *b, double seconds);
typedef struct { int threads; int best[3]; } infc_peak;
int infc_peak_open(infc_peak *p, const char *isa, int threads);
double infc_peak_measure(const infc_peak *p, int kind, double seconds);
int drops_prefetches(void);
double seconds_of(uintptr_t f, uintptr_t w, int n, int K, uintptr_t x, int M, uintptr_t y, uintptr_t s, int times, int warm);
"""
)


def kept(name: str, sources: list[Path], build: Callable[[Path], None]) -> Path:
    """The library ``name`` of these sources, built unless it was."""
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(sources))).hexdigest()[:16]
    out = FOLDER / f"{name}-{digest}.so"
    if not out.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            build(Path(folder) / "new.so")
            os.replace(Path(folder) / "new.so", out)
    return out


def kernels(isa: str) -> Path:
    """The kernels of one instruction set, with the flags of its target."""

    def build(out: Path) -> None:
        os.replace(finish(start(Build(isa, "gcc", "-O3"), out.parent)), out)

    return kept(isa, [HERE / "harness.c", *RUNTIME.rglob("*.h"), RUNTIME.parent / "targets" / f"{isa}.toml"], build)


def limits() -> Path:
    """The readers and the loops that find the machine's limits, and the clock."""
    sources = [RUNTIME / f"infc_{n}.c" for n in ("bandwidth", "peak", "together", "output", "error", "cpu")]
    sources.append(Path(__file__).with_suffix(".c"))

    def build(out: Path) -> None:
        flags = ["-O2", "-std=gnu11", "-fPIC", "-shared", "-pthread", f"-I{RUNTIME}"]
        subprocess.run(["gcc", *flags, *map(str, sources), "-o", str(out)], check=True)

    return kept("limits", sources, build)


class Limits:
    """Bytes and multiply-accumulates a second of one thread, measured at every call."""

    def __init__(self, isas: list[str]) -> None:
        self.lib = _limits.dlopen(str(limits()))
        self.reader = _limits.new("infc_bandwidth *")
        if self.lib.infc_bandwidth_open(self.reader, MEMORY, 1) != 0:
            raise MemoryError("no buffer to read")
        self.peaks = {isa: _limits.new("infc_peak *") for isa in isas}
        for isa, peak in self.peaks.items():
            if self.lib.infc_peak_open(peak, isa.encode(), 1) != 0:
                raise OSError("no thread to measure the arithmetic peaks with")

    def read(self) -> float:
        return float(self.lib.infc_bandwidth_measure(self.reader, 0.03))

    def multiply(self, isa: str, kind: int) -> float:
        return float(self.lib.infc_peak_measure(self.peaks[isa], kind, 0.01))


def huge(size: int) -> np.ndarray[Any, Any]:
    """(size) zero bytes in huge pages, where the system has them."""
    area = mmap.mmap(-1, size + (2 << 20), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_HUGEPAGE)
    bytes_ = np.frombuffer(area, np.uint8)
    first = -bytes_.ctypes.data % (2 << 20)
    return bytes_[first : first + size]


class Kernel:
    """One format's functions, its activations, and some panels of weights, of which ``place`` fills ``weights``."""

    def __init__(self, isas: dict[str, Any], clock: Any, name: str, k: int, weights: np.ndarray[Any, Any]) -> None:
        self.isas, self.clock, self.name, self.k, self.weights = isas, clock, name.lower(), k, weights
        self.few = repack(name, random_rows(name, 64, k, seed=1))
        self.panel_bytes = self.few.shape[1]
        self.y = np.zeros(max((MEMORY // self.panel_bytes + 1) * 16, PANELS * M * 16), np.float32)
        self.scratch = {isa: np.zeros(lib.t_scratch_bytes(), np.uint8) for isa, lib in isas.items()}
        x = random_activations(M, k, seed=2)
        self.activation = FORMATS[name].activation
        if self.activation == "q8":
            a = ref.Activations(x)
            self.keep = [np.ascontiguousarray(p) for p in (a.q, a.d, a.s, a.ds)]
            self.tiles = [ref.tiled(p) for p in self.keep]
            self.row = ffi.new("infc_q8 *", [*(c(p) for p in self.keep), 0])
            self.rows = ffi.new("infc_q8 *", [*(c(p) for p in self.tiles), 1])
        else:
            self.keep = [x]
            self.row = self.rows = c(x)

    def place(self) -> None:
        """The panels again and again, in the memory that all formats share."""
        times = (MEMORY + SLACK) // self.few.nbytes
        self.weights[: times * self.few.nbytes].reshape(times, -1)[:] = self.few.reshape(-1)

    def _seconds(self, isa: str, how: str, panels: int, x: Any, m: int, times: int, warm: int) -> float:
        call = ffi.addressof(self.isas[isa], f"t_linear_{self.name}_{self.activation}_{how}")
        w, x, y, s = (int(ffi.cast("uintptr_t", p)) for p in (c(self.weights), x, c(self.y), c(self.scratch[isa])))
        return float(self.clock(int(ffi.cast("uintptr_t", call)), w, panels, self.k, x, m, y, s, times, warm))

    def one_row(self, isa: str, size: int, least: int) -> float:
        """Bytes per second over ``size`` bytes of weights, again and again until ``least`` were read."""
        panels = max(1, size // self.panel_bytes)
        times = -(-least // (panels * self.panel_bytes))
        warm = min(panels, CACHE // self.panel_bytes + 1)
        return times * panels * self.panel_bytes / self._seconds(isa, "gemv", panels, self.row, 1, times, warm)

    def many_rows(self, isa: str) -> float:
        """Multiply-accumulates per second of M rows."""
        how = "tiles" if isa == "amx" and self.activation == "q8" else "gemm"
        return 2 * PANELS * 16 * M * self.k / self._seconds(isa, how, PANELS, self.rows, M, 2, 2)


def measure(kernel: Kernel, isa: str, limit: Limits) -> dict[str, float]:
    """One round: GB/s from L2 and memory, GMAC/s of many rows, the limits, and the shares in percent."""
    before = limit.read()
    cache, memory, read = kernel.one_row(isa, CACHE, 32 << 20), kernel.one_row(isa, MEMORY, MEMORY), (before + limit.read()) / 2
    many, peak = kernel.many_rows(isa), limit.multiply(isa, INT8 if kernel.activation == "q8" else F32)
    rates = {"l2_gb_s": cache, "gb_s": memory, "read_bw_gb_s": read, "gmac_s": many, "peak_gmac_s": peak}
    return {k: 1e-9 * v for k, v in rates.items()} | {"read_pct": 100 * memory / read, "math_pct": 100 * many / peak}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", default="avx512", help="avx2, avx512 or amx, or several with commas between (default: avx512)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("-k", type=int, default=2048, help="width, a multiple of 256 (default: 2048)")
    parser.add_argument("-o", choices=("md", "json"), default="md")
    parser.add_argument("--build", action="store_true", help="build the kernels and end")
    asked = parser.parse_args()
    isas, names = asked.isa.split(","), asked.formats.split(",")
    if asked.rounds < 1 or asked.k < 256 or asked.k % 256 or set(names) - set(FORMATS) or set(isas) - {"avx2", "avx512", "amx"}:
        parser.error("rounds from 1, a width that is a multiple of 256, isas avx2, avx512, amx, and formats " + ", ".join(FORMATS))
    libraries = {isa: ffi.dlopen(str(kernels(isa))) for isa in isas}
    limit = Limits(isas)
    for library in libraries.values():
        library.t_drops_prefetches(limit.lib.drops_prefetches())
    if asked.build:
        return
    if "amx" in isas and not libraries["amx"].t_tiles():
        raise SystemExit("this machine has no AMX tiles")
    weights = huge(MEMORY + SLACK)
    runs: dict[tuple[str, str], list[dict[str, float]]] = {(name, isa): [] for name in names for isa in isas}
    every = [Kernel(libraries, limit.lib.seconds_of, name, asked.k, weights) for name in names]
    for _ in range(asked.rounds):  # a slow spell of the machine then meets every format
        for name, kernel in zip(names, every, strict=True):
            kernel.place()
            for isa in isas:
                runs[name, isa].append(measure(kernel, isa, limit))
    if asked.o == "md":
        print("| format | bits a weight, r16 | target | L2, GB/s | memory, GB/s | % of read bandwidth | 512 rows, GMAC/s | % of peak |")
        print("|---|---|---|---|---|---|---|---|")
    for (name, isa), all in runs.items():
        r = {key: statistics.median(one[key] for one in all) for key in all[0]}
        bits = FORMATS[name].r16_bytes / 2 / FORMATS[name].block_size
        if asked.o == "json":
            print(json.dumps({"format": name, "bits": bits, "isa": isa} | r))
            continue
        figures = f"{r['l2_gb_s']:.1f} | {r['gb_s']:.1f} | {r['read_pct']:.0f} | {r['gmac_s']:.0f} | {r['math_pct']:.0f}"
        print(f"| {name} | {bits:.4g} | {isa} | {figures} |")


if __name__ == "__main__":
    main()
