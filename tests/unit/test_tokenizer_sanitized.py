"""The tokenizer's C code under AddressSanitizer and UBSan, on random text and on damaged sections."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infc.tokenizer import compile_tokenizer, reduce_chat
from infc.tokenizer.vocabulary import OWN
from tests.models.tiny import CHATML
from tests.unit.tokenizer_support import CPUS, SOURCES, WARNINGS, P, host_isas, runtime_c, spm_kv, synthetic_kv, wordpiece_kv
from tests.unit.unigram_support import trained


@pytest.mark.parametrize("cc", ["gcc", "clang"])
def test_warnings_of_both_compilers(cc: str, tmp_path: Path) -> None:
    if shutil.which(cc) is None:
        pytest.skip(f"{cc} is not installed")
    for source in SOURCES:
        command = [cc, *WARNINGS, "-O2", "-c", str(runtime_c() / source), "-o", str(tmp_path / "x.o")]
        subprocess.run(command, check=True)


def _keys(kind: str) -> dict[str, Any]:
    if kind == "bert":
        return wordpiece_kv()
    if kind.startswith("t5"):
        own = ("once", "first", "split", "keep_end") if "folder" in kind else ()
        return trained("bytes" if "bytes" in kind else "t5")[1] | {"tokenizer.chat_template": CHATML} | {OWN + name: True for name in own}
    return spm_kv(5, prefix=kind == "spm") if kind.startswith("spm") else synthetic_kv(kind)


@pytest.mark.asan
@pytest.mark.parametrize(
    "kind", ["llama-bpe", "smollm", "deepseek-v3", "spm", "spm without prefix", "bert", "t5", "t5 bytes", "t5 folder", "t5 bytes folder"]
)
def test_random_text_and_damaged_sections(kind: str, tmp_path: Path) -> None:
    kv = _keys(kind)
    section, chat, program = tmp_path / "tok", tmp_path / "chat", tmp_path / "fuzz"
    section.write_bytes(compile_tokenizer(kv, len(kv[P + "tokens"])))
    dated = "{{ strftime_now('%A, %d %B %Y') }}" + CHATML  # damage then hits formats too
    chat.write_bytes(reduce_chat(kv | {"tokenizer.chat_template": dated}).encode())
    sanitize = ("-g1", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-D_POSIX_C_SOURCE=200809L")
    sources = [str(Path(__file__).with_name("tokenizer_fuzz.c")), *(str(runtime_c() / s) for s in SOURCES)]
    subprocess.run(["gcc", *WARNINGS, *sanitize, "-I", str(runtime_c()), *sources, "-o", str(program)], check=True)
    done = subprocess.run([program, section, chat, "1500", str(CPUS[host_isas()[-1]])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    opened = int(done.stdout.split()[0])
    assert opened > 200  # most damage is in tables that are only read later
