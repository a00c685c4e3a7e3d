"""``infc compile`` from a model file to an artifact: what is written, twice the same, cached, interrupted, refused."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import infc
from infc.binding.artifact import Artifact
from infc.cli.main import main
from infc.errors import HostError, InputError, ToolchainError
from infc.progress import Silent
from infc.toolchain import host
from infc.toolchain.append import file_sha256, read_trailer
from tests.e2e.test_tiny_bits import MODELS

Tiny = Callable[..., Path]
ONE = MODELS["Q4_1"]  # where kernels are not the question: one format, a third of the mixed model's C, whose objects other tests need too


class Stages(Silent):
    """Remembers which stages ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def stage(self, name: str) -> None:
        self.names.append(name)


def digests(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): file_sha256(p).hex() for p in sorted(folder.rglob("*")) if p.is_file()}


def output(artifact: Artifact, *arguments: str) -> str:
    return subprocess.run([artifact.program, *arguments], capture_output=True, check=True).stdout.decode("utf-8", "replace")


def test_what_is_written(tiny_artifact: Artifact, tiny_llama: Tiny) -> None:
    names = {p.name for p in tiny_artifact.path.iterdir()}
    assert names == {"tiny", "libtiny.so", "tiny.h", "manifest.json", "src"}
    assert os.access(tiny_artifact.program, os.X_OK)
    found = [read_trailer(p) for p in (tiny_artifact.program, tiny_artifact.library)]
    assert all(found)
    manifest = tiny_artifact.manifest
    assert manifest["model"]["sha256"] == hashlib.sha256(tiny_llama().read_bytes()).hexdigest()
    for trailer, binary in zip(found, (tiny_artifact.program, tiny_artifact.library), strict=True):
        assert trailer is not None
        offset, size, digest = trailer
        assert offset % 4096 == 0
        assert hashlib.sha256(binary.read_bytes()[offset : offset + size]).digest() == digest
        assert digest.hex() == manifest["weights"]["sha256"]
    assert ctypes.CDLL(str(tiny_artifact.library)).infc_abi_version() == 1


def test_nothing_names_this_machine(tiny_artifact: Artifact) -> None:
    here = [str(tiny_artifact.path.parent).encode(), str(Path(infc.__file__).resolve().parent).encode()]
    for file in tiny_artifact.path.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert not [h for h in here if h in data], file


