"""Build the runtime around fake_program.c, write its blob, and say in python what its logits must be."""

from __future__ import annotations

import hashlib
import re
import struct
import subprocess
from pathlib import Path

import cffi
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "runtime_c"
HERE = Path(__file__).resolve().parent
# The runtime without the executable's own sources: what libNAME.so holds.
SOURCES = [
    RUNTIME / f"infc_{stem}.c"
    for stem in (
        "api",
        "kv",
        "blob",
        "huge",
        "sha256",
        "memory",
        "threads",
        "quota",
        "cpu",
        "error",
        "softmax",
        "sampler",
        "text",
        "tokenizer",
        "tokenizer_open",
        "wordpiece",
        "unigram",
        "date",
        "pretok",
        "pieces",
        "scan",
        "merge",
        "chat",
    )
]
FLAGS = [
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-ffp-contract=off",
    "-fPIC",
    "-pthread",
    f"-I{RUNTIME}",
]

VOCAB, DIM, N_CTX, PAGE, N_PAGES, MAX_SEQS, MAX_ROWS, WEIGHTS = 101, 4, 40, 4, 24, 6, 8, 4096 + 12
ARCHIVE = "libruntime.a"
EINPUT, ELIMIT, EHOST, ENOMEM, EFILE = -1, -2, -3, -4, -5


def build(out: Path, *sources: Path, cc: str = "gcc", flags: tuple[str, ...] = ()) -> Path:
    """Compile and link ``sources`` (C files) with the runtime's flags; a warning is an error."""
    command = [cc, *FLAGS, "-O1", "-g1", *flags, "-o", str(out), *map(str, sources), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def archive(folder: Path) -> Path:
    """The runtime's sources compiled once; unwritten positions of a page are NaN (INFC_POISON_PAGES)."""
    folder.mkdir(exist_ok=True)
    command = ["gcc", *FLAGS, "-O1", "-g1", "-DINFC_POISON_PAGES", "-c", *map(str, SOURCES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    out = folder / ARCHIVE
    subprocess.run(["ar", "rcs", str(out), *(f"{f.stem}.o" for f in SOURCES)], check=True, cwd=folder)
    return out


def build_library(out: Path, runtime: Path, flags: tuple[str, ...] = ()) -> Path:
    """The runtime and the fake program as a shared library whose internal functions tests may call."""
    whole = f"-Wl,--whole-archive,{runtime},--no-whole-archive"
    return build(out, HERE / "fake_program.c", flags=("-shared", whole, *flags))


def declarations(*headers: str) -> str:
    """What cffi needs of the headers: comments, preprocessor lines and attributes removed."""
    text = "\n".join((RUNTIME / h).read_text() for h in headers)
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r"#ifdef __cplusplus\n.*?#endif", "", text, flags=re.S)
    text = re.sub(r"^#.*$", "", text, flags=re.M)
    return text.replace("INFC_API ", "")


def load(library: Path, extra: str = "") -> tuple[cffi.FFI, object]:
    """(ffi, lib) over infc.h plus ``extra`` C declarations."""
    ffi = cffi.FFI()
    ffi.cdef(declarations("infc.h") + extra)
    return ffi, ffi.dlopen(str(library))


def weights() -> np.ndarray:
    return (np.arange(WEIGHTS // 4, dtype=np.uint32) * np.uint32(2654435761)) ^ np.uint32(0xABCD)


def blob(sections: dict[int, bytes]) -> bytes:
    """A blob as INTERFACES and infc_blob.h describe it."""
    table, body, offset = b"", b"", 4096
    for ident, data in sections.items():
        table += struct.pack("<IIQQ", ident, 0, offset, len(data))
        padded = data + bytes(-len(data) % 4096)
        body += padded
        offset += len(padded)
    head = b"INFCBLB1" + struct.pack("<II", 1, len(sections)) + table
    return head + bytes(4096 - len(head)) + body


def trailer(data: bytes, offset: int) -> bytes:
    return b"INFCEND1" + struct.pack("<IIQQ", 1, 0, offset, len(data)) + hashlib.sha256(data).digest()


def append_blob(path: Path, data: bytes) -> Path:
    """Append blob and trailer to ``path``, as the linker step of a compile does."""
    start = path.read_bytes() if path.exists() else b""
    start += bytes(-len(start) % 4096)
    path.write_bytes(start + data + trailer(data, len(start)))
    return path


def default_blob() -> bytes:
    return blob({1: weights().tobytes(), 4: b'{"name": "fake"}'})


def mix(h: int, x: int) -> int:
    h = ((h ^ x) * 0x9E3779B1) & 0xFFFFFFFF
    return h ^ h >> 15


def expected_hash(tokens: list[int]) -> int:
    table, h = weights(), 0
    for pos, token in enumerate(tokens):
        h = mix(h, mix(mix(token, int(table[token])), pos))
    return h


def expected_logits(tokens: list[int]) -> np.ndarray:
    """Logits (VOCAB,) of the last of ``tokens``, positions 0.., as fake_program.c computes them."""
    h = expected_hash(tokens)
    return np.array([(mix(h, v) >> 16) / 4096.0 for v in range(VOCAB)], dtype=np.float32)


def expected_hidden(tokens: list[int]) -> np.ndarray:
    h = ~expected_hash(tokens) & 0xFFFFFFFF
    return np.array([(mix(h, d) >> 16) / 4096.0 for d in range(DIM)], dtype=np.float32)
