"""Builds the kernel harness for one ISA and calls it through cffi."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cffi
import numpy as np

from infc.kernels.spec import registry
from infc.kernels.target import load_targets
from infc.toolchain import host
from tests import tiles

HERE = Path(__file__).parent
RUNTIME = HERE.parent.parent / "runtime_c"
COMMON = ("-std=c11", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", f"-I{RUNTIME}", f"-I{HERE}")

CDEF = """
typedef struct infc_q8 { int8_t *q; float *d; int16_t *s; float *ds; int tiled; } infc_q8;
int t_tiles(void);
void t_drops_prefetches(int yes);
int t_scratch_bytes(void);
void t_exp(const float *x, float *y, int n);
void t_sigmoid(const float *x, float *y, int n);
void t_silu(const float *x, float *y, int n);
void t_tanh(const float *x, float *y, int n);
void t_gelu(const float *x, float *y, int n);
void t_relu2(const float *x, float *y, int n);
void t_fma(const float *a, const float *b, const float *c, float *y, int n);
void t_from_f16(const uint16_t *h, float *y, int n);
void t_from_f16_one(const uint16_t *h, float *y, int n);
void t_to_f16(const float *x, uint16_t *h, int n);
void t_max(const float *a, const float *b, float *y);
float t_fold_add(const float *x);
float t_fold_max(const float *x);
void t_quantize_row(const float *x, int K, const infc_q8 *a, int m);
void t_rmsnorm(const float *x, const float *w, float eps, int K, float *out);
void t_rmsnorm_q8(const float *x, const float *w, float eps, int K, const infc_q8 *a, int m);
void t_quantize_rows(const float *x, size_t ldx, int rows, const infc_q8 *a, int K, int m, int b);
void t_rmsnorm_q8_rows(const float *x, size_t ldx, int rows, const float *w, float eps, int K, const infc_q8 *a, int m);
void t_rmsnorm_q8x2(const float *x, const float *w, float eps, int K, const infc_q8 *a, int m);
void t_store_sum(const float *tile, int M, float *const *out, int n0, int n_valid);
void t_residual(const float *tile, int M, float *x, int ldx, int n0);
void t_store(const float *tile, int M, float *const *out, int n0, int n_valid);
void t_swiglu_q8(const float *g, const float *u, int M, const infc_q8 *a, int K, int b);
void t_swiglu_f32(const float *g, const float *u, int M, float *h, int ldh, int n0);
void t_rope_q(const float *tile, int M, const float *rope, int head_dim, int d0, float scale, float *q, int ldq, int n0);
void t_f16_sinks(const float *q, size_t ldq, const uint8_t *kv, const int32_t *pages, size_t stride, size_t offset, int n_pos, int rows,
                 int window, const float *sinks, float *out, size_t ldo);
void t_q16_sinks(const float *q, size_t ldq, const uint8_t *kv, const int32_t *pages, size_t stride, size_t offset, int n_pos, int rows,
                 int window, const float *sinks, float *out, size_t ldo);
typedef struct infc_expert_choice { int32_t expert; float weight; } infc_expert_choice;
typedef struct infc_member { int32_t row; float weight; } infc_member;
typedef struct infc_group { int32_t expert, first, rows, many; int64_t before; } infc_group;
typedef struct infc_groups { infc_group *group; infc_member *member; int32_t n; int64_t cost; } infc_groups;
void t_experts_choose(const float *logits, size_t ld, const float *bias, int n, int n_used, int renormalise, infc_expert_choice *out);
size_t t_most_members(size_t n_rows, size_t n_used, size_t n_experts);
void t_experts_group(const infc_expert_choice *choice, int n_rows, int n_used, int n_experts, int small_max, infc_groups *g);
int t_experts_share(const infc_groups *g, int i, int units, int t, int T);
int t_gather_rows(void);
int t_group_bytes(void);
int t_member_bytes(void);
void t_gather_q8(const infc_q8 *a, int K, const infc_member *member, int n, int tiled, const infc_q8 *own, infc_q8 *out);
const float *t_gather_f32(const float *a, int K, const infc_member *member, int n, float *own);
void t_epi_experts(const float *tile, const infc_member *member, int n, const float *bias, float *x, int ldx, int n0);
void t_f16_write_k(const float *tile, size_t ld, const float *rope, int head_dim, int d0, int dims, uint8_t *part, int page, int slot);
void t_f16_write_v(const float *tile, size_t ld, int head_dim, int d0, int dims, uint8_t *part, int page, int slot);
void t_q16_write_k(const float *tile, size_t ld, const float *rope, int head_dim, int d0, int dims, uint8_t *part, int page, int slot);
void t_q16_write_v(const float *tile, size_t ld, int head_dim, int d0, int dims, uint8_t *part, int page, int slot);
void t_q16_exp2(const float *x, float *y, int n);
int t_f16_attention(const float *q, size_t ldq, const uint8_t *kv, const int32_t *pages, size_t stride, size_t offset, int n_pos,
                    int rows, int head_dim, int group, int page, float *out, size_t ldo);
