"""The ``infc`` command: exit statuses, one-line errors, options."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infc.cli.main import main
from infc.errors import InputError
from infc.options import CompileOptions, default_name, parse_targets

Capture = pytest.CaptureFixture[str]


def refused(argv: list[str], capsys: Capture, status: int = 2) -> str:
    """Run; the one line on stderr."""
    assert main(argv) == status
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("infc: error")
    assert len(lines[0].encode()) <= 300
    return lines[0]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["compile", "x.gguf", "--target", "neon"], "target neon is not available in this version"),
        (["compile", "x.gguf", "--target", "neon"], "target neon is not available in this version"),
        (["compile", "x.gguf", "--target", "avx2,avx2"], "once"),
        (["compile", "x.gguf", "--target", "native,avx2"], "native stands alone"),
        (["compile", "x.gguf", "--target", "sse9"], "unknown target 'sse9'"),
        (["compile", "x.gguf", "--kv", "q8_0"], "q8_0 KV cache is not available in this version"),
        (["compile", "x.gguf", "--kv", "f17"], "unknown KV cache type 'f17'"),
        (["compile", "x.gguf", "--draft", "y.gguf"], "draft models are not available in this version"),
        (["compile", "x.gguf", "--stop-after", "lunch"], "unknown stage 'lunch'"),
        (["compile", "x.gguf", "--ctx", "0"], "ctx must be a number"),
        (["compile", "x.gguf", "--ctx", "many"], "--ctx"),
        (["compile", "x.gguf", "--name", "../evil"], "the name must be"),
        (["compile", "x.gguf", "--name", "src"], "artifact's own files"),
        (["compile", "x.gguf", "--nope"], "--nope"),
        (["compile"], "MODEL"),
        (["compile", "no-such-file.gguf", "--target", "scalar"], "no-such-file.gguf"),
        (["inspect", "no-such-file.gguf"], "no-such-file.gguf"),
        (["plan", "no-such-file.gguf"], "no-such-file.gguf"),
        (["run", "no-such-folder", "-p", "x"], "not an artifact"),
        (["bench", "no-such-folder"], "not an artifact"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    argv: list[str], says: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in refused(argv, capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_compiler_is_status_4(
    capsys: Capture, tiny_llama: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["compile", str(tiny_llama()), "--target", "scalar", "--cc", "no-such-compiler"]
    assert "no-such-compiler" in refused(argv, capsys, 4)
    assert list(tmp_path.iterdir()) == []


def test_a_bug_is_status_70(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("infc.cli.describe.describe_targets", broken)
    assert "internal error: RuntimeError: two\\nlines" in refused(["targets"], capsys, 70)


def test_a_bug_shows_its_place_when_asked(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise RuntimeError("oops")

    monkeypatch.setattr("infc.cli.describe.describe_targets", broken)
    monkeypatch.setenv("INFC_DEBUG", "1")
    assert main(["targets"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_a_full_disk_is_the_machines_doing(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> str:
        raise OSError(28, "No space left on device", "here")

    monkeypatch.setattr("infc.cli.describe.describe_targets", full)
    assert "no space left on device, here" in refused(["targets"], capsys, 3)


@pytest.mark.parametrize("argv", ["--help", "compile --help", "inspect -h", "--version", "targets", "doctor", "run --help"])
def test_these_succeed(argv: str, capsys: Capture) -> None:
    assert main(argv.split()) == 0
    assert capsys.readouterr().out


def test_no_command_shows_the_help(capsys: Capture) -> None:
    assert main([]) == 2
    assert "Usage" in capsys.readouterr().err


def test_every_limit_has_its_flag(capsys: Capture) -> None:
    main(["compile", "--help"])
    text = capsys.readouterr().out
    assert "--max-kv" in text
    assert "--max-vocab" in text


def test_a_limit_flag_reaches_the_reader(capsys: Capture, tiny_llama: Callable[..., Path]) -> None:
    assert "--max-kv" in refused(["inspect", str(tiny_llama()), "--max-kv", "1"], capsys)


def test_inspect_names_the_tensors(capsys: Capture, tiny_llama: Callable[..., Path]) -> None:
    assert main(["inspect", str(tiny_llama())]) == 0
    assert "token_embd.weight" in capsys.readouterr().out


def test_plan_adds_up(capsys: Capture, tiny_llama: Callable[..., Path]) -> None:
    assert main(["plan", str(tiny_llama()), "--ctx", "64", "--batch", "2", "--target", "scalar"]) == 0
    lines = capsys.readouterr().out.splitlines()
    figures = {line.split()[0]: int(line.split()[1]) for line in lines[1 : lines.index("")]}
    assert figures.pop("total") == sum(figures.values())
    assert lines[0].startswith("bytes for 2 sequences of 64 positions")


@pytest.mark.parametrize("stage", ["ir", "passes", "plan", "emit"])
def test_stop_after(stage: str, capsys: Capture, tiny_llama: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["compile", str(tiny_llama()), "--target", "scalar", "--stop-after", stage, "-o", str(out)]) == 0
    names = {p.name for p in out.iterdir()}
    assert "ir.00.frontend.txt" in names
    assert ("plan.txt" in names) == (stage in ("plan", "emit"))
    assert ("src" in names) == (stage == "emit")
    assert (len([n for n in names if n.startswith("ir.")]) > 1) == (stage != "ir")


def test_the_command_is_quick_to_import() -> None:
    """What makes a command slow to start must be imported where it is used."""
    code = "import sys, infc.cli.main; print(sorted(m for m in ('numpy', 'gguf', 'rich', 'jinja2', 'cffi') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.strip() == "[]"


def test_unknown_keyword() -> None:
    with pytest.raises(InputError, match="unknown option 'contex'"):
        CompileOptions.create(contex=5)


def test_targets_are_ordered() -> None:
    assert parse_targets("avx512,scalar") == ("scalar", "avx512")
    assert parse_targets(["avx2"]) == ("avx2",)


@pytest.mark.parametrize(
    ("file", "name"),
    [("a.gguf", "a"), ("A-b.Q4_1.GGUF", "A-b.Q4_1"), ("ü b.gguf", "__b"), ("..gguf", "model"), ("-rf.gguf", "rf"), ("src.gguf", "src_")],
)
def test_default_names_are_harmless(file: str, name: str) -> None:
    assert default_name(Path("/x") / file) == name
    CompileOptions.create(name=name)


def test_context_is_decided_from_the_model() -> None:
    assert CompileOptions.create().resolved(2048).ctx == 2048
    assert CompileOptions.create().resolved(10**6).ctx == 4096
    assert CompileOptions.create(ctx=8192).resolved(2048).kv_tokens == 4 * 8192
    with pytest.raises(InputError, match="--kv-tokens 5"):
        CompileOptions.create(ctx=8, kv_tokens=5).resolved(16)
