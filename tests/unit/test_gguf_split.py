"""Models in parts: found from any part, checked against each other (G28, G44), and the same as the one file they were cut from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from infc.errors import InputError
from infc.frontend.inputs import files_of, open_model
from infc.frontend.validate import validate
from infc.options import default_name
from infc.toolchain.append import files_sha256
from tests.models.raw_gguf import I32, U16, Raw, number, string, u32, valid

N = 3
Parts = list[Raw]


def parts() -> Parts:
    """The valid model in three parts: metadata in the first, five tensors or fewer in each."""
    whole = valid()
    made = []
    for i in range(N):
        raw = Raw(kv=list(whole.kv) if i == 0 else [], tensors=whole.tensors[5 * i : 5 * i + 5])
        raw.set("split.no", number(U16, i)).set("split.count", number(U16, N))
        made.append(raw.set("split.tensors.count", number(I32, len(whole.tensors))))
    return made


def write(folder: Path, made: Parts, drop: int | None = None) -> list[Path]:
    paths = [folder / f"m-{i + 1:05}-of-{len(made):05}.gguf" for i in range(len(made))]
    for i, (path, raw) in enumerate(zip(paths, made, strict=True)):
        if i != drop:
            path.write_bytes(raw.encode())
    return paths


@pytest.mark.parametrize("which", range(N))
def test_any_part_opens_the_model(tmp_path: Path, which: int) -> None:
    (tmp_path / "whole.gguf").write_bytes(valid().encode())
    path = write(tmp_path, parts())[which]
    with open_model(path) as split, open_model(tmp_path / "whole.gguf") as whole:
        assert validate(split) == validate(whole)
        assert (split.kv.keys(), list(split.tensors)) == (whole.kv.keys(), list(whole.tensors))
        assert all(split.data(n).tobytes() == whole.data(n).tobytes() for n in whole.tensors)
        split.check_unchanged()
    assert default_name(path) == "m"
    assert files_of(path) == files_of(tmp_path / "m-00001-of-00003.gguf") == sorted(tmp_path.glob("m-*"))


def test_a_change_of_any_part_is_seen(tmp_path: Path) -> None:
    paths = write(tmp_path, parts())
    before = files_sha256(files_of(paths[0]))
    with open_model(paths[0]) as model:
        paths[2].write_bytes(paths[2].read_bytes() + b"x")
        with pytest.raises(InputError, match="changed while it was read"):
            model.check_unchanged()
    assert files_sha256(files_of(paths[0])) != before


def _swap(made: Parts) -> None:
    made[1], made[2] = made[2], made[1]


def _twice(made: Parts) -> None:
    made[2].tensors.append(made[1].tensors[0])


SPOILT: list[tuple[str, str, Callable[[Parts], object]]] = [
    ("G28", "it holds part 3, but its name says 2", _swap),
    ("G44", "duplicate tensor blk.0.attn_v.weight", _twice),
    ("G28", "13 tensors stated, 12 found", lambda p: [r.set("split.tensors.count", number(I32, 13)) for r in p]),
    ("G28", "it states 11 tensors, the first part 12", lambda p: p[1].set("split.tensors.count", number(I32, 11))),
    ("G28", "it is of 4 parts, the first of 3", lambda p: p[2].set("split.count", number(U16, 4))),
    ("G28", "needs files named", lambda p: [r.set("split.count", number(U16, 4)) for r in p]),
    ("G28", "part 3 of 3, counted from 0", lambda p: p[2].set("split.no", number(U16, 3))),
    ("G28", "it is no part of a model", lambda p: p[1].drop("split.count")),
    ("G28", "must be a number, not str", lambda p: p[1].set("split.no", string("1"))),
    ("G28", "at most 4096", lambda p: p[0].set("split.count", number(U16, 5000))),
    ("G30", "layers stated", lambda p: p[0].set("llama.block_count", u32(2))),
]


@pytest.mark.parametrize(("code", "says", "spoil"), SPOILT, ids=[says for _, says, _ in SPOILT])
def test_refused(tmp_path: Path, code: str, says: str, spoil: Callable[[Parts], object]) -> None:
    made = parts()
    spoil(made)
    paths = write(tmp_path, made)
    with pytest.raises(InputError) as caught, open_model(paths[0]) as model:
        validate(model)
    assert caught.value.code == code and says in str(caught.value)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 294


@pytest.mark.parametrize("missing", range(N))
def test_a_missing_part_is_named(tmp_path: Path, missing: int) -> None:
    paths = write(tmp_path, parts(), drop=missing)
    with pytest.raises(InputError) as caught:
        open_model(paths[(missing + 1) % N])
    assert f"part {missing + 1} of 3 is missing, {paths[missing].name}" in str(caught.value)


def test_a_part_under_another_name(tmp_path: Path) -> None:
    path = write(tmp_path, parts())[0].rename(tmp_path / "m.gguf")
    with pytest.raises(InputError, match="a model of 3 parts needs files named -0000I-of-00003.gguf"):
        open_model(path)


def test_a_whole_file_may_be_named_like_a_part(tmp_path: Path) -> None:
    path = tmp_path / "m-00001-of-00009.gguf"
    path.write_bytes(valid().encode())
    with open_model(path) as model:
        validate(model)
    assert files_of(path) == [path]
