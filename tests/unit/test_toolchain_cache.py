"""The artifact cache: content names an entry, damage is noticed, size is bounded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infc.toolchain.cache import Cache, default_root, sources_digest

GB = 10**9


def files(folder: Path, text: str = "x") -> Path:
    (folder / "src").mkdir(parents=True)
    (folder / "NAME").write_text(text * 1000)
    (folder / "NAME").chmod(0o755)
    (folder / "src" / "a.c").write_text("int a;")
    return folder


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", {"a": 1})
    entry = cache.entry(5, "ab" * 32)
    assert not cache.may_hold(5)
    cache.store(entry, files(tmp_path / "in"), GB)
    assert cache.may_hold(5)
    assert not cache.may_hold(6)
    assert cache.load(entry, tmp_path / "out")
    assert (tmp_path / "out" / "NAME").read_text() == "x" * 1000
    assert os.access(tmp_path / "out" / "NAME", os.X_OK)
    assert (tmp_path / "out" / "src" / "a.c").read_text() == "int a;"


def test_every_choice_makes_another_key(tmp_path: Path) -> None:
    keys = {Cache(tmp_path, c).key for c in ({"a": 1}, {"a": 2}, {"b": 1}, {"a": None}, {"a": [1]})}
    assert len(keys) == 5


@pytest.mark.parametrize("name", ["NAME", "src/a.c", "../index.json"])
@pytest.mark.parametrize("how", ["cut", "flip", "gone"])
def test_damage_is_a_miss_and_removed(tmp_path: Path, name: str, how: str) -> None:
    cache = Cache(tmp_path / "cache", {})
    entry = cache.entry(5, "ab" * 32)
    cache.store(entry, files(tmp_path / "in"), GB)
    path = entry / "files" / name
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if how == "cut" else bytes([data[0] ^ 1]) + data[1:])
    assert not cache.load(entry, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    cache.store(entry, tmp_path / "in", GB)
    assert cache.load(entry, tmp_path / "out")


def test_the_oldest_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", {})
    entries = [cache.entry(i, f"{i:02}" * 32) for i in range(4)]
    for i, entry in enumerate(entries):
        cache.store(entry, files(tmp_path / f"in{i}"), GB)
        os.utime(entry, (1000 + i, 1000 + i))
    assert cache.load(entries[0], tmp_path / "out")  # used now, so the youngest
    size = sum(p.stat().st_size for p in entries[0].rglob("*") if p.is_file())
    cache.prune(2 * size + 10, keep=entries[0])
    assert [e.exists() for e in entries] == [True, False, False, True]


def test_an_entry_larger_than_the_bound_is_kept_alone(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", {})
    first, second = cache.entry(1, "aa" * 32), cache.entry(2, "bb" * 32)
    cache.store(first, files(tmp_path / "in1"), GB)
    os.utime(first, (1, 1))
    cache.store(second, files(tmp_path / "in2"), 1)
    assert not first.exists()
    assert second.exists()


def test_an_unwritable_cache_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file" / "cache", {})
    cache.store(cache.entry(1, "aa" * 32), files(tmp_path / "in"), GB)
    assert not cache.may_hold(1)


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_the_variable_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INFC_CACHE", str(tmp_path))
    assert default_root() == tmp_path
    monkeypatch.delenv("INFC_CACHE")
    assert str(default_root()).endswith("/infc")
    monkeypatch.setattr(Path, "home", no_home)
    assert default_root() is None


def test_sources_digest_is_stable() -> None:
    assert sources_digest() == sources_digest()
    assert len(sources_digest()) == 64
