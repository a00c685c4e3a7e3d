"""tests.measure_peers: its arithmetic on written turns, and the command with scripts in the places of the programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infc.errors import InputError
from infc.measure.peer import Tests, test_name
from infc.toolchain import host
from tests.measure.test_versus import calls, script
from tests.measure_peers.__main__ import main
from tests.measure_peers.report import Beside, Report, Spread, judge, markdown
from tests.measure_peers.rows import BEST, GROUPS, IK, LLAMA_AMX, LLAMA_AVX512, NAMES, READ, Ratio, Special, Speed, Want
from tests.measure_peers.sides import read_process, read_tokenizer

Capture = pytest.CaptureFixture[str]

BENCH = """| test            | threads |    tok/s |
|-----------------|--------:|---------:|
| pp8             |       1 |   1085.4 |

start to first token of a 4-token prompt: 7.4 ms (7.1 to 7.9), 1 thread
peak RSS of a process with 512 prompt tokens and 128 decoded: 122.7 MB = 1.04 x (weights 98.7 MB + their KV 15.4 MB + arena 3.8 MB)
"""


def sample(value: float, read: float = 90, math: float = 20) -> dict[str, float]:
    return {"value": value, "read_pct": read, "math_pct": math}


def beside(ratio: float) -> Beside:
    return Beside(Spread.of([1.0]), ratio, "")


def test_a_spread() -> None:
    assert Spread.of([3, 1, 2]) == Spread(2, 1, 3, 3)
    assert Spread.of([3, 1, 2]).cell(1) == "2.0 (1.0-3.0)"
    assert Spread.of([1202.4]).cell(0) == "1,202"


def test_every_want_is_of_a_test_that_its_row_runs() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for g in GROUPS:
        if not isinstance(g, Speed):
            continue
        t = g.tests
        runs = [test_name(kind, n, d) for d in t.depths for kind, ns in (("pp", t.prompts), ("tg", t.gens)) for n in ns]
        assert set(g.wants) == {*runs, *(test_name("batch", n) for n in t.batches)}
        assert all(isa in g.isas for wants in g.wants.values() for isa in wants)
        for want in (w for wants in g.wants.values() for ws in wants.values() for w in ws):
            assert want.of in (READ, BEST) or want.of in g.peers
        assert len(t.threads) == t.reps == 1  # a line has one number of threads, a turn one figure


def test_a_want_is_met_or_not_or_not_measured() -> None:
    columns = {LLAMA_AVX512: beside(4.0), LLAMA_AMX: beside(1.59)}
    read = judge(Want(READ, 92), 92.0, columns)
    assert (read.want, read.got, read.met) == ("92 % of bandwidth", 92.0, True)
    assert judge(Want(READ, 92), 91.9, columns).met is False
    assert judge(Want(LLAMA_AVX512, 4), 0, columns).met is True
    assert judge(Want(LLAMA_AMX, 1.6), 0, columns).met is False
    best = judge(Want(BEST, 3), 0, columns)  # the faster peer is that with the smaller ratio
    assert (best.want, best.got, best.met) == ("3 x the best of llama.cpp", 1.59, False)
    for want in (Want(IK, 5), Want(BEST, 3)):
        absent = judge(want, 99, {})
        assert (absent.got, absent.met) == (None, None)


def test_lines_have_medians_over_turns_and_the_faster_way_of_a_peer() -> None:
    group = Speed("deep", Tests((), (32,), (4096,), (), (1,), 1), {"tg32 @ d4096": {"avx512": (Want(READ, 75), Want(BEST, 3))}})
    test = "tg32 @ d4096"
    off, on = f"{LLAMA_AVX512} -fa 0", f"{LLAMA_AVX512} -fa 1"
    figures = [(100, 25, 40, 74), (140, 26, 10, 80), (120, 27, 20, 76)]
    turns = [{"infc avx512": {test: sample(a, read)}, off: {test: {"value": b}}, on: {test: {"value": c}}} for a, b, c, read in figures]
    turns.append({"infc avx512": {test: sample(110, 75)}})  # another call, without the peer
    (line,) = Report.of({"deep": turns}, (group,)).lines
    assert (line.isa, line.threads, line.ours) == ("avx512", 1, Spread(115, 100, 140, 4))
    assert line.read == Spread(75.5, 74, 80, 4)
    assert line.beside == {LLAMA_AVX512: Beside(Spread(26, 25, 27, 3), 115 / 26, "-fa 0")}
    assert [v.met for v in line.verdicts] == [True, True]
    assert "| 26.0 (25.0-27.0), -fa 0 | 4.42 |" in markdown(Report((line,), ()))


def test_targets_and_tests_have_lines_of_their_own() -> None:
    group = Speed("b", Tests((), (), (0,), (4, 16), (2,), 1), {"batch4": {"amx": (Want(LLAMA_AMX, 3),)}, "batch16": {}})
    turn = {f"infc {isa}": {"batch4": sample(a), "batch16": sample(2 * a)} for isa, a in (("amx", 1600), ("avx512", 900))}
    turn |= {LLAMA_AMX: {"batch4": {"value": 500}, "batch16": {"value": 800}}}
    lines = Report.of({"b": [turn], "unknown to this version": [turn]}, (group,)).lines
    found = [(x.test, x.isa, round(x.beside[LLAMA_AMX].ratio, 2), [v.met for v in x.verdicts]) for x in lines]
    assert found == [
        ("batch4", "amx", 3.2, [True]),
        ("batch4", "avx512", 1.8, []),
        ("batch16", "amx", 4.0, []),
        ("batch16", "avx512", 2.25, []),
    ]


def test_figures() -> None:
    ratios = (Ratio("step", "ms", "M=1"), Ratio("over", "x", "M=4", "M=1", most=1.25), Ratio("under", "x", "M=4", "M=1", least=1.25))
    turns = [{"infc amx": {"M=1": {"value": a}, "M=4": {"value": b}}} for a, b in ((4.0, 5.0), (2.0, 4.0), (5.0, 5.0))]
    step, over, under = Report.of({"s": turns}, (Special("s", "steps", ratios),)).figures
    assert (step.value, step.verdict, step.isa) == (Spread(4, 2, 5, 3), None, "amx")
    assert over.value == Spread(1.25, 1, 2, 3)  # of medians; the range is that of the turns
    assert over.note == "5 / 4"
    assert over.verdict is not None and over.verdict.met and over.verdict.want == "at most 1.25 x"
    assert under.verdict is not None and under.verdict.met
    turns[0]["infc amx"]["M=4"]["value"] = turns[2]["infc amx"]["M=4"]["value"] = 6.0
    _, over, under = Report.of({"s": turns}, (Special("s", "steps", ratios),)).figures
    assert over.verdict is not None and over.verdict.met is False
    assert under.verdict is not None and under.verdict.met


def test_what_programs_print_is_read() -> None:
    assert read_process(BENCH) == {"first token": {"value": 7.4}, "RSS": {"value": 122.7}, "needed": {"value": pytest.approx(117.9)}}
    with pytest.raises(InputError, match="did not say"):
        read_process(BENCH.replace("peak RSS", "RSS"))
    text = json.dumps({"prose": {"scalar": 130.0, "avx2": 160.0, "avx512": 165.0, "HF": 4.5}})
    assert read_tokenizer(text) == {"prose": {"value": 165.0}, "prose, HF": {"value": 4.5}}


# Ours gets 100, 140, 120 by turn, the peers 50, 40, 80 without flash attention and 20 with it.
_OURS = """
limits = {"read_pct": 80, "math_pct": 12.5, "read_bw_gb_s": 28, "int8_peak_gmac_s": 230, "int16_peak_gmac_s": 116, "f32_peak_gmac_s": 57}
rows = []
for d in values("-d"):
    for kind, flag in (("pp", "-p"), ("tg", "-n"), ("batch", "-b")):
        rows += [{"test": f"{kind}{n}" + (f" @ d{d}" if d else ""), "threads": 1, "tok_s": [100, 140, 120][turn % 3]} | limits
                 for n in values(flag) if n]
