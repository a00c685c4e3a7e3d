"""What the host offers: CPU features, quotas, cores. Machines are described, so this one does not matter."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.runtime import harness
from tests.runtime.harness import EHOST, EINPUT
from tests.runtime.model import Runtime, RuntimeFailure

AVX2, AVX512, AMX = 1, 2, 4
OSXSAVE = 1 << 27
HASWELL = {
    "max_leaf": 13,
    "leaf1_ecx": OSXSAVE | 1 << 28 | 1 << 12 | 1 << 29,
    "leaf7_ebx": 1 << 5,
    "leaf7_ecx": 0,
    "leaf7_edx": 0,
    "tiles_granted": 0,
    "xcr0": 7,
}
ICELAKE = {
    **HASWELL,
    "leaf7_ebx": 1 << 5 | 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31,
    "leaf7_ecx": 1 << 11,
    "xcr0": 0xE7,
}
SAPPHIRE_RAPIDS = {**ICELAKE, "leaf7_edx": 1 << 24 | 1 << 25, "tiles_granted": 1, "xcr0": 0x600E7}


def regs(runtime: Runtime, base: dict[str, int], **clear: int):
    return runtime.ffi.new("infc_cpu_regs *", {k: v & ~clear.get(k, 0) for k, v in base.items()})


def missing(runtime: Runtime, r, requires: int) -> str | None:
    text = runtime.lib.infc_cpu_missing(r, requires)
    return None if text == runtime.ffi.NULL else runtime.ffi.string(text).decode()


def test_features(runtime) -> None:
    assert runtime.lib.infc_cpu_features(regs(runtime, SAPPHIRE_RAPIDS)) == AVX2 | AVX512 | AMX
    assert runtime.lib.infc_cpu_features(regs(runtime, ICELAKE)) == AVX2 | AVX512
    assert runtime.lib.infc_cpu_features(regs(runtime, HASWELL)) == AVX2
    assert runtime.lib.infc_cpu_features(runtime.ffi.new("infc_cpu_regs *")) == 0
    targets = [
        runtime.ffi.string(runtime.lib.infc_cpu_target(regs(runtime, r)))
        for r in (SAPPHIRE_RAPIDS, ICELAKE, HASWELL, dict.fromkeys(HASWELL, 0))
    ]
    assert targets == [b"amx", b"avx512", b"avx2", b"scalar"]


@pytest.mark.parametrize(
    ("clear", "names"),
    [
        ({"leaf7_ecx": 1 << 11}, "AVX-512 VNNI"),
        ({"leaf7_ebx": 1 << 16}, "AVX-512 F"),
        ({"leaf7_ebx": 1 << 17}, "AVX-512 DQ"),
        ({"leaf7_ebx": 1 << 30}, "AVX-512 BW"),
        ({"leaf7_ebx": 1 << 31}, "AVX-512 VL"),
        ({"leaf7_ebx": 1 << 5}, "AVX2"),
        ({"leaf1_ecx": 1 << 12}, "FMA"),
        ({"leaf1_ecx": 1 << 29}, "F16C"),
        ({"xcr0": 0xE0}, "the operating system's support for AVX-512 registers"),
        ({"xcr0": 0xFF}, "the operating system's support for AVX-512 registers"),
    ],
)
def test_one_missing_part_of_avx512_is_named(runtime, clear: dict[str, int], names: str) -> None:
    r = regs(runtime, ICELAKE, **clear)
    assert missing(runtime, r, AVX512) == names
    assert not runtime.lib.infc_cpu_features(r) & AVX512


@pytest.mark.parametrize(
    ("clear", "names"),
    [
        ({"leaf7_edx": 1 << 24}, "AMX-TILE"),
        ({"leaf7_edx": 1 << 25}, "AMX-INT8"),
        ({"xcr0": 1 << 17}, "the operating system's support for AMX tiles"),
        ({"xcr0": 1 << 18}, "the operating system's support for AMX tiles"),
        ({"tiles_granted": 1}, "the kernel's permission to use AMX tiles"),
    ],
)
def test_one_missing_part_of_amx_is_named(runtime, clear: dict[str, int], names: str) -> None:
    r = regs(runtime, SAPPHIRE_RAPIDS, **clear)
    assert missing(runtime, r, AVX512 | AMX) == names
    assert runtime.lib.infc_cpu_features(r) == AVX2 | AVX512


def test_tiles_are_asked_for_and_the_answer_is_the_kernels(runtime) -> None:
    """A CPU without tiles is not asked about; one with them answers as /proc/cpuinfo says."""
    none = regs(runtime, ICELAKE)
    runtime.lib.infc_cpu_request_tiles(none)
    assert none.tiles_granted == 0
    r = runtime.ffi.new("infc_cpu_regs *", runtime.lib.infc_cpu_read())
    runtime.lib.infc_cpu_request_tiles(r)
    assert bool(r.tiles_granted) == (" amx_tile" in Path("/proc/cpuinfo").read_text())


def test_amd_cpus_with_avx512_drop_prefetches(runtime) -> None:
    drops = runtime.lib.infc_cpu_drops_prefetches
    assert not drops(regs(runtime, ICELAKE)) and not drops(regs(runtime, {**HASWELL, "amd": 1}))  # Zen 3 and before
    assert drops(regs(runtime, {**ICELAKE, "amd": 1}))
    text = Path("/proc/cpuinfo").read_text()
    assert bool(runtime.lib.infc_cpu_read().amd) == ("AuthenticAMD" in text)


def test_avx2_needs_the_operating_system_too(runtime) -> None:
    assert missing(runtime, regs(runtime, HASWELL, xcr0=4), AVX2) == "the operating system's support for AVX registers"
    assert missing(runtime, regs(runtime, HASWELL, leaf1_ecx=1 << 28), AVX2) == "AVX"
    assert missing(runtime, regs(runtime, HASWELL), AVX2) is None


def test_this_machine_agrees_with_the_kernel(runtime) -> None:
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")).split()
    r = runtime.ffi.new("infc_cpu_regs *", runtime.lib.infc_cpu_read())
    features = runtime.lib.infc_cpu_features(r)
    assert bool(features & AVX2) == ({"avx2", "fma", "f16c"} <= set(flags))
    assert bool(features & AVX512) == ({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"} <= set(flags))


def test_a_backend_the_cpu_lacks_is_refused_in_one_sentence(open_model, archive: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match="this CPU lacks .*compile with --target .* fat target such as") as failure:
        open_model(isa="future")
    assert failure.value.code == EHOST and "\n" not in failure.value.message
    library = harness.append_blob(
        harness.build_library(tmp_path / "f.so", archive, flags=("-DFAKE_ONLY_FUTURE",)),
        harness.default_blob(),
    )
    only = Runtime(library)
    out = only.ffi.new("infc_model **")
    assert only.lib.infc_open(only.ffi.NULL, out) == EHOST and out[0] == only.ffi.NULL
    assert "future" in only.last_error()


def test_an_isa_that_was_not_compiled_in(open_model) -> None:
    with pytest.raises(RuntimeFailure, match='isa "avx9" .* scalar,wide,future') as failure:
        open_model(isa="avx9")
    assert failure.value.code == EINPUT


@pytest.mark.parametrize("options", [{"threads": -1}, {"threads": 5000}, {"ubatch": -1}, {"ubatch": 9}, {"flags": 8}, {"size": 4}])
def test_bad_options(open_model, options: dict[str, int]) -> None:
    with pytest.raises(RuntimeFailure) as failure:
        open_model(**options)
    assert failure.value.code == EINPUT


def test_options_grow(runtime) -> None:
    ffi, lib = runtime.ffi, runtime.lib
    raw = ffi.new("char[]", 256)
    options = ffi.cast("infc_options *", raw)
    options.size, options.threads = 128, 1
    out = ffi.new("infc_model **")
    assert lib.infc_open(options, out) == 0
    lib.infc_close(out[0])
    raw[100] = b"\1"
    assert lib.infc_open(options, out) == EINPUT and "newer" in runtime.last_error()
    options.size = 16  # an older caller: no paths, isa or flags
    options.isa = ffi.cast("char *", 1)
    assert lib.infc_open(options, out) == 0
    lib.infc_close(out[0])


# ---- quota and cores: folders that look like /proc and /sys ----------------------------------------


def tree(root: Path, files: dict[str, str]) -> bytes:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root).encode()


V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct"
QUOTAS: dict[str, tuple[dict[str, str], int]] = {
    "no /proc": ({}, 0),
    "empty": ({"proc/self/cgroup": ""}, 0),
    "v2 exact": ({"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/cpu.max": "200000 100000\n"}, 2),
    "v2 rounds up": ({"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/cpu.max": "150000 100000\n"}, 2),
    "v2 less than one": ({"proc/self/cgroup": "0::/a\n", f"{V2}/a/cpu.max": "1000 100000\n"}, 1),
    "v2 max": ({"proc/self/cgroup": "0::/a\n", f"{V2}/a/cpu.max": "max 100000\n"}, 0),
    "v2 parent is tighter": (
        {
            "proc/self/cgroup": "0::/a/b\n",
            f"{V2}/a/b/cpu.max": "800000 100000",
            f"{V2}/a/cpu.max": "300000 100000",
            f"{V2}/cpu.max": "max 1",
        },
        3,
    ),
    "v2 container: the group's path is the host's": (
        {"proc/self/cgroup": "0::/docker/f00\n", f"{V2}/cpu.max": "400000 100000\n"},
        4,
    ),
    "v2 root": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "500000 100000\n"}, 5),
    "v2 outside the namespace": (
        {"proc/self/cgroup": "0::/../../x\n", f"{V2}/cpu.max": "600000 100000\n"},
        6,
    ),
    "v1": (
        {
            "proc/self/cgroup": "5:memory:/m\n3:cpu,cpuacct:/g\n",
            f"{V1}/g/cpu.cfs_quota_us": "250000\n",
            f"{V1}/g/cpu.cfs_period_us": "100000\n",
        },
        3,
    ),
    "v1 mounted as cpu": (
        {
            "proc/self/cgroup": "3:cpuacct,cpu:/g\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000",
        },
        2,
    ),
    "v1 unlimited": (
        {
            "proc/self/cgroup": "3:cpu:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
        0,
    ),
    "cpuset is not cpu": (
        {
            "proc/self/cgroup": "3:cpuset:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "1",
        },
        0,
    ),
    "both: the tighter one": (
        {
            "proc/self/cgroup": "1:cpu:/\n0::/\n",
            f"{V2}/cpu.max": "900000 100000",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "700000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
        7,
    ),
    "garbage": ({"proc/self/cgroup": "::::\nnonsense\n0:\n0::/a\n", f"{V2}/a/cpu.max": "lots of it"}, 0),
    "period 0": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "100 0"}, 0),
    "no period": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "100"}, 0),
    "negative": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "-100 100"}, 0),
    "huge": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "9223372036854775807 1"}, 0),
    "an endless path": ({"proc/self/cgroup": "0::/" + "x" * 5000 + "\n", f"{V2}/cpu.max": "100 100"}, 0),
}


@pytest.mark.parametrize("case", QUOTAS)
def test_quota(runtime, tmp_path: Path, case: str) -> None:
    files, cpus = QUOTAS[case]
    assert runtime.lib.infc_quota_cpus(tree(tmp_path, files)) == cpus


@pytest.mark.parametrize(
    ("siblings", "cpus", "cores"),
    [
        (["0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"], range(8), 4),
        (["0-1", "0-1", "2-3", "2-3"], range(4), 2),
        (["0-1", "0-1", "2-3", "2-3"], [1, 3], 2),
        (["0-1", "0-1", "2-3", "2-3"], [2, 3], 1),
        (["", "x", "-7", "99999999"], range(4), 4),
        ([], [0, 5, 64, 8191], 4),
        ([], [], 1),
    ],
)
def test_physical_cores(runtime, tmp_path: Path, siblings: list[str], cpus, cores: int) -> None:
    root = tree(
        tmp_path,
        {f"sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list": s + "\n" for i, s in enumerate(siblings)},
    )
    mask = runtime.ffi.new("infc_cpu_mask *")
    for cpu in cpus:
        mask.word[cpu // 64] |= 1 << cpu % 64
    assert runtime.lib.infc_physical_cores(root, mask) == cores


def test_default_threads_obey_the_affinity_mask(runtime) -> None:
    mask = runtime.ffi.new("infc_cpu_mask *")
    assert runtime.lib.infc_mask_get(mask) == len(os.sched_getaffinity(0))
    assert 1 <= runtime.lib.infc_default_threads() <= len(os.sched_getaffinity(0))
    cpu = min(os.sched_getaffinity(0))
    code = (
        "from tests.runtime.model import Runtime; from pathlib import Path; "
        f"print(Runtime(Path({str(runtime.path)!r})).lib.infc_default_threads())"
    )
    done = subprocess.run(
        ["taskset", "-c", str(cpu), os.sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=harness.ROOT,
    )
    assert done.stdout == "1\n"


# ---- messages ----------------------------------------


def test_messages_are_one_short_printable_line(runtime) -> None:
    ffi, lib = runtime.ffi, runtime.lib

    def said(text: bytes) -> str:
        assert lib.infc_fail(-3, b"%s", ffi.new("char[]", text)) == -3
        return runtime.last_error()

    assert said(b"plain \xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80") == "plain é€😀"
    assert said(b"a\n\x1b[31m\x7f\t") == r"a\x0a\x1b[31m\x7f\x09"
    assert said(b"\xff\xc0\x80\xe2\x82") == r"\xff\xc0\x80\xe2\x82"
    assert said(b"\xc2\x85\xe2\x80\xae\xe2\x80\xa8") == r"\xc2\x85\xe2\x80\xae\xe2\x80\xa8"
    assert len(said(b"\x01" * 2000)) == 300
    assert said("é".encode() * 400) == "é" * 150
    assert said(b"x" + "é".encode() * 400) == "x" + "é" * 149  # cut between characters
