"""infc bench --plot: the drawing holds every kernel and the limits; without matplotlib one sentence says what to install."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from infc.binding.artifact import Artifact
from infc.cli.main import main
from infc.errors import InputError
from infc.measure.explain import Explained, KernelTime
from infc.measure.limits import Limits
from infc.measure.profile import Profile, Workload

SVG = "{http://www.w3.org/2000/svg}"


def explained(workload: Workload, *kernels: KernelTime) -> Explained:
    times = np.array([k.seconds for k in kernels])
    profile = Profile(workload, "avx2", 1, 1, times, np.ones(len(kernels)), wall_s=float(times.sum()), position=0)
    return Explained(profile, Limits(1, 25.0, 400.0, 200.0, 100.0), kernels, 0.0)


def kernel(phase: str, intensity: float) -> KernelTime:
    return KernelTime(phase, f"k_{phase}", 1, 1e6, intensity * 1e6, 0.0, 0.0, 1e-4, "read", 50.0)


@pytest.fixture
def two() -> list[Explained]:
    one = explained(Workload(1, 0, False, 4), kernel("qkv", 2), kernel("embed", 0))
    return [one, explained(Workload(512, 64, True, 1), kernel("qkv", 500), kernel("attention", 90))]


def test_every_kernel_and_limit_is_on_it(two: list[Explained], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plot)")
    from infc.measure.plot import draw

    draw(tmp_path / "a.svg", "tiny & <small>", two)
    draw(tmp_path / "b.svg", "tiny & <small>", two)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    root = ET.parse(tmp_path / "a.svg").getroot()
    assert root.tag == SVG + "svg"
    text = " ".join("".join(t.itertext()) for t in root.iter(SVG + "text"))
    assert "tiny & <small>" in text
    for words in (
        "int8 peak 400 GMAC/s",
        "int16 peak 200 GMAC/s",
        "f32 peak 100 GMAC/s",
        "read 25.0 GB/s",
        "decode, 1 sequence: qkv, 50 % of read",
        "@ d64: attention",
    ):
        assert words in text
    marks = [g.get("id") for g in root.iter(SVG + "g") if "/k_" in (g.get("id") or "")]
    assert marks == ["qkv/k_qkv", "qkv/k_qkv", "attention/k_attention"]  # what multiplies nothing has no place between logarithms


def test_a_folder_that_is_not_there(two: list[Explained], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plot)")
    from infc.measure.plot import draw

    with pytest.raises(InputError, match="cannot write the drawing"):
        draw(tmp_path / "none" / "a.svg", "x", two)


def test_without_matplotlib(
    tiny_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["bench", str(tiny_artifact.path), "--plot", str(tmp_path / "x.svg")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "infc[plot]" in lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command(tiny_artifact: Artifact, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plot)")
    argv = [
        "bench",
        str(tiny_artifact.path),
        "-p",
        "32",
        "-n",
        "0",
        "-b",
        "0",
        "-r",
        "1",
        "--no-process",
        "--plot",
        str(tmp_path / "x.svg"),
    ]
    assert main(argv) == 0
    assert "pp32" in capfd.readouterr().out
    text = (tmp_path / "x.svg").read_text()
    assert "prompt of 32: qkv" in text
    assert "decode, 4 sequences: qkv" in text
    assert main([*argv[:-1], str(tmp_path / "none" / "x.svg")]) == 2
    assert "no such folder" in capfd.readouterr().err
