"""A folder appears whole or not at all, and what killed compiles leave is swept."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infc.errors import HostError, InputError
from infc.toolchain import publish

WRITER = """
import sys, time
from pathlib import Path
from infc.toolchain import publish
out = Path(sys.argv[1])
print("ready", flush=True)
for version in range(10**6):
    with publish.workspace(out) as work:
        staged = work / "out"
        staged.mkdir()
        for i in range(8):
            (staged / f"part{i}").write_text(str(version))
        (staged / "manifest.json").write_text(str(version))
        publish.publish(staged, out)
"""


def stage(out: Path, text: str) -> None:
    with publish.workspace(out) as work:
        staged = work / "out"
        staged.mkdir()
        (staged / "manifest.json").write_text(text)
        publish.publish(staged, out)


def test_new_and_replaced(tmp_path: Path) -> None:
    out = tmp_path / "build" / "x"
    stage(out, "one")
    assert (out / "manifest.json").read_text() == "one"
    stage(out, "two")
    assert (out / "manifest.json").read_text() == "two"
    assert [p.name for p in out.parent.iterdir()] == ["x"]


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    stage(tmp_path / "x", "one")
    assert (tmp_path / "x" / "manifest.json").read_text() == "one"


def test_without_renameat2_two_renames_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(tmp_path / "x", "one")
    monkeypatch.setattr(publish.ctypes, "CDLL", lambda *_a, **_k: object())
    stage(tmp_path / "x", "two")
    assert (tmp_path / "x" / "manifest.json").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_failure_leaves_the_old_one_and_no_workspace(tmp_path: Path) -> None:
    out = tmp_path / "x"
    stage(out, "one")
    with pytest.raises(RuntimeError), publish.workspace(out) as work:
        (work / "out").mkdir()
        raise RuntimeError
    assert (out / "manifest.json").read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_killed_at_random_instants_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "x"
    rng = random.Random(4)
    for _ in range(6):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(out)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.15))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        if out.exists():
            texts = {p.read_text() for p in out.iterdir()}
            assert len(list(out.iterdir())) == 9
            assert len(texts) == 1
    stage(out, "last")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_living_workspace_is_not_swept(tmp_path: Path) -> None:
    with publish.workspace(tmp_path / "x") as mine:
        (mine / "keep").touch()
        publish.sweep(tmp_path)
        assert (mine / "keep").exists()


def test_a_dead_workspace_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".infc-build-dead" / "out").mkdir(parents=True)
    publish.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_workspace_swept_before_its_lock_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = publish.fcntl.flock

    def late(fd: int, how: int) -> None:
        real(fd, how)
        if not calls:
            calls.append(1)
            for folder in tmp_path.iterdir():
                folder.rmdir()

    monkeypatch.setattr(publish.fcntl, "flock", late)
    with publish.workspace(tmp_path / "x") as work:
        assert work.is_dir()
    assert calls


def test_other_folders_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    publish.check_destination(folder, "manifest.json")
    (folder / "a.jpg").touch()
    with pytest.raises(InputError, match="holds other files"):
        publish.check_destination(folder, "manifest.json")
    (folder / "manifest.json").touch()
    publish.check_destination(folder, "manifest.json")
    with pytest.raises(InputError, match="not a folder"):
        publish.check_destination(folder / "a.jpg", "manifest.json")


def test_a_parent_that_is_a_file_is_the_hosts_refusal(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="cannot write"), publish.workspace(tmp_path / "file" / "x"):
        pass
