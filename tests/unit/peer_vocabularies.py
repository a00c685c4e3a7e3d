"""Vocabularies with test vectors, and chat templates, of the source archive of ``llama-cpp-python``: a peer's own test suite.

Downloaded once into the user's cache by pip, never into the repository. A test that needs them is skipped, with the reason in
the summary, where the index cannot be reached.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from functools import cache
from pathlib import Path

import pytest

_NAME = "llama_cpp_python-0.3.36"
_MODELS = f"{_NAME}/vendor/llama.cpp/models/"
_SEPARATOR = "\n__ggml_vocab_test__\n"
_SECONDS = 240


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "infc-tests" / _NAME


@cache
def _download() -> str:
    """Empty if the folder is there, else why not."""
    folder = _folder()
    if folder.is_dir():
        return ""
    folder.parent.mkdir(parents=True, exist_ok=True)
    project, version = _NAME.rsplit("-", 1)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", project, f"{project}=={version}", "-d", name]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return f"pip download took longer than {_SECONDS} s"
        archives = list(Path(name).glob("*.tar.gz"))
        if done.returncode or not archives:
            return (done.stderr.strip().splitlines() or ["pip downloaded nothing"])[-1]
        out = Path(name) / "out"
        with tarfile.open(archives[0]) as tar:
            for member in tar:
                if member.isfile() and member.name.startswith(_MODELS):
                    member.name = member.name.removeprefix(_MODELS)
                    tar.extract(member, out, filter="data")
        try:
            out.rename(folder)
        except OSError:  # another test process was faster
            if not folder.is_dir():
                raise
    return ""


def peer_folder() -> Path:
    """The folder of ``ggml-vocab-*.gguf`` files and ``templates/``; skips the test where it cannot be had."""
    reason = _download()
    if reason:
        pytest.skip(f"the peer's vocabularies cannot be downloaded: {reason}")
    return _folder()


def vectors(name: str) -> list[tuple[str, list[int]]]:
    """(text, ids) of ``ggml-vocab-NAME.gguf.inp`` and ``.out``."""
    base = peer_folder() / f"ggml-vocab-{name}.gguf"
    texts = base.with_suffix(".gguf.inp").read_bytes().decode().split(_SEPARATOR)
    lines = base.with_suffix(".gguf.out").read_text("ascii").splitlines()
    return [(text, [int(i) for i in line.split()]) for text, line in zip(texts, lines, strict=False)]
