"""Compile a recipe's sources once and link them twice: the executable and the shared library."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from infc.emit.recipe import Recipe, Source
from infc.toolchain import flags, process
from infc.toolchain.cc import Compiler, instrument_works, lto_flags


@dataclass(frozen=True)
class Built:
    """Two linked files without weights, and what was done or left out on the way."""

    program: Path
    library: Path
    lto: bool
    pgo: bool
    notes: tuple[str, ...]


Commands = dict[str, list[str]]  # a source's path -> the argument list that makes its object


@dataclass(frozen=True)
class Builder:
    """One build. ``work`` is private; ``work/out/src`` holds the emitted C. Every path in an argument list is relative to
    ``work/out``, so no place of this machine enters the binary."""

    recipe: Recipe
    work: Path
    cc: Compiler
    jobs: int = 2

    @property
    def cwd(self) -> Path:
        return self.work / "out"

    @property
    def tmp(self) -> Path:
        return self.work / "tmp"

    def compile_argv(self, source: Source, extra: tuple[str, ...]) -> list[str]:
        """The argument list that makes one object."""
        includes = [f"-I{os.path.normpath(os.path.join('src', d))}" for d in self.recipe.include_dirs]
        kernel = flags.KERNEL if source.role == "forward" else ()
        # A fixed seed per file: names of local symbols under LTO do not depend on the run.
        seed = (f"-frandom-seed={source.path}",) if self.cc.family == "gcc" else ()
        argv = [self.cc.command, *self.cc.common, *self.recipe.c_flags, *kernel, *source.flags, *seed, *extra, *includes]
        return [*argv, "-c", f"src/{source.path}", "-o", _object(source)]

    def link_argv(self, output: str, library: bool, extra: tuple[str, ...]) -> list[str]:
        """The argument list that links all objects."""
        kind = (*flags.LIBRARY, f"-Wl,-soname,{Path(output).name}") if library else flags.PROGRAM
        objects = [_object(s) for s in self.recipe.sources if not (library and s.role == "main")]
        # -O2 again: link-time optimisation takes the level from here.
        argv = [self.cc.command, "-O2", *kind, *extra, *objects, *flags.LINK, *self.recipe.link_flags]
        return [*argv, "-o", output]

    def compile_all(self, extra: Callable[[Source], tuple[str, ...]], made: Commands | None = None) -> Commands:
        """Objects of all sources, ``jobs`` at a time, each with its ``extra`` flags; an object that the same command of ``made`` left is
        taken as it is. Returns each source's command. Raises the first ToolchainError."""
        (self.work / "obj").mkdir(exist_ok=True)
        commands = {s.path: self.compile_argv(s, extra(s)) for s in self.recipe.sources}

        def one(source: Source) -> None:
            if made is None or made.get(source.path) != commands[source.path]:
                process.check(commands[source.path], self.cwd, self.tmp, f"compiling {source.path}")

        # The largest sources first: the last job to start is then a short one.
        order = sorted(self.recipe.sources, key=lambda s: (-(self.cwd / "src" / s.path).stat().st_size, s.path))
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                for future in [pool.submit(one, s) for s in order]:
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)  # one error is enough
                raise
        return commands

    def link_program(self, output: str, extra: tuple[str, ...]) -> Path:
        """Link the executable at ``output``, relative to ``work/out``."""
        process.check(self.link_argv(output, False, extra), self.cwd, self.tmp, "linking the executable")
        return self.cwd / output

    def link_library(self, output: str, extra: tuple[str, ...]) -> Path:
        """Link the shared library at ``output``, relative to ``work/out``."""
        process.check(self.link_argv(output, True, extra), self.cwd, self.tmp, "linking the library")
        return self.cwd / output

    def link_both(self, extra: tuple[str, ...]) -> tuple[Path, Path]:
        """Link NAME and libNAME.so in ``work/bin``."""
        (self.work / "bin").mkdir(exist_ok=True)
        program, library = f"../bin/{self.recipe.name}", f"../bin/lib{self.recipe.name}.so"

        def link(output: str, shared: bool) -> None:
            what = "linking the library" if shared else "linking the executable"
            process.check(self.link_argv(output, shared, extra), self.cwd, self.tmp, what)

        with ThreadPoolExecutor(self.jobs) as pool:
            for future in [pool.submit(link, program, False), pool.submit(link, library, True)]:
                future.result()
        return self.work / "bin" / Path(program).name, self.work / "bin" / Path(library).name


