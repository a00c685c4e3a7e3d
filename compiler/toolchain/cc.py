"""Find the C compiler and learn what it can do, by trying."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from infc.errors import ToolchainError
from infc.toolchain import flags, process

_PROBE = "int main(void) { return 0; }\n"


@dataclass(frozen=True)
class Compiler:
    """A C compiler. ``command`` is what starts it, ``version`` its first line (part of the cache key and the manifest)."""

    command: str
    family: str  # "gcc" or "clang"
    version: str
    profdata: str | None = None  # clang: llvm-profdata of the same version, None if it is not installed

    @property
    def common(self) -> tuple[str, ...]:
        return flags.COMMON + (flags.GCC if self.family == "gcc" else flags.CLANG)


def find(cc: str | None, tmp: Path) -> Compiler:
    """The compiler named by ``cc``, else $CC, else gcc, else clang, else cc. Raises ToolchainError if none works."""
    named = cc or os.environ.get("CC") or None
    candidates = [named] if named else [c for c in ("gcc", "clang", "cc") if shutil.which(c)]
    if not candidates:
        raise ToolchainError("T01", "no C compiler found", "install gcc or clang, or name one with --cc")
    command = shutil.which(candidates[0])
    if command is None:
        raise ToolchainError("T01", f"cannot find the C compiler {candidates[0]!r}", "name another with --cc")
    done = process.run([command, "--version"], tmp, tmp, timeout=20)
    version = done.stdout.splitlines()[0].strip() if done.stdout.strip() else ""
    if done.status != 0 or not version:
        raise ToolchainError("T03", f"{candidates[0]!r} --version failed", process.first_error(done.stderr))
    family = "clang" if "clang" in version.lower() else "gcc"
    return Compiler(command, family, version, _profdata(command, version) if family == "clang" else None)


def _profdata(command: str, version: str) -> str | None:
    """llvm-profdata beside the compiler or with its major version: profiles of another version do not load."""
    beside = Path(os.path.realpath(command)).parent / "llvm-profdata"
    if beside.is_file():
        return str(beside)
    digits = [w.split(".")[0] for w in version.split() if w[:1].isdigit()]
    return shutil.which(f"llvm-profdata-{digits[0]}") if digits else None


def links(cc: Compiler, extra: tuple[str, ...], work: Path) -> bool:
    """Whether a one-line program compiles and links with ``extra``."""
    source, out = work / "probe.c", work / "probe"
    source.write_text(_PROBE)
    done = process.run([cc.command, *extra, source.name, "-o", out.name], work, work, timeout=60)
    return done.status == 0


def lto_flags(cc: Compiler, work: Path) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """(compile flags, link flags) of link-time optimisation that works here, or None."""
    tries: list[tuple[tuple[str, ...], tuple[str, ...]]]
    if cc.family == "gcc":
        tries = [(flags.GCC_LTO, flags.GCC_LTO_LINK)]
    else:
        lld = ("-flto=thin", "-fuse-ld=lld")
        tries = [(flags.CLANG_LTO, lld), (flags.CLANG_LTO, flags.CLANG_LTO)]
    for compile_flags, link_flags in tries:
        if links(cc, compile_flags + link_flags, work):
            return compile_flags, link_flags
    return None


def instrument_works(cc: Compiler, work: Path) -> bool:
    """Whether profiling runtime and tools are installed."""
    if cc.family == "gcc":
        return links(cc, flags.GCC_INSTRUMENT, work)
    return cc.profdata is not None and links(cc, flags.CLANG_INSTRUMENT, work)
