"""The blob: found, mapped, verified; nothing in it is believed."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import cffi
import numpy as np
import pytest

from tests.runtime import harness
from tests.runtime.harness import EFILE, blob, default_blob, expected_logits, trailer, weights
from tests.runtime.model import RuntimeFailure


def test_own_file_is_found_and_verifies(open_model, runtime) -> None:
    model = open_model()
    assert model.verify() == 0
    size = runtime.ffi.new("size_t *")
    meta = runtime.lib.infc_meta(model.handle, size)
    assert bytes(runtime.ffi.buffer(meta, size[0])) == b'{"name": "fake"}'


def test_weights_path(open_model, tmp_path: Path) -> None:
    path = harness.append_blob(tmp_path / "alone.bin", default_blob())
    model = open_model(weights_path=path, flags=2)  # NO_POPULATE
    np.testing.assert_array_equal(model.append(model.seq_open(), [7])[0], expected_logits([7]))
    assert model.verify() == 0


BLOB_STRUCTS = """
typedef struct infc_section { const uint8_t *data; uint64_t size; } infc_section;
typedef struct infc_blob {
    int fd;
    void *map;
    size_t map_bytes;
    const uint8_t *base;
    uint64_t offset, size, file_bytes;
    uint8_t sha256[32];
    infc_section section[5];
} infc_blob;
int infc_blob_open(infc_blob *b, const char *path);
void infc_blob_populate(const infc_blob *b, int part, int parts);
void infc_blob_close(infc_blob *b);
"""


def mapped_bytes(address: int) -> int:
    """Resident bytes of the mapping that holds ``address``, as this process sees them."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            low, high = (int(x, 16) for x in line.split()[0].split("-"))
            inside = low <= address < high
        elif inside and line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no such mapping")


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_parts_make_all_weights_present_and_huge_pages_possible(runtime, tmp_path: Path, parts: int) -> None:
    ffi = cffi.FFI()
    ffi.cdef(BLOB_STRUCTS)
    lib = ffi.dlopen(str(runtime.path))
    content = blob({4: b"meta", 1: np.random.default_rng(0).bytes((9 << 20) + 12345), 2: bytes(3 << 20)})
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(5 * 4096))
    harness.append_blob(path, content)
    b = ffi.new("infc_blob *")
    assert lib.infc_blob_open(b, str(path).encode()) == 0
    try:
        base, weights_at = int(ffi.cast("uintptr_t", b.base)), int(ffi.cast("uintptr_t", b.section[1].data))
        assert (base - b.offset) % (2 << 20) == 0  # address and offset in the file agree within a huge page
        assert mapped_bytes(base) < b.section[1].size // 2
        for part in range(parts):
            before = mapped_bytes(base)
            lib.infc_blob_populate(b, part, parts)
            assert mapped_bytes(base) > before or parts == 7  # more parts than huge pages: some have nothing to do
        assert mapped_bytes(base) >= b.section[1].size
        assert ffi.buffer(b.section[1].data, b.section[1].size)[:] == content[weights_at - base :][: b.section[1].size]
    finally:
        lib.infc_blob_close(b)


def test_more_parts_than_huge_pages(open_model) -> None:
    """Sixteen threads, a page of weights: one part has it, the others are empty."""
    model = open_model(threads=16)
    np.testing.assert_array_equal(model.append(model.seq_open(), [7])[0], expected_logits([7]))


def changed(at: int, value: bytes) -> Callable[[bytes], bytes]:
    """An edit of the file's bytes; ``at`` counts from the start, or from the end when negative."""

    def edit(data: bytes) -> bytes:
        start = at if at >= 0 else len(data) + at
        return data[:start] + value + data[start + len(value) :]

    return edit


def u64(x: int) -> bytes:
    return struct.pack("<Q", x & (2**64 - 1))


