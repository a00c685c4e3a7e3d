"""Every program in examples/ runs against a compiled model and says what the model says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from infc.binding.artifact import Artifact
from infc.binding.model import Model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROMPT = "the cat sat on"


@pytest.fixture(scope="module")
def model(tiny_artifact: Artifact) -> Iterator[Model]:
    with tiny_artifact.load(threads=1) as llm:
        yield llm


def python(name: str, artifact: Artifact, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "python" / name), str(artifact.path), *arguments]
    return subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONUTF8": "1"})


def test_every_example_is_tested() -> None:
    found = {p.name for kind in ("c", "python") for p in (EXAMPLES / kind).iterdir() if p.suffix in (".c", ".py")}
    assert found == {"generate.c", "stream.py", "batch.py", "logits.py"}


@pytest.mark.parametrize("cc", ["gcc", pytest.param("clang", marks=pytest.mark.clang)])
def test_c(cc: str, tiny_artifact: Artifact, model: Model, tmp_path: Path) -> None:
    if shutil.which(cc) is None:
        pytest.skip(f"{cc} is not installed")
    out = tmp_path / "generate"
    make = ["make", "-C", str(EXAMPLES / "c"), f"ARTIFACT={tiny_artifact.path.resolve()}", f"OUT={out}", f"CC={cc}"]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run([str(out), PROMPT], capture_output=True, check=True)
    want = model.generate(model.tokenize(PROMPT, special=False), max_tokens=48, temperature=0)
    assert done.stdout.decode("utf-8", "replace") == want + "\n"
    assert done.stderr == b""


def test_c_without_its_model(tiny_artifact: Artifact, tmp_path: Path) -> None:
    """A library whose weights are gone is an error with a sentence, not a crash."""
    library = tmp_path / tiny_artifact.library.name
    library.write_bytes(tiny_artifact.library.read_bytes()[:-64])
    (tmp_path / f"{tiny_artifact.name}.h").write_bytes((tiny_artifact.path / f"{tiny_artifact.name}.h").read_bytes())
    make = ["make", "-C", str(EXAMPLES / "c"), f"ARTIFACT={tmp_path}", f"OUT={tmp_path / 'generate'}"]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run([str(tmp_path / "generate"), PROMPT], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"open: ")


def test_stream(tiny_artifact: Artifact, model: Model) -> None:
    done = python("stream.py", tiny_artifact, PROMPT)
    want = model.generate(PROMPT, max_tokens=48, temperature=0.8, seed=1)
    assert done.stdout.decode() == want
    assert done.stderr.startswith(b"\n[log probability -")


def test_batch(tiny_artifact: Artifact, model: Model) -> None:
    lines = python("batch.py", tiny_artifact).stdout.decode().splitlines()
    assert len(lines) == 4
    assert lines[1] == f"'Water boils at' -> {model.generate('Water boils at', max_tokens=16, temperature=0)!r}"


def test_logits(tiny_artifact: Artifact, model: Model) -> None:
    lines = python("logits.py", tiny_artifact, PROMPT).stdout.decode().splitlines()
    ids = model.tokenize(PROMPT)
    assert len(lines) == 1 + len(ids)
    row = model.logits(ids)[-1].astype(np.float64)
    best = float(row.max() - (row.max() + np.log(np.exp(row - row.max()).sum())))
    assert f"{best:7.2f}  {model.detokenize([int(row.argmax())])!r}" in lines[-1]