int t_q16_attention(const float *q, size_t ldq, const uint8_t *kv, const int32_t *pages, size_t stride, size_t offset, int n_pos,
                    int rows, int head_dim, int group, int page, float *out, size_t ldo);
"""

ffi = cffi.FFI()
ffi.cdef(CDEF)
for _name in sorted({s.c_function for s in registry()}):
    ffi.cdef(f"void t_{_name}(const uint8_t *w, int n, int K, const void *x, int M, float *y, void *s);")
for _name in sorted({s.weight.name.lower() for s in registry()}):
    ffi.cdef(f"void t_embed_{_name}_row(const uint8_t *w, int K, int token, float *out);")

_C = {"float32": "float *", "uint8": "uint8_t *", "int8": "int8_t *", "int16": "int16_t *", "int32": "int32_t *", "uint16": "uint16_t *"}


def c(a: np.ndarray[Any, Any]) -> Any:
    """The array as a C pointer; the caller keeps it alive."""
    return ffi.cast(_C[a.dtype.name], a.ctypes.data)


@dataclass(frozen=True)
class Build:
    """One way to compile the kernels. ``isa`` is a target's; ``emulated``: AVX-512, or the tiles of AMX, in plain C."""

    isa: str
    cc: str
    level: str
    emulated: bool = False

    @property
    def name(self) -> str:
        return f"{self.isa}{'-emulated' if self.emulated else ''}-{self.cc}{self.level}"

    def library(self, folder: Path) -> Path:
        """Where ``start`` puts it."""
        return folder / f"{self.name}.so"

    def command(self, out: Path) -> list[str]:
        target = next(t for t in load_targets() if t.isa == self.isa)
        flags = [f for f in target.flags if not f.startswith("-O")]
        if self.emulated and self.isa == "amx":
            flags = list(tiles.flags(target))
        elif self.emulated:
            flags = ["-DINFC_EMULATE_AVX512"]
        source = str(HERE / "harness.c")
        return [self.cc, *COMMON, self.level, f"-D{target.define}", *flags, source, "-o", str(out), "-lm"]


def host_has(isa: str) -> bool:
    """Whether this CPU runs the target."""
    target = next(t for t in load_targets() if t.isa == isa)
    return not host.missing(target.name)


def builds() -> list[Build]:
    """The builds to test: scalar first, AVX-512 emulated where the CPU lacks it, tiles where it has AVX-512 and no AMX, clang where it
    is installed. Without AVX-512 tests of amx skip, visibly: see ``usable``."""
    found = [Build("scalar", "gcc", "-O1")]
    if host_has("avx2"):
        found.append(Build("avx2", "gcc", "-O3"))
    found.append(Build("avx512", "gcc", "-O3") if host_has("avx512") else Build("avx512", "gcc", "-O1", emulated=True))
    found.append(Build("amx", "gcc", "-Og" if tiles.emulated() else "-O3", tiles.emulated()))
    if shutil.which("clang"):
        found.append(Build("scalar", "clang", "-O1"))
        if host_has("avx2"):
            found.append(Build("avx2", "clang", "-O2"))
    return found


def start(build: Build, folder: Path) -> tuple[subprocess.Popen[str], Path]:
    """Begin to compile; the builds of a session run side by side."""
    out = build.library(folder)
    return subprocess.Popen(build.command(out), stderr=subprocess.PIPE, text=True), out


def finish(started: tuple[subprocess.Popen[str], Path]) -> Path:
    """The library, when its compiler is done."""
    process, out = started
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return out