@pytest.mark.parametrize("cc", ["gcc", pytest.param("clang", marks=pytest.mark.clang)])
def test_two_builds_are_the_same_bytes_and_logits(
    cc: str,
    tiny_llama: Tiny,
    compiled: Callable[..., Artifact],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """Profile and LTO, built twice in different places: one artifact, and the bits of the plain gcc build. The first compiles every source;
    objects that no profile goes into the second takes from other artifacts of this run, which were built elsewhere."""
    if shutil.which(cc) is None:
        pytest.skip(f"{cc} is not installed")
    monkeypatch.chdir(tmp_path)
    plain = compiled(tiny_llama(**ONE), name="plain", cc="gcc", lto=False)
    compiled(tiny_llama(**ONE), name="m", cc=cc, lto=False)  # whose kernels are the second's
    infc.compile(tiny_llama(**ONE), name="m", out=tmp_path / "one", cc=cc, cache=False)
    request.getfixturevalue("known_objects")
    infc.compile(tiny_llama(**ONE), name="m", out="two", cc=cc, cache=False)  # a relative place
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    built = Artifact.open(tmp_path / "one")
    # clang's profiling runtime and llvm-profdata are packages of their own; without them the artifact says so.
    assert built.manifest["toolchain"]["pgo"] or (cc == "clang" and "no PGO" in str(built.manifest["notes"]))
    assert same_logits(built, plain)


@pytest.mark.clang
@pytest.mark.skipif(shutil.which("clang") is None, reason="clang is not installed")
def test_clang_without_profile_gives_the_same_logits(tiny_llama: Tiny, compiled: Callable[..., Artifact]) -> None:
    built = compiled(tiny_llama(**ONE), name="m", cc="clang", lto=False)
    assert same_logits(built, compiled(tiny_llama(**ONE), name="plain", cc="gcc", lto=False))


def same_logits(a: Artifact, b: Artifact) -> bool:
    with a.load(threads=1) as first, b.load(threads=2) as second:
        ids = first.tokenize("once upon a time there was a cat and 12 of 345 things, naïve café")
        return first.logits(ids).tobytes() == second.logits(ids).tobytes()


def test_one_program_for_all_targets(tiny_llama: Tiny, compiled: Callable[..., Artifact]) -> None:
    """A fat program holds one weight section and gives the same bits whichever part runs."""
    artifact = compiled(tiny_llama(**ONE), name="fat", target="scalar,avx2,avx512,amx", lto=False)
    seen = set()
    for isa in host.runnable():
        with artifact.load(threads=2, isa=isa) as llm:
            assert llm.info.isa == isa
            seen.add(llm.logits(llm.tokenize("once upon a time")).tobytes())
    assert len(seen) == 1
    with artifact.load() as best:
        assert best.info.isa == host.runnable()[-1]


def test_a_target_this_cpu_lacks_builds_and_refuses(tiny_llama: Tiny, compiled: Callable[..., Artifact]) -> None:
    lacking = [t for t in ("avx2", "avx512", "amx") if host.missing(t)]
    if not lacking:
        pytest.skip("this CPU runs every target")
    artifact = compiled(tiny_llama(**ONE), name="m", target=lacking[-1], pgo=True)
    assert not artifact.manifest["toolchain"]["pgo"]
    assert any(n.startswith("no PGO: this CPU") for n in artifact.manifest["notes"])
    done = subprocess.run([artifact.program, "-p", "x", "-n", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    with pytest.raises(HostError):
        artifact.load()


@pytest.mark.usefixtures("known_objects")
def test_the_second_compile_comes_from_the_cache(tiny_llama: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFC_CACHE", str(tmp_path / "cache"))
    options = {"name": "cached", "pgo": False, "lto": False}
    first, second, third, fourth = Stages(), Stages(), Stages(), Stages()
    infc.compile(tiny_llama(**ONE), out=tmp_path / "a", reporter=first, **options)
    infc.compile(tiny_llama(**ONE), out=tmp_path / "b", reporter=second, **options)
    infc.compile(tiny_llama(**ONE), out=tmp_path / "a", reporter=third, **options)
    assert "compile" in first.names
    assert second.names == third.names == ["cache"]
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert first.notes == second.notes
    assert output(Artifact.open(tmp_path / "b"), "info")

    (entry,) = (tmp_path / "cache").iterdir()
    blob = entry / "files" / "weights.blob"
    data = bytearray(blob.read_bytes())
    data[5000] ^= 1
    blob.write_bytes(data)
    infc.compile(tiny_llama(**ONE), out=tmp_path / "c", reporter=fourth, **options)
    assert "compile" in fourth.names  # damage is noticed, and the artifact is built again
    assert digests(tmp_path / "a") == digests(tmp_path / "c")


def test_killed_it_leaves_nothing_or_a_whole_one(tiny_llama: Tiny, tiny_artifact: Artifact, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "infc.cli.main", "compile", str(tiny_llama(**ONE)), "-o", str(out), "--name", "k"]
    command += ["--no-pgo", "--no-cache"]
    rng = random.Random(2)
    for wait in (0.3, 1.0, 2.0, 5.0, 8.0):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(wait * rng.uniform(0.8, 1.2))
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        if out.exists():
            assert "match" in output(Artifact.open(out), "verify")
    infc.compile(tiny_llama(), out=out, name="tiny", pgo=False)  # the fixture's artifact, from the cache
    assert digests(out) == digests(tiny_artifact.path)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_hostile_strings_change_no_byte_of_c(tmp_path: Path, tiny_llama: Tiny) -> None:
    """E01: strings of the model, replaced by others of the same length, leave sources and argument lists as they are."""
    good = tiny_llama(name="tiny llama")
    evil = tiny_llama(name='"*/%n$(x)\\')
    for name, path in (("good", good), ("evil", evil)):
        infc.compile(path, out=tmp_path / name, name="m", stop_after="emit", target="scalar,avx2,avx512,amx")
    assert digests(tmp_path / "good" / "src") == digests(tmp_path / "evil" / "src")


def test_a_refused_model_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_llama: Tiny) -> None:
    data = tiny_llama().read_bytes()
    (tmp_path / "cut.gguf").write_bytes(data[:-1])
    folder = tmp_path / "here"
    folder.mkdir()
    assert main(["compile", str(tmp_path / "cut.gguf"), "-o", str(folder / "out")]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error[" in line]
    assert len(errors) == 1
    assert list(folder.iterdir()) == []


def test_a_failing_compiler_writes_nothing(tmp_path: Path, tiny_llama: Tiny) -> None:
    broken = tmp_path / "gcc-broken"
    broken.write_text('#!/bin/sh\ncase "$*" in *--version*) echo "gcc 1.0";; *) echo "x.c:1: error: no" >&2; exit 1;; esac\n')
    broken.chmod(0o755)
    folder = tmp_path / "here"
    folder.mkdir()
    with pytest.raises(ToolchainError, match="error: no"):
        infc.compile(tiny_llama(), out=folder / "out", cc=str(broken), target="scalar", cache=False)
    assert list(folder.iterdir()) == []


def test_other_peoples_folders_are_left_alone(tmp_path: Path, tiny_llama: Tiny) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="holds other files"):
        infc.compile(tiny_llama(), out=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_disk_without_room_is_refused_before_work(tmp_path: Path, tiny_llama: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    with pytest.raises(HostError, match="MiB free"):
        infc.compile(tiny_llama(), out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_run_and_bench_become_the_executable(tiny_artifact: Artifact) -> None:
    command = [sys.executable, "-m", "infc.cli.main"]
    arguments = ["-p", "the cat", "-n", "5", "--temp", "0"]
    through = subprocess.run([*command, "run", str(tiny_artifact.path), *arguments], capture_output=True, check=True)
    assert through.stdout.decode("utf-8", "replace") == output(tiny_artifact, *arguments)
    argv = [*command, "bench", str(tiny_artifact.path), "-p", "8", "-n", "4", "-b", "1", "-r", "1", "-o", "json"]
    rows = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    assert {row["test"] for row in rows} >= {"pp8", "tg4"}


def test_the_emitted_makefile_builds(tiny_llama: Tiny, compiled: Callable[..., Artifact], tmp_path: Path) -> None:
    shutil.copytree(compiled(tiny_llama(**ONE), name="plain", cc="gcc", lto=False).path / "src", tmp_path / "src")
    subprocess.run(["make", "-s", "-j2", "-C", str(tmp_path / "src")], check=True)
    done = subprocess.run([tmp_path / "src" / "plain", "-p", "x"], capture_output=True, text=True, check=False)
    assert done.returncode == 3  # it has no weights yet, and says so
    assert len(done.stderr.splitlines()) == 1
