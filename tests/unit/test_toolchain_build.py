"""The toolchain on a small hand-written recipe: flags, two linked files, hardening, determinism, profiles."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from infc.emit.emit import MAIN_SOURCES, TOKENIZER_SOURCES
from infc.emit.recipe import Recipe, Source
from infc.errors import ToolchainError
from infc.toolchain import cc as cc_module
from infc.toolchain import process, train
from infc.toolchain.append import ALIGN, append_blob, read_trailer
from infc.toolchain.build import Builder, Built, SkipProfile, Train, build

MAIN_C = """#include <stdio.h>
#include "one.h"
int main(int argc, char **argv) { (void)argv; printf("%d\\n", infc_one(argc) + two(argc)); return 0; }
"""
ONE_H = """__attribute__((visibility("default"))) int infc_one(int x);
int two(int x);
"""
ONE_C = """#include "one.h"
int infc_one(int x) { return two(x) + 1; }
"""
TWO_C = """#include "one.h"
#include <immintrin.h>
int two(int x) {
    __m256i v = _mm256_set1_epi32(x);
    int out[8];
    _mm256_storeu_si256((__m256i *)(void *)out, _mm256_add_epi32(v, v));
    return out[7];
}
"""
FILES = {"infc_main.c": MAIN_C, "one.h": ONE_H, "one.c": ONE_C, "forward_avx2.c": TWO_C}


def recipe() -> Recipe:
    sources = (
        Source("infc_main.c", (), "main"),
        Source("one.c", (), "runtime"),
        Source("forward_avx2.c", ("-mavx2",), "forward"),
    )
    return Recipe("small", ("avx2",), sources, (".",), ("-std=gnu11",), ("-lm",))


def builder(folder: Path, cc: str) -> Builder:
    if shutil.which(cc) is None:
        pytest.skip(f"{cc} is not installed")
    (folder / "out" / "src").mkdir(parents=True)
    (folder / "tmp").mkdir()
    for name, text in FILES.items():
        (folder / "out" / "src" / name).write_text(text)
    return Builder(recipe(), folder, cc_module.find(cc, folder / "tmp"))


def built(folder: Path, cc: str, lto: bool, lesson: Train | None = None) -> Built:
    return build(builder(folder, cc), lto, lesson, lambda _: None)


def run_once(b: Builder, program: Path) -> tuple[str, ...]:
    subprocess.run([program], cwd=b.work, check=True, stdout=subprocess.DEVNULL, env={"LLVM_PROFILE_FILE": str(b.work / "x.profraw")})
    return ("trained",)


@pytest.mark.slow
@pytest.mark.parametrize("cc", ["gcc", "clang"])
@pytest.mark.parametrize("mode", ["plain", "lto", "pgo+lto"])
def test_program_and_library_work(tmp_path: Path, cc: str, mode: str) -> None:
    b = built(tmp_path, cc, "lto" in mode, run_once if "pgo" in mode else None)
    assert subprocess.run([b.program], capture_output=True, text=True, check=True).stdout == "5\n"
    assert ctypes.CDLL(str(b.library)).infc_one(3) == 7
    assert b.pgo == ("pgo" in mode) or any("no PGO" in n for n in b.notes)
    assert b.lto == ("lto" in mode) or any("no LTO" in n for n in b.notes)


@pytest.mark.slow
@pytest.mark.parametrize("cc", ["gcc", "clang"])
def test_two_builds_are_the_same_bytes(tmp_path: Path, cc: str) -> None:
    digests = set()
    for folder in ("a", "another-place"):
        (tmp_path / folder).mkdir()
        b = built(tmp_path / folder, cc, True, run_once)
        digests.add(tuple(hashlib.sha256(p.read_bytes()).hexdigest() for p in (b.program, b.library)))
        assert str(tmp_path).encode() not in b.program.read_bytes() + b.library.read_bytes()
    assert len(digests) == 1


def readelf(binary: Path, *flags: str) -> str:
    return subprocess.run(["readelf", "-W", *flags, binary], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf is not installed")
@pytest.mark.parametrize("cc", ["gcc", "clang"])
def test_hardening(tmp_path: Path, cc: str) -> None:
    b = built(tmp_path, cc, True)
    for binary in (b.program, b.library):
        dynamic, segments = readelf(binary, "-d"), readelf(binary, "-l")
        assert "DYN" in readelf(binary, "-h")
        assert "NOW" in dynamic
        assert "RPATH" not in dynamic
        assert "RUNPATH" not in dynamic
        assert "GNU_RELRO" in segments
        stack = next(line for line in segments.splitlines() if "GNU_STACK" in line)
        assert "RW " in stack
        assert "RWE" not in segments
    symbols = readelf(b.library, "--dyn-syms").splitlines()
    assert [s.split()[-1] for s in symbols if " GLOBAL DEFAULT" in s and "UND" not in s] == ["infc_one"]


def test_main_stays_out_of_the_library(tmp_path: Path) -> None:
    b = builder(tmp_path, "gcc")
    assert any("infc_main" in a for a in b.link_argv("../bin/x", False, ()))
    assert not any("infc_main" in a for a in b.link_argv("../bin/libx.so", True, ()))


def test_argument_lists_name_no_place(tmp_path: Path) -> None:
    b = builder(tmp_path, "gcc")
    lists = [b.compile_argv(s, ()) for s in b.recipe.sources] + [b.link_argv("../bin/x", False, ())]
    assert not any(str(tmp_path) in argument for argv in lists for argument in argv)


def test_kernels_alone_go_without_stack_protector(tmp_path: Path) -> None:
    b = builder(tmp_path, "gcc")
    without = [s.path for s in b.recipe.sources if "-fno-stack-protector" in b.compile_argv(s, ())]
    assert without == ["forward_avx2.c"]


def test_a_compiler_error_is_one_line_with_the_place(tmp_path: Path) -> None:
    b = builder(tmp_path, "gcc")
    (tmp_path / "out" / "src" / "one.c").write_text("int infc_one(int x) { return y; }\n")
    with pytest.raises(ToolchainError, match=r"compiling one\.c failed, src/one\.c:1:\d+: error:") as e:
        build(b, False, None, lambda _: None)
    assert "\n" not in str(e.value)
    assert e.value.exit_code == 4


def test_a_warning_is_an_error(tmp_path: Path) -> None:
    b = builder(tmp_path, "gcc")
    (tmp_path / "out" / "src" / "one.c").write_text('#include "one.h"\nint infc_one(int x) { int unused; return two(x); }\n')
    with pytest.raises(ToolchainError, match="unused"):
        build(b, False, None, lambda _: None)


def test_no_training_here_builds_without_profile(tmp_path: Path) -> None:
    def skip(_b: Builder, _p: Path) -> tuple[str, ...]:
        raise SkipProfile("this CPU lacks everything")

    b = built(tmp_path, "gcc", False, skip)
    assert not b.pgo
    assert b.notes == ("no PGO: this CPU lacks everything",)


def test_kernels_are_compiled_once_for_training_and_for_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    check = process.check

    def listen(argv: list[str], cwd: Path, tmp: Path, what: str) -> object:
        said.append(what)
        return check(argv, cwd, tmp, what)

    monkeypatch.setattr(process, "check", listen)
    assert built(tmp_path, "gcc", True, run_once).pgo
    assert said.count("compiling forward_avx2.c") == 1 and said.count("compiling one.c") == 2


def test_roles_name_files_of_the_runtime() -> None:
    there = {p.name for p in resources.files("infc.runtime_c").iterdir()}
    assert there >= MAIN_SOURCES | TOKENIZER_SOURCES and not MAIN_SOURCES & TOKENIZER_SOURCES


def test_a_training_run_that_leaves_nothing_is_noted(tmp_path: Path) -> None:
    b = built(tmp_path, "gcc", False, lambda _b, _p: ())
    assert not b.pgo
    assert b.notes == ("no PGO: the training run left no profile",)


def test_missing_compiler_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="--cc"):
        cc_module.find("no-such-compiler", tmp_path)


def test_blob_is_on_a_page_and_the_trailer_finds_it(tmp_path: Path) -> None:
    binary, blob = tmp_path / "binary", tmp_path / "blob"
    binary.write_bytes(b"x" * 5000)
    blob.write_bytes(bytes(range(256)) * 1000)
    digest = hashlib.sha256(blob.read_bytes()).digest()
    offset = append_blob(binary, blob, digest)
    data = binary.read_bytes()
    assert offset == 2 * ALIGN
    assert data[:5000] == b"x" * 5000
    assert data[5000:offset] == bytes(offset - 5000)
    assert data[offset:-64] == blob.read_bytes()
    assert data[-64:-56] == b"INFCEND1"
    assert read_trailer(binary) == (offset, 256000, digest)


def test_blob_is_written_in_pieces_that_may_become_huge_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary, blob = tmp_path / "binary", tmp_path / "blob"
    binary.write_bytes(b"x" * 5000)
    blob.write_bytes(hashlib.sha256(b"seed").digest() * (5 << 15))  # 5 MiB
    written: list[tuple[int, int]] = []
    pwrite = os.pwrite

    def no_shared_blocks(*_: object) -> int:
        raise OSError

    def record(fd: int, data: bytes, at: int) -> int:
        done = pwrite(fd, data[: 1 << 20] if at == 0x400000 else data, at)  # one short write: the rest must follow
        written.append((at, at + done))
        return done

    monkeypatch.setattr("fcntl.ioctl", no_shared_blocks)
    monkeypatch.setattr("os.pwrite", record)
    offset = append_blob(binary, blob, bytes(32))
    assert binary.read_bytes()[offset:-64] == blob.read_bytes()
    end = offset + (5 << 20)
    assert binary.read_bytes()[:offset] == b"x" * 5000 + bytes(offset - 5000)
    assert written == [(0, 0x200000), (0x200000, 0x400000), (0x400000, 0x500000), (0x500000, end)]


@pytest.mark.parametrize("keep", [0, 10, 63, 64, 4000])
def test_a_cut_binary_has_no_trailer(tmp_path: Path, keep: int) -> None:
    binary, blob = tmp_path / "binary", tmp_path / "blob"
    binary.write_bytes(b"x" * 100)
    blob.write_bytes(b"b" * 100)
    append_blob(binary, blob, bytes(32))
    binary.write_bytes(binary.read_bytes()[:keep])
    assert read_trailer(binary) is None


def test_lessons_fit_the_context() -> None:
    for n_ctx in (64, 256, 2048):
        for lesson in train.lessons(1, n_ctx, "avx2"):
            arguments = list(lesson.arguments)
            prompt, n = arguments[arguments.index("-p") + 1], int(arguments[arguments.index("-n") + 1])
            assert prompt.strip()
            assert len(prompt.encode()) + n <= n_ctx  # a vocabulary of bytes
            assert arguments[arguments.index("-t") + 1] == "1"


def test_lessons_reach_every_batch_class() -> None:
    given = [lesson.arguments for lesson in train.lessons(98 << 20, 2048, "avx2")]
    assert [a[a.index("-ub") + 1] if "-ub" in a else "all" for a in given] == ["all", "6", "1"]


def test_a_short_context_is_not_trained_on() -> None:
    with pytest.raises(SkipProfile, match="too short"):
        train.lessons(1, 16, "avx2")