print(json.dumps(rows))
"""
_LLAMA_BENCH = """
flash = values("-fa") if "-fa" in sys.argv else None  # a turn then has two calls
speed = 20 if flash == [1] else [50, 40, 80][(turn // 2 if flash else turn) % 3]
print(json.dumps([{"n_prompt": p, "n_gen": n, "n_depth": values("-d")[0], "n_threads": values("-t")[0], "avg_ts": 1, "samples_ts": [speed]}
                  for p, n in [(p, 0) for p in values("-p") if p] + [(0, n) for n in values("-n") if n]]))
"""
_BATCHED = """
for n in values("-npl"):
    print(json.dumps({"pl": n, "speed_tg": 10 * n}))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An artifact for avx2 and avx512 called ours, on a CPU with both, beside a peer's programs and a model file."""
    monkeypatch.setattr(host, "runnable", lambda: ("scalar", "avx2", "avx512"))
    (tmp_path / "manifest.json").write_text('{"name": "ours", "targets": ["avx2", "avx512", "amx"]}')
    script(tmp_path / "ours", _OURS)
    script(tmp_path / "llama-bench", _LLAMA_BENCH)
    script(tmp_path / "llama-batched-bench", _BATCHED)
    (tmp_path / "m.gguf").write_bytes(b"")
    return tmp_path


def command(folder: Path, rows: str, *more: str, turns: int = 3) -> list[str]:
    return [str(folder), str(folder / "m.gguf"), "--rows", rows, "--turns", str(turns), "--llama-avx512", str(folder), *more]


def printed(argv: list[str], capsys: Capture) -> dict[str, Any]:
    assert main([*argv, "-o", "json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_contestants_take_turns(folder: Path, capsys: Capture) -> None:
    said = printed(command(folder, "tg128-t1", "--ik", str(folder)), capsys)
    log = calls(folder)
    assert [c[0] for c in log] == ["ours", "ours", "llama-bench", "llama-bench"] * 3  # both targets, both peers
    assert [c[c.index("--isa") + 1] for c in log[:2]] == ["avx512", "avx2"]
    first, second = said["lines"]
    assert [first["isa"], second["isa"]] == ["avx512", "avx2"]
    assert list(first["beside"]) == [LLAMA_AVX512, IK]
    assert [v["want"] for v in second["verdicts"]] == ["85 % of bandwidth"]
    assert [v["met"] for v in first["verdicts"]] == [False, None, False]
    assert len(said["turns"]["tg128-t1"]) == 3
    assert [x.split(":")[0] for x in said["left_out"]] == ["llama.cpp AMX", "Gemma 3 270M", "1B", "target amx"]
    assert said["machine"].keys() == {"CPU", "features", "kernel", "gcc"}


def test_depth_and_batches(folder: Path, capsys: Capture) -> None:
    said = printed(command(folder, "tg32-d4096,batches-t2", "--isa", "avx512"), capsys)
    deep, *batches = said["lines"]
    assert deep["test"] == "tg32 @ d4096"
    (peer,) = deep["beside"].values()
    assert (peer["how"], peer["speed"]["median"], peer["ratio"]) == ("-fa 0", 50, 2.4)
    assert [(x["test"], x["threads"], x["beside"][LLAMA_AVX512]["speed"]["median"]) for x in batches] == [
        ("batch4", 2, 40),
        ("batch16", 2, 160),
        ("batch32", 2, 320),
    ]


def test_turns_are_kept(folder: Path, capsys: Capture) -> None:
    keep = ["--keep", str(folder / "turns.json")]
    assert main(command(folder, "tg128-t1", *keep, turns=1)) == 0
    assert main(command(folder, "pp512-t1", *keep, turns=2)) == 0
    capsys.readouterr()
    said = printed(command(folder, "tg128-t1", *keep, turns=0), capsys)
    assert {name: len(turns) for name, turns in said["turns"].items()} == {"tg128-t1": 1, "pp512-t1": 2}
    assert len(said["lines"]) == 4
    assert len(said["commands"]) == 2  # of those that measured
    assert main(command(folder, "tg128-t1", *keep, turns=0)) == 0
    out = capsys.readouterr().out
    assert out.startswith("- CPU: ")
    assert "| tg128 | avx512 | 1 | 100 | 50.0 | 2.00 | 80 | 12 |" in out
    assert "Medians of 1 to 2 interleaved turns" in out
    assert "Left out: llama.cpp AMX: no --llama-amx; ik_llama.cpp: no --ik; " in out


def refused(argv: list[str], capsys: Capture) -> str:
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return [line for line in err.splitlines() if line.startswith("measure_peers: ")][0]


def test_turns_of_two_builds_or_machines_do_not_meet(folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = folder / "turns.json"
    argv = command(folder, "tg128-t1", "--keep", str(keep), turns=1)
    assert main(argv) == 0
    capsys.readouterr()
    before = keep.read_text()
    script(folder / "ours", _OURS + "# another build\n")
    assert "another artifact of SmolLM2" in refused(argv, capsys)
    monkeypatch.setattr("platform.release", lambda: "0.0")
    assert "of another machine" in refused(argv, capsys)
    assert keep.read_text() == before
    keep.write_text("[]")
    assert "holds something else" in refused(argv, capsys)


def test_what_cannot_be_measured_is_one_sentence(folder: Path, capsys: Capture) -> None:
    argv = command(folder, "tg128-t1")
    assert "this CPU has no AMX" in refused([*argv, "--llama-amx", str(folder)], capsys)
    assert "--isa amx: this CPU lacks" in refused([*argv, "--isa", "amx"], capsys)
    assert "'sse' is none of" in refused([*argv, "--isa", "sse"], capsys)
    assert "programs are in a folder" in refused([*argv, "--ik", str(folder / "m.gguf")], capsys)
    assert "no such file" in refused([argv[0], str(folder / "no.gguf"), *argv[2:]], capsys)
    script(folder / "ours", "print('[]')")
    assert "cannot run tg128" in refused(argv, capsys)
    script(folder / "ours", _OURS)
    script(folder / "llama-bench", "print('[]')")
    assert "the peer did not run tg128" in refused(argv, capsys)
    (folder / "llama-bench").unlink()
    assert main(argv) == 0
    assert "there is no llama-bench in its folder" in capsys.readouterr().out
    for bad in (["--rows", "tg129"], ["--turns", "0"]):
        with pytest.raises(SystemExit) as left:
            main([*argv, *bad])
        assert left.value.code == 2
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.split()[-len(NAMES) :] == list(NAMES)
