"""A thin python face of infc.h for the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.runtime import harness

INTERNALS = """
int fake_check_pages(const infc_model *m);
int fake_free_pages(const infc_model *m);
typedef struct infc_team infc_team;
typedef void (*infc_team_fn)(void *arg, int thread, int n_threads);
int infc_default_threads(void);
int infc_team_open(int n, int pin, infc_team **out);
void infc_team_close(infc_team *team);
int infc_team_size(const infc_team *team);
void infc_team_run(infc_team *team, infc_team_fn fn, void *arg);
typedef struct infc_cpu_mask { unsigned long word[128]; } infc_cpu_mask;
int infc_mask_get(infc_cpu_mask *out);
int infc_quota_cpus(const char *root);
int infc_physical_cores(const char *root, const infc_cpu_mask *mask);
typedef struct infc_cpu_regs {
    uint32_t max_leaf, amd, leaf1_ecx, leaf7_ebx, leaf7_ecx, leaf7_edx, tiles_granted;
    uint64_t xcr0;
} infc_cpu_regs;
infc_cpu_regs infc_cpu_read(void);
void infc_cpu_request_tiles(infc_cpu_regs *regs);
uint32_t infc_cpu_features(const infc_cpu_regs *regs);
const char *infc_cpu_missing(const infc_cpu_regs *regs, uint32_t requires_cpu);
const char *infc_cpu_target(const infc_cpu_regs *regs);
int infc_cpu_drops_prefetches(const infc_cpu_regs *regs);
typedef struct infc_sha256 { uint32_t h[8]; uint64_t bytes; uint8_t block[64]; } infc_sha256;
void infc_sha256_start(infc_sha256 *s);
void infc_sha256_add(infc_sha256 *s, const void *data, size_t n);
void infc_sha256_finish(infc_sha256 *s, uint8_t digest[32]);
int infc_fail(int code, const char *format, ...);
void infc_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
double infc_uniform(uint64_t seed, uint64_t i);
typedef struct infc_passes {
    float (*copy)(float *out, const float *logits, size_t n);
    float (*max)(const float *x, size_t n);
    int32_t (*first_of)(const float *x, float value);
    double (*sum_exp)(const float *x, size_t n, float max);
    void (*exp)(float *out, const float *x, size_t n, float max, float scale);
} infc_passes;
const infc_passes *infc_passes_for(uint32_t cpu_features);
double infc_log(double x);
"""


class RuntimeFailure(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Runtime:
    """The library: ``ffi``, ``lib``, and ``check`` as the binding has it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ffi, self.lib = harness.load(path, INTERNALS)

    def last_error(self) -> str:
        return self.ffi.string(self.lib.infc_last_error()).decode()

    def check(self, rc: int) -> int:
        if rc < 0:
            raise RuntimeFailure(rc, self.last_error())
        return rc


class Model:
    def __init__(self, runtime: Runtime, *, weights_path: Path | None = None, isa: str | None = None, **options: int) -> None:
        self.rt, ffi = runtime, runtime.ffi
        self.handle = ffi.NULL
        given = ffi.new("infc_options *", {"size": ffi.sizeof("infc_options"), **{"threads": 1, **options}})
        keep = [ffi.new("char[]", str(v).encode()) if v is not None else ffi.NULL for v in (weights_path, isa)]
        given.weights_path, given.isa = keep
        out = ffi.new("infc_model **")
        runtime.check(runtime.lib.infc_open(given, out))
        self.handle = out[0]

    def close(self) -> None:
        if self.handle != self.rt.ffi.NULL:
            problem = self.rt.lib.fake_check_pages(self.handle)
            self.rt.lib.infc_close(self.handle)
            self.handle = self.rt.ffi.NULL
            assert problem == 0, f"fake_program.c:{problem}"

    def __getattr__(self, name: str):  # seq_open(), seq_fork(seq, length), verify() ...: infc_* with the error raised
        function = getattr(self.rt.lib, "infc_" + name)
        return lambda *args: self.rt.check(function(self.handle, *args))

    def info(self):
        out = self.rt.ffi.new("infc_info *")
        self.rt.check(self.rt.lib.infc_get_info(self.handle, out))
        return out

    def check_pages(self) -> None:
        problem = self.rt.lib.fake_check_pages(self.handle)
        assert problem == 0, f"fake_program.c:{problem}"

    def free_pages(self) -> int:
        return self.rt.lib.fake_free_pages(self.handle)

    def step(self, rows: list[tuple[int, int, int, int]]) -> tuple[np.ndarray, np.ndarray]:
        """rows (seq, pos, token, flags) -> logits (n, VOCAB) and hidden (n, DIM) of the rows that ask."""
        ffi = self.rt.ffi
        array = ffi.new("infc_row[]", rows)
        logits = np.full((sum(r[3] & 1 for r in rows), harness.VOCAB), np.nan, np.float32)
        hidden = np.full((sum(r[3] >> 1 & 1 for r in rows), harness.DIM), np.nan, np.float32)
        pointers = [ffi.cast("float *", ffi.from_buffer(a)) if a.size else ffi.NULL for a in (logits, hidden)]
        self.rt.check(self.rt.lib.infc_step(self.handle, array, len(rows), *pointers))
        return logits, hidden

    def append(self, seq: int, tokens: list[int]) -> np.ndarray:
        """Appends to seq; logits (len(tokens), VOCAB)."""
        start = self.seq_length(seq)
        return self.step([(seq, start + i, t, 1) for i, t in enumerate(tokens)])[0]
