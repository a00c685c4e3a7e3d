"""The thread team under load; the whole runtime under the sanitizers; guard pages; fork()."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.runtime import harness
from tests.runtime.harness import EINPUT, ENOMEM, expected_logits
from tests.runtime.model import RuntimeFailure

TEAM = [harness.RUNTIME / f"infc_{stem}.c" for stem in ("threads", "quota", "memory", "error")]
ADDRESS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
WRAP = ("-Wl,--wrap=calloc,--wrap=aligned_alloc,--wrap=mmap,--wrap=pthread_create",)


def run(*command: str | Path) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stdout + done.stderr


@pytest.mark.parametrize("flags", [("-O2",), ("-O0", "-fsanitize=thread"), ("-O0", *ADDRESS)], ids=["plain", "thread", "address"])
def test_barriers(tmp_path: Path, flags: tuple[str, ...]) -> None:
    program = harness.build(tmp_path / "stress", *TEAM, harness.HERE / "stress_threads.c", flags=flags)
    for n in (1, 2, 3, 5, 7):  # 7 is past the flat barrier's limit
        run(program, str(n), "120", "8")


@pytest.mark.parametrize(
    ("cc", "flags"),
    [("gcc", ("-O0", *ADDRESS)), ("gcc", ("-O0", "-fsanitize=thread")), pytest.param("clang", ("-O1",), marks=pytest.mark.clang)],
    ids=["address", "thread", "clang"],
)
def test_exercise(tmp_path: Path, cc: str, flags: tuple[str, ...]) -> None:
    if shutil.which(cc) is None:
        pytest.skip(f"{cc} is not installed")
    sources = (*harness.SOURCES, harness.HERE / "fake_program.c", harness.HERE / "exercise.c")
    program = harness.build(tmp_path / "exercise", *sources, cc=cc, flags=(*WRAP, *flags))
    blob = harness.append_blob(tmp_path / "blob", harness.default_blob())
    run(program, blob, tmp_path / "scratch")


@pytest.mark.parametrize("n", [0, -1, 4097])
def test_impossible_team_sizes(runtime, n: int) -> None:
    out = runtime.ffi.new("infc_team **")
    assert runtime.lib.infc_team_open(n, 0, out) == EINPUT and out[0] == runtime.ffi.NULL


def test_pinning_binds_the_opening_thread_and_lets_it_go(runtime) -> None:
    before = os.sched_getaffinity(0)
    out = runtime.ffi.new("infc_team **")
    assert runtime.lib.infc_team_open(2, 1, out) == 0
    assert os.sched_getaffinity(0) == {min(before)}
    runtime.lib.infc_team_close(out[0])
    assert os.sched_getaffinity(0) == before


def test_a_child_of_fork_is_told_instead_of_waiting_for_ever(open_model) -> None:
    several, single = open_model(threads=2), open_model(threads=1)
    for model in (several, single):
        model.append(model.seq_open(), [1])
    child = os.fork()
    if child == 0:
        status = 1
        try:
            try:
                several.append(0, [2])
            except RuntimeFailure as failure:
                np.testing.assert_array_equal(single.append(0, [2])[0], expected_logits([1, 2]))
                status = 0 if failure.code == EINPUT and "fork" in failure.message else 2
            several.close()  # must not wait for threads that do not exist
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    for model in (several, single):
        np.testing.assert_array_equal(model.append(0, [2])[0], expected_logits([1, 2]))


@pytest.mark.parametrize(("at", "dies"), [("0", 0), ("127", 0), ("128", 1), ("-4096", 1)])
def test_guard_pages(tmp_path: Path, at: str, dies: int) -> None:
    """A byte past a region is a fault, also where the sanitizers do not look: inside our own arenas."""
    main = tmp_path / "main.c"
    main.write_text(f"""
#include "infc_memory.h"
int main(void) {{
    infc_region r;
    if (infc_region_open(&r, 100, INFC_REGION_FLUSH_END, "it")) return 9;
    volatile uint8_t *data = r.data;
    data[{at}] = 1;
    infc_region_close(&r);
    return r.map ? 8 : 0;
}}
""")
    program = harness.build(tmp_path / "guard", *TEAM[2:], main)
    assert subprocess.run([program], check=False).returncode == (-11 if dies else 0)


HUGE = 2 << 20


@pytest.mark.parametrize("used", [HUGE - 4096, 5 * HUGE + 12288])
def test_huge_pages_stay_within_what_is_used(tmp_path: Path, used: int) -> None:
    """Whole huge pages of the used bytes are huge, also where small pages were there before, and nothing past them becomes resident."""
    main = tmp_path / "main.c"
    main.write_text(f"""
#include <stdio.h>
#include <string.h>
#include "infc_memory.h"
int main(void) {{
    infc_region r;
    uint64_t done = 0;
    char line[256];
    unsigned long long at, to, from = 0, rss = 0, huge = 0, kb;
    if (infc_region_open(&r, 64ull << 20, INFC_REGION_NORESERVE, "it") || (uintptr_t)r.data % {HUGE}) return 9;
    for (uint64_t i = 0; i < {used}; i += 4096) {{
        r.data[i] = (uint8_t)(i >> 12);
        if (i % (3 << 19) == 0) infc_region_make_huge(&r, i, &done);
    }}
    infc_region_make_huge(&r, {used}, &done);
    for (uint64_t i = 0; i < {used}; i += 4096)
        if (r.data[i] != (uint8_t)(i >> 12)) return 8;
    FILE *f = fopen("/proc/self/smaps", "r");
    while (f && fgets(line, sizeof line, f)) {{
        if (sscanf(line, "%llx-%llx ", &at, &to) == 2) from = at;
        const int ours = from >= (uintptr_t)r.data && from < (uintptr_t)r.data + (64u << 20);
        if (ours && sscanf(line, "Rss: %llu", &kb) == 1) rss += kb << 10;
        if (ours && sscanf(line, "AnonHugePages: %llu", &kb) == 1) huge += kb << 10;
    }}
    printf("%llu %llu", rss, huge);
    infc_region_close(&r);
    return 0;
}}
""")
    program = harness.build(tmp_path / "huge", *TEAM[2:], main)
    resident, huge = map(int, subprocess.run([program], capture_output=True, text=True, check=True).stdout.split())
    assert resident == used
    modes = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    kernel = tuple(int(n) for n in re.findall(r"\d+", os.uname().release)[:2])
    if modes.exists() and "[never]" not in modes.read_text() and kernel >= (6, 1):
        assert huge == used // HUGE * HUGE


def test_a_region_larger_than_the_address_space(tmp_path: Path) -> None:
    main = tmp_path / "main.c"
    main.write_text(f"""
#include <stdio.h>
#include "infc_memory.h"
int main(void) {{
    infc_region r;
    for (uint64_t n = UINT64_MAX; n > 1ull << 47; n /= 2)
        if (infc_region_open(&r, n, 0, "it") != {ENOMEM} || r.map) return 1;
    puts("ok");
    return 0;
}}
""")
    run(harness.build(tmp_path / "huge", *TEAM[2:], main))


def test_only_the_public_interface_is_exported(tmp_path: Path) -> None:
    header = harness.declarations("infc.h")
    public = set(re.findall(r"\b(infc_\w+)\(", header))
    assert len(public) <= 25
    sources = (*harness.SOURCES, harness.HERE / "fake_program.c")
    library = harness.build(tmp_path / "lib.so", *sources, flags=("-shared", "-fvisibility=hidden", "-O0"))
    listed = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True)
    assert {line.split()[-1] for line in listed.stdout.splitlines()} == public
