"""infc explain: the probes' times beside the costs, on a compiled model. Never how fast."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infc.binding.artifact import Artifact
from infc.cli.main import main
from infc.errors import InputError, LimitError
from infc.measure.explain import Explainer, explain_profile, explainer, read_phases
from infc.measure.limits import Limits
from infc.measure.profile import Profile, Workload
from tests import shared

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def tiny(tiny_artifact: Artifact, objects_folder: Path) -> Iterator[Explainer]:
    with ExitStack() as stack:
        with shared.objects(objects_folder):
            e = stack.enter_context(explainer(tiny_artifact, 2, None, None))
        yield e


def sums(explained: Any) -> tuple[float, float]:
    return sum(k.bytes for k in explained.kernels), sum(k.macs for k in explained.kernels)


@pytest.mark.slow
def test_a_decode_step_adds_up(tiny: Explainer) -> None:
    workload = Workload(rows=1, depth=5, prompt=False, steps=4)
    e = tiny.explain(workload)
    with tiny.artifact.load(threads=1) as llm:
        meta, info = llm.meta, llm.info
    embed = next(p for p in tiny.phases if p["phase"] == "embed")
    position = info.kv_bytes / (info.n_pages * info.page_size)
    held = e.profile.position + 1  # the row's own
    assert 5 + 2 <= e.profile.position <= 5 + 2 + 3  # two steps warmed up, and the middle two of four count
    size, macs = sums(e)
    assert size == pytest.approx(meta["stream_bytes"] + embed["row_bytes"] + held * position)
    attention = 2 * info.n_layers * info.n_heads * info.head_dim * held
    assert macs == pytest.approx(sum(meta[k] for k in ("int_macs", "f32_macs", "head_int_macs", "head_f32_macs")) + attention)
    assert sum(k.calls for k in e.kernels) == sum(p["calls"] for p in tiny.phases)
    assert all(k.seconds > 0 for k in e.kernels)
    assert 0 < sum(k.seconds for k in e.kernels) < 1.02 * e.step_s  # intervals of one clock: they follow one another
    assert e.profile.threads == 2
    assert {k.kernel.split("_")[0] for k in e.kernels if k.phase in ("qkv", "gate_up", "ffn_down")} <= {"gemv", "gemv2", "gemv3"}


@pytest.mark.slow
def test_a_prompt_reads_the_weights_once_a_chunk(tiny: Explainer) -> None:
    e = tiny.explain(Workload(rows=80, depth=0, prompt=True, steps=2))
    with tiny.artifact.load(threads=1) as llm:
        meta, info = llm.meta, llm.info
    embed = next(p for p in tiny.phases if p["phase"] == "embed")
    position = info.kv_bytes / (info.n_pages * info.page_size)
    size, macs = sums(e)
    assert size == pytest.approx(meta["stream_bytes"] + 80 * embed["row_bytes"] + 80 * position)
    attention = 2 * info.n_heads * info.head_dim * ((info.n_layers - 1) * 80 * 81 / 2 + 80)  # in the last layer, the last row's
    rows = 80 * (meta["int_macs"] + meta["f32_macs"]) + meta["head_int_macs"] + meta["head_f32_macs"]
    assert macs == pytest.approx(rows + attention)
    used = {phase: {k.kernel.split("_")[0].rstrip("23") for k in e.kernels if k.phase == phase} for phase in ("qkv", "gate_up", "ffn_down")}
    assert used["qkv"] <= {"gemm", "tiles"}
    assert used["gate_up"] | used["ffn_down"] <= {"gemm", "tiles", "gemv"}  # a kind of layer that only the last is takes one row


@pytest.mark.slow
def test_what_does_not_fit_is_refused(tiny: Explainer) -> None:
    n_ctx = tiny.probed.info.n_ctx
    for workload in (Workload(1, n_ctx, False, 1), Workload(n_ctx + 1, 0, True, 1), Workload(1000, 0, False, 1)):
        with pytest.raises(LimitError, match="do not fit"):
            tiny.explain(workload)


@pytest.mark.slow
@pytest.mark.usefixtures("known_objects")  # those with probes, if the fixture has made them
def test_the_command(tiny_artifact: Artifact, capsys: Capture) -> None:
    assert main(["explain", str(tiny_artifact.path), "-n", "2", "-b", "2"]) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)  # no terminal here
    assert facts["artifact"] == "tiny"
    assert facts["workload"] == {"rows": 2, "depth": 0, "prompt": False, "steps": 2}
    assert set(facts["limits"]) == {"threads", "read_gb_s", "int8_gmac_s", "int16_gmac_s", "f32_gmac_s"}
    assert "measure" in err


@pytest.mark.slow
def test_the_table(tiny: Explainer, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from infc.cli.explain import show

    monkeypatch.setenv("COLUMNS", "200")
    show(tiny.explain(Workload(rows=1, depth=0, prompt=False, steps=1)))
    text = capsys.readouterr().out
    assert "% of limit" in text
    assert "attention_q16" in text
    assert "outside the kernels" in text


LIMITS = Limits(threads=1, read_gb_s=10.0, int8_gmac_s=100.0, int16_gmac_s=50.0, f32_gmac_s=10.0)
KV = {"kv_bytes": 0, "kv_int16_macs": 0, "kv_f32_macs": 0, "window": 0}
PHASE = KV | {"row_bytes": 0, "int_macs": 0, "f32_macs": 0, "weight_bytes": 0, "terms": 1, "wanted_calls": 0}


def test_shares_of_the_limits() -> None:
    """By hand: 1 MB at 10 GB/s is 100 us; 10 MMAC at 100 GMAC/s and 1 at 10 are 100 us each."""
    phases = [
        PHASE | {"probe": 0, "phase": "a", "calls": 2, "weight_bytes": 500000, "int_macs": 10, "kernels": [{"name": "ka", "rows": None}]},
        PHASE | {"probe": 1, "phase": "b", "calls": 1, "int_macs": 10**7, "f32_macs": 10**6, "kernels": [
            {"name": "one", "rows": [1, 1]}, {"name": "some", "rows": [2, 15]}, {"name": "many", "rows": [16, 1 << 30]}]},
        PHASE | {"probe": 2, "phase": "a", "calls": 1, "weight_bytes": 0, "kernels": [{"name": "ka", "rows": None}]},
        PHASE | {"probe": 3, "phase": "head", "calls": 1, "terms": 2, "wanted_calls": 1, "kernels": [
            {"name": "one", "rows": [1, 1]}, {"name": "some", "rows": [2, 15]}]},
    ]  # fmt: skip
    seconds, marks = np.array([1.5e-4, 4e-4, 5e-5, 5e-5]), np.array([2.0, 1.0, 1.0, 1.0])
    profile = Profile(Workload(1, 0, False, 2), "avx2", 1, 1, seconds, marks, wall_s=1e-3, position=0)
    e = explain_profile(phases, profile, LIMITS)
    assert [(k.phase, k.kernel, k.calls, k.bound) for k in e.kernels] == [
        ("a", "ka", 3, "read"), ("b", "one", 1, "math"), ("head", "some", 1, "read")]  # fmt: skip
    a, b, head = e.kernels
    assert a.bytes == 1e6
    assert a.limit_pct == pytest.approx(50)  # 100 us of 200
    assert b.limit_pct == pytest.approx(50)  # 200 us of 400
    assert head.limit_pct == 0
    assert e.step_s == pytest.approx(1e-3)
    assert e.outside_s == pytest.approx(1e-3 - 6.5e-4)
    assert e.limit_pct == pytest.approx(30)


def test_of_a_prompt_the_last_layer_takes_the_last_row() -> None:
    """40 rows from position 8 on in chunks of 16, 16 and 8: by hand. Two of three calls take all rows."""
    by_rows = [{"name": "one", "rows": [1, 1]}, {"name": "many", "rows": [2, 1 << 30]}]
    some = PHASE | {"calls": 3, "wanted_calls": 1, "kernels": by_rows}
    phases = [
        some | {"probe": 0, "phase": "a", "weight_bytes": 100, "int_macs": 10, "f32_macs": 1},
        some | {"probe": 1, "phase": "b", "kv_bytes": 7, "kv_int16_macs": 5, "kv_f32_macs": 2},
        some | {"probe": 2, "phase": "c", "expert_bytes": 9, "experts": 20, "experts_used": 2},
        some | {"probe": 3, "phase": "d", "calls": 1, "weight_bytes": 30},
    ]
    marks = np.array([7.0, 7.0, 7.0, 1.0])
    profile = Profile(Workload(40, 8, True, 1), "avx2", 1, 16, np.full(4, 1e-4), marks, wall_s=1e-3, position=0)
    a, b, c, d = explain_profile(phases, profile, LIMITS).kernels
    assert [(k.kernel, k.calls) for k in (a, b, c, d)] == [("many", 7), ("many", 7), ("many", 7), ("one", 1)]
    assert (a.bytes, a.int_macs, a.f32_macs) == (7 * 100, 10 * (2 * 40 + 1), 2 * 40 + 1)
    assert b.bytes == 7 * (2 * (24 + 40 + 48) + 48)
    assert (b.int16_macs, b.f32_macs) == (5 * (2 * (40 * 8 + 40 * 41 / 2) + 48), 2 * (2 * (40 * 8 + 40 * 41 / 2) + 48))
    assert c.bytes == 9 * (2 * 3 * 20 + 2)
    assert d.bytes == 30


@pytest.mark.parametrize("window", [1, 5, 12, 30, 100])
def test_a_window_bounds_what_is_read_and_attended_to(window: int) -> None:
    """A prompt of 20 rows from position 10 on in chunks of 16 and 4, and three sequences at position 17."""
    attention = PHASE | {"probe": 0, "phase": "a", "calls": 2, "kv_bytes": 7, "kv_int16_macs": 5, "window": window, "kernels": [
        {"name": "a", "rows": None}]}  # fmt: skip
    prompt = Profile(Workload(20, 10, True, 1), "avx2", 1, 16, np.full(1, 1e-4), np.array([4.0]), wall_s=1e-3, position=0)
    (a,) = explain_profile([attention], prompt, LIMITS).kernels
    rows = [set(range(max(0, p + 1 - window), p + 1)) for p in range(10, 30)]
    assert a.int16_macs == 5 * 2 * sum(len(r) for r in rows)
    assert a.bytes == 7 * 2 * (len(set().union(*rows[:16])) + len(set().union(*rows[16:])))
    decode = Profile(Workload(3, 17, False, 1), "avx2", 1, 3, np.full(1, 1e-4), np.array([2.0]), wall_s=1e-3, position=17)
    (a,) = explain_profile([attention], decode, LIMITS).kernels
    assert (a.bytes, a.int16_macs) == (7 * 2 * 3 * min(18, window), 5 * 2 * 3 * min(18, window))
    (a,) = explain_profile([attention | {"window": 0}], decode, LIMITS).kernels
    assert a.int16_macs == 5 * 2 * 3 * 18


@pytest.mark.parametrize("damage", ["phases.json", "recipe.json"])
def test_an_artifact_without_its_sources_is_refused(damage: str, tiny_artifact: Artifact, tmp_path: Path, capsys: Capture) -> None:
    for content in (None, "{}", '{"sources": 3}'):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tiny_artifact.path, tmp_path / "copy")
        broken = tmp_path / "copy" / "src" / damage
        broken.unlink() if content is None else broken.write_text(content)
        assert main(["explain", str(tmp_path / "copy")]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert len(lines) == 1
        assert damage in lines[0]


def test_phases_of_another_isa(tiny_artifact: Artifact) -> None:
    with pytest.raises(InputError, match="compile it again"):
        read_phases(tiny_artifact, "vax")


@pytest.mark.parametrize("argv", [["-p", "0"], ["-b", "0"], ["-d", "-1"], ["--nope"], ["-t", "many"]])
def test_bad_options(argv: list[str], tiny_artifact: Artifact, capsys: Capture) -> None:
    assert main(["explain", str(tiny_artifact.path), *argv]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
