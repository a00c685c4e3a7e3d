"""What the run's tests share must be what each would have made itself."""

from __future__ import annotations

import os
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from infc.errors import ToolchainError
from infc.toolchain import process
from tests import shared


def test_every_file_that_the_compiler_reads_is_in_the_key() -> None:
    runtime = Path(str(resources.files("infc.runtime_c")))
    sources = sorted(runtime.glob("*.c"))
    said = subprocess.run(["gcc", "-std=gnu11", "-MM", *(s.name for s in sources)], cwd=runtime, capture_output=True, text=True, check=True)
    rules = said.stdout.replace("\\\n", " ").splitlines()
    assert len(rules) == len(sources) > 30
    for source, rule in zip(sources, rules, strict=True):
        read = {os.path.normpath(name) for name in rule.partition(":")[2].split()}
        assert source.name in read <= set(shared.texts(source, [runtime]))


def test_an_object_serves_until_a_text_or_an_argument_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "src" / "deep").mkdir(parents=True)
    files = {"a.c": '#include "b.h"\nint f(void) { return X; }\n', "b.h": '# include "deep/c.h"\n', "deep/c.h": '#include "../d.h"\n'}
    for name, text in (files | {"d.h": "#define X 1\n", "other.h": "\n"}).items():
        (tmp_path / "src" / name).write_text(text)
    runs: list[str] = []
    run = process.run
    monkeypatch.setattr(process, "run", lambda argv, *rest: runs.append(argv[0]) or run(argv, *rest))

    def compiled(*extra: str) -> tuple[int, bytes]:
        """How often the compiler ran, and the object."""
        runs.clear()
        with shared.objects(tmp_path / "store"), shared.objects(tmp_path / "unused"):
            process.check(["gcc", "-O1", *extra, "-Isrc", "-c", "src/a.c", "-o", "a.o"], tmp_path, tmp_path, "compiling")
        return len(runs), (tmp_path / "a.o").read_bytes()

    n, first = compiled()
    assert n == 1 and compiled() == (0, first)
    (tmp_path / "src" / "other.h").write_text("#define X 5\n")
    assert compiled() == (0, first)
    (tmp_path / "src" / "d.h").write_text("#define X 2\n")
    n, second = compiled()
    assert n == 1 and second != first
    assert compiled("-DY")[0] == 1 and compiled("-DY")[0] == 0
    assert compiled("-fprofile-use")[0] == compiled("-fprofile-use")[0] == 1  # of what the profile holds the key knows nothing
    (tmp_path / "src" / "d.h").write_text("#define X )\n")
    for _ in range(2):
        with pytest.raises(ToolchainError, match="compiling failed"):
            compiled()
    (tmp_path / "src" / "d.h").write_text("#define X 1\n")
    assert compiled() == (0, first)