def _object(source: Source) -> str:
    """Where a source's object goes, relative to ``work/out``."""
    return "../obj/" + source.object


Train = Callable[[Builder, Path], tuple[str, ...]]


def build(builder: Builder, lto: bool, train: Train | None, stage: Callable[[str], None]) -> Built:
    """Compile and link. ``train`` (None: no profile) runs the instrumented executable and returns notes; it raises
    ``SkipProfile`` when there is nothing to learn here. ``stage`` hears what happens next."""
    notes: list[str] = []
    lto_pair = lto_flags(builder.cc, builder.tmp) if lto else None
    if lto and lto_pair is None:
        notes.append(f"no LTO: {builder.cc.command} cannot link with it here")
    use: Callable[[Source], tuple[str, ...]] | None = None
    made: Commands | None = None
    if train is not None:
        try:
            use, made, more = _profile(builder, train, stage)
            notes += more
        except SkipProfile as e:
            notes.append(f"no PGO: {e}")
    stage("compile")
    compile_extra, link_extra = lto_pair or ((), ())

    def extra_of(source: Source) -> tuple[str, ...]:
        # Kernels call nothing outside their file and are called through a table, so link-time optimisation has nothing to add;
        # without it their machine code is made once and not at each of the two links.
        return (() if source.role == "forward" else compile_extra) + (use(source) if use else ())

    builder.compile_all(extra_of, made)
    stage("link")
    program, library = builder.link_both(link_extra)
    return Built(program, library, lto_pair is not None, use is not None, tuple(notes))


class SkipProfile(Exception):
    """Profile-guided optimisation does not apply; the text says why."""


def _profile(
    builder: Builder, train: Train, stage: Callable[[str], None]
) -> tuple[Callable[[Source], tuple[str, ...]], Commands, tuple[str, ...]]:
    """Instrument, train, and return the flags that use the profile, per source; the commands that made the objects; and notes."""
    cc = builder.cc
    if not instrument_works(cc, builder.tmp):
        need = "llvm-profdata and the profiling runtime" if cc.family == "clang" else "libgcov"
        raise SkipProfile(f"{need} of {cc.command} not found")
    stage("instrument")
    flag = flags.GCC_INSTRUMENT if cc.family == "gcc" else flags.CLANG_INSTRUMENT
    made = builder.compile_all(lambda source: flag if _learns(source) else ())
    program = builder.link_program("../instrumented", flag)
    stage("train")
    notes = train(builder, program)
    program.unlink()
    if cc.family == "gcc":
        found = {p.name for p in (builder.work / "obj").glob("*.gcda")}
        if not found:
            raise SkipProfile("the training run left no profile")

        def use_gcc(source: Source) -> tuple[str, ...]:
            return flags.GCC_USE if _learns(source) and Path(source.object).with_suffix(".gcda").name in found else ()

        return use_gcc, made, notes
    raw = sorted(p.name for p in builder.work.glob("*.profraw"))
    if not raw or cc.profdata is None:
        raise SkipProfile("the training run left no profile")
    process.check([cc.profdata, "merge", "-o", "profile.profdata", *raw], builder.work, builder.tmp, "merging the profile")
    use = ("-fprofile-instr-use=../profile.profdata", *flags.CLANG_USE)
    return lambda source: use if _learns(source) else (), made, notes


def _learns(source: Source) -> bool:
    """Whether a source takes part in training. The executable's own do not: they print timings, whose digits count differently
    in every run and would make every build another. Kernels gain nothing and batches lose 4 % (docs/benchmarks.md), and their objects
    then serve both builds; the tokenizer, which few prompts train, loses a fifth."""
    return source.role in ("runtime", "program")
