"""G01 to G11 and G61: the file itself and its header."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from infc.errors import InputError
from infc.frontend import gguf
from infc.frontend.validate import validate
from infc.limits import Limits
from tests.models.raw_gguf import Raw, u32, valid
from tests.models.refused import Spoil, assert_refused, load, spoilt, table


def header(**fields: object) -> Spoil:
    """Set fields of the raw file: magic, version, n_kv, n_tensors, head, tail."""

    def spoil(raw: Raw) -> None:
        for name, value in fields.items():
            setattr(raw, name, value)

    return spoil


def cut(n: int) -> Spoil:
    """Keep n bytes of the metadata; from the end if negative."""
    return lambda raw: raw.metadata()[:n]


def swapped(raw: Raw) -> bytes:
    data = raw.encode()
    return b"GGUF" + struct.pack(">IQQ", 3, len(raw.tensors), len(raw.kv)) + data[24:]


@table(
    ("G01", "empty", lambda r: b""),
    ("G01", "magic only", lambda r: b"GGUF"),
    ("G01", "23 bytes", lambda r: r.encode()[:23]),
    ("G02", "text", lambda r: b"#!/bin/sh\nexit 0\n" + bytes(100)),
    ("G02", "one bit", header(magic=b"GGUG")),
    ("G03", "version 0", header(version=0)),
    ("G03", "version 0, nothing else", lambda r: b"GGUF" + bytes(20)),
    ("G04", "version 1", header(version=1)),
    ("G04", "version 1, 32-bit counts", lambda r: b"GGUF" + struct.pack("<III", 1, 2, 2) + bytes(64)),
    ("G05", "version 4", header(version=4)),
    ("G05", "version 2^31", header(version=2**31 + 1)),
    ("G06", "big-endian", swapped),
    ("G06", "reversed magic", header(magic=b"FUGG")),
    ("G07", "-1 tensors", header(n_tensors=-1)),
    ("G07", "2^61 tensors", header(n_tensors=2**61)),
    ("G07", "65537 tensors", header(n_tensors=65537)),
    ("G08", "-1 keys", header(n_kv=-1)),
    ("G08", "2^60 keys", header(n_kv=2**60)),
    ("G08", "4097 keys", header(n_kv=4097)),
    ("G09", "after the header", cut(24)),
    ("G09", "in the last offset", cut(-1)),
    ("G09", "before the last offset", cut(-8)),
    ("G09", "in the last type", cut(-10)),
    ("G09", "in the last dimensions", cut(-15)),
    ("G10", "trailing byte", header(tail=b"x")),
    ("G10", "trailing page", header(tail=bytes(4096))),
    ("G10", "leading newline", header(head=b"\n")),
    ("G10", "leading byte-order mark", header(head=b"\xef\xbb\xbf")),
)
def test_refused(tmp_path: Path, code: str, spoil: Spoil) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(spoilt(spoil))
    assert_refused(path, code)


def test_valid_file_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    for version in (2, 3):
        raw = valid()
        raw.version = version
        path.write_bytes(raw.encode())
        with gguf.read(path) as model:
            config, warnings = validate(model)
            assert warnings == []
            assert (config.dim, config.head_dim, config.hidden_dim, config.vocab_size) == (32, 16, 64, 260)
            assert config.name == "raw" and config.tied_embeddings and config.ropes[0].factor == 1
            assert list(model.tensors) == [t.name.decode() for t in raw.tensors]
            for t in raw.tensors:
                assert model.data(t.name.decode()).tobytes() == t.data


def test_every_cut_is_refused(tmp_path: Path) -> None:
    """Whatever the length, a shortened file is an InputError: no other exception, no acceptance."""
    data = valid().encode()
    path = tmp_path / "m.gguf"
    for n in [*range(0, len(data) - 128, 61), *range(len(data) - 128, len(data))]:
        path.write_bytes(data[:n])
        with pytest.raises(InputError):
            load(path)


def test_padding_after_the_last_tensor_may_be_missing(tmp_path: Path) -> None:
    raw = valid()
    raw.tensors = raw.tensors[1:] + raw.tensors[:1]
    raw.layout_alignment = 64  # the last tensor, of 32 bytes, is followed by 32 of padding
    raw.set("general.alignment", u32(64))
    path = tmp_path / "m.gguf"
    path.write_bytes(raw.encode()[:-32])
    assert load(path) == []


def test_no_tensors_is_a_tensor_error(tmp_path: Path) -> None:
    raw = valid()
    raw.tensors = []
    path = tmp_path / "m.gguf"
    path.write_bytes(raw.metadata())
    assert_refused(path, "G30")


def test_not_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (
        tmp_path / "fifo",
        tmp_path / "loop",
        tmp_path / "none",
        tmp_path / "a\0b",
        Path("/dev/null"),
    ):
        assert_refused(path, "G11")


def test_symbolic_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(valid().encode())
    (tmp_path / "link").symlink_to("m.gguf")
    assert load(tmp_path / "link") == []


@pytest.mark.parametrize("start", [0, 1 << 20])
def test_sparse_file(tmp_path: Path, start: int) -> None:
    path = tmp_path / "m.gguf"
    with path.open("wb") as f:
        f.write((valid().encode() + bytes(start))[: max(start, 24)])
        f.truncate(1 << 30)
    assert_refused(path, "G11")


def test_file_that_changes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    changes = (
        lambda: path.write_bytes(path.read_bytes() + b"x"),
        lambda: os.truncate(path, 100),
        lambda: os.utime(path, ns=(1, 1)),
    )
    for change in changes:
        path.write_bytes(valid().encode())
        with gguf.read(path) as model:
            model.check_unchanged()
            view = model.data("output_norm.weight")
            assert not view.flags.writeable
            change()
            for use in (model.check_unchanged, lambda m=model: m.data("output_norm.weight")):
                with pytest.raises(InputError) as caught:
                    use()
                assert caught.value.code == "G61"


def test_views_outlive_the_model(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(valid().encode())
    model = gguf.read(path)
    view = model.data("output_norm.weight")
    model.close()
    model.close()  # twice is fine
    assert bytes(view[:4]) == struct.pack("<f", 1.0)


def test_limits_name_the_flag_that_raises_them(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(valid().encode())
    for limits, code, flag in (
        (Limits(kv=3), "G08", "--max-kv"),
        (Limits(tensors=3), "G07", "--max-tensors"),
        (Limits(metadata_bytes=100), "G29", "--max-metadata-bytes"),
        (Limits(strings=100), "G29", "--max-strings"),
        (Limits(string_bytes=4), "G29", "--max-string-bytes"),
        (Limits(key_bytes=4), "G12", "--max-key-bytes"),
        (Limits(vocab=100), "G67", "--max-vocab"),
        (Limits(token_bytes=2), "G71", "--max-token-bytes"),
    ):
        assert flag in str(assert_refused(path, code, limits))