# The blob starts at byte 0: entry k of the section table is at 16 + 24 * k (id, reserved, offset, size).
BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda d: b"",
    "63 bytes": lambda d: d[-63:],
    "only a trailer": lambda d: d[-64:],
    "cut by one byte": lambda d: d[:-1],
    "cut in the middle": lambda d: d[: len(d) // 2],
    "a byte too many": lambda d: d + b"x",
    "trailer magic": changed(-64, b"X"),
    "trailer version": changed(-56, b"\2"),
    "blob offset unaligned": changed(-48, u64(64)),
    "a whole blob at an unaligned offset": lambda d: bytes(64) + d[:-64] + trailer(d[:-64], 64),
    "blob offset past the end": changed(-48, u64(1 << 40)),
    "blob offset wraps": changed(-48, u64(-4096)),
    "blob size past the end": lambda d: changed(-40, u64(len(d)))(d),
    "blob size wraps": changed(-40, u64(-1)),
    "blob size 0": changed(-40, u64(0)),
    "blob magic": changed(0, b"X"),
    "blob version": changed(8, b"\2"),
    "too many sections": changed(12, struct.pack("<I", 171)),
    "2^32-1 sections": changed(12, b"\xff" * 4),
    "section offset 0": changed(16 + 8, u64(0)),
    "section offset unaligned": changed(16 + 8, u64(4097)),
    "section offset past the end": changed(16 + 8, u64(1 << 30)),
    "section offset wraps": changed(16 + 8, u64(-4096)),
    "section size past the end": changed(16 + 16, u64(1 << 30)),
    "section size wraps": changed(16 + 16, u64(-1)),
    "meta past the end by one byte": lambda d: changed(16 + 24 + 16, u64(4097))(d),
    "weights of another size": changed(16 + 16, u64(4096)),
    "weights missing": changed(16, struct.pack("<I", 9)),
    "weights twice": changed(16 + 24, struct.pack("<I", 1)),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused(runtime, open_model, tmp_path: Path, case: str) -> None:
    data = default_blob()
    path = tmp_path / "broken.bin"
    path.write_bytes(BROKEN[case](data + trailer(data, 0)))
    with pytest.raises(RuntimeFailure) as failure:
        open_model(weights_path=path)
    assert failure.value.code == EFILE and str(path)[:100] in failure.value.message


def test_unknown_sections_are_ignored(open_model, tmp_path: Path) -> None:
    path = harness.append_blob(tmp_path / "new.bin", blob({77: b"later", 1: weights().tobytes()}))
    assert open_model(weights_path=path).verify() == 0


def test_not_a_file(open_model, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(RuntimeFailure) as failure:
            open_model(weights_path=path)
        assert failure.value.code == EFILE


@pytest.mark.parametrize("where", ["weights", "meta", "padding", "trailer's checksum"])
def test_verify_sees_one_flipped_bit(open_model, tmp_path: Path, where: str) -> None:
    path = harness.append_blob(tmp_path / "flip.bin", default_blob())
    data = bytearray(path.read_bytes())
    at = {
        "weights": 4096 + 77,
        "meta": len(data) - 64 - 4096 + 3,
        "padding": len(data) - 65,
        "trailer's checksum": len(data) - 1,
    }[where]
    data[at] ^= 4
    path.write_bytes(bytes(data))
    model = open_model(weights_path=path)
    with pytest.raises(RuntimeFailure, match="checksum") as failure:
        model.verify()
    assert failure.value.code == EFILE


def test_verify_of_a_file_truncated_after_open_is_an_error_and_no_signal(open_model, tmp_path: Path) -> None:
    path = harness.append_blob(tmp_path / "cut.bin", default_blob())
    model = open_model(weights_path=path)
    os.truncate(path, 4096)
    with pytest.raises(RuntimeFailure, match="changed its size"):
        model.verify()


def test_an_executable_finds_its_own_blob_whatever_argv0_says(tmp_path: Path, archive: Path) -> None:
    main = tmp_path / "main.c"
    main.write_text("""
#include <stdio.h>
#include "infc.h"
int main(void) {
    infc_model *m;
    int rc = infc_open(NULL, &m);
    if (!rc) rc = infc_verify(m);
    puts(rc ? infc_last_error() : "ok");
    infc_close(m);
    return -rc;
}
""")
    program = harness.build(tmp_path / "prog", harness.HERE / "fake_program.c", main, archive)
    bare = subprocess.run(["nonsense"], executable=program, capture_output=True, text=True, check=False)
    assert bare.returncode == -EFILE and "trailer" in bare.stdout
    whole = harness.append_blob(tmp_path / "whole", b"")  # a copy with the blob; its mode must be the program's
    shutil.copy(program, whole)
    harness.append_blob(whole, default_blob())
    done = subprocess.run(["nonsense"], executable=whole, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ok\n")
