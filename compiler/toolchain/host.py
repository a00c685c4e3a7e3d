"""What this machine's CPU can run: archspec for names and features, a trial in a child process for the truth."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

from infc.errors import ToolchainError
from infc.kernels.target import target
from infc.options import TARGETS
from infc.toolchain import process
from infc.toolchain.cc import Compiler

# The compiler's builtin names one feature differently and does not know f16c (every CPU with AVX2 has it).
_BUILTIN = {"avx512_vnni": "avx512vnni", "amx_tile": "amx-tile", "amx_int8": "amx-int8"}
_UNKNOWN_TO_BUILTIN = ("f16c",)


def requires(name: str) -> tuple[str, ...]:
    """The features a target needs, in the kernel's and archspec's names."""
    return target(name).requires


@lru_cache(maxsize=1)
def cpu() -> tuple[str, frozenset[str]]:
    """(microarchitecture, features) of this host."""
    import archspec.cpu
    from archspec.cpu.detect import detected_info

    # A host is named after the nearest microarchitecture and has that one's features; what it has beyond (AMX, on a virtual machine
    # that hides something else) is in the raw list only.
    host = archspec.cpu.host()
    return host.name, frozenset(host.features) | frozenset(detected_info().features)


def missing(name: str) -> tuple[str, ...]:
    """The features of target ``name`` that this CPU, as the kernel reports it, lacks."""
    features = cpu()[1]
    return tuple(f for f in requires(name) if f not in features)


def runnable() -> tuple[str, ...]:
    """The targets this CPU reports all features for, ascending."""
    return tuple(t for t in TARGETS if not missing(t))


def _trial(name: str, cc: Compiler) -> bool:
    """Compile and run a program that asks CPUID and XCR0 through the compiler's builtin; a death by signal counts as no."""
    asks = [_BUILTIN.get(f, f) for f in requires(name) if f not in _UNKNOWN_TO_BUILTIN]
    terms = " && ".join(f'__builtin_cpu_supports("{a}")' for a in asks)
    with tempfile.TemporaryDirectory(prefix="infc-probe-") as folder:
        work = Path(folder)
        (work / "probe.c").write_text(f"int main(void) {{ __builtin_cpu_init(); return {terms} ? 0 : 1; }}\n")
        done = process.run([cc.command, "-O0", "probe.c", "-o", "probe"], work, work, timeout=60)
        if done.status != 0:
            return True  # a compiler without the builtin: trust the kernel; the program checks again at its start
        try:
            return process.run([str(work / "probe")], work, work, timeout=20).status == 0
        except ToolchainError:
            return True


def native(cc: Compiler) -> str:
    """The best target this machine can run."""
    for name in reversed(runnable()):
        if name == "scalar" or _trial(name, cc):
            return name
    return "scalar"
