"""infc bench --vs: turns, ratios and refusals, with scripts in the places of the executable and of llama.cpp's programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infc.cli.bench import read_arguments
from infc.cli.main import main
from infc.errors import InputError
from infc.measure.peer import Tests, test_name

Capture = pytest.CaptureFixture[str]
Duel = Callable[..., Any]
test_name.__test__ = Tests.__test__ = False  # type: ignore[attr-defined]

# Speeds by turn: an artifact that gets 100, 140, 120 against a peer of 50, 40, 80: medians 120 and 50, ratios 2, 3.5, 1.5.
_COMMON = """
import json, sys
from pathlib import Path
here = Path(__file__).parent
log = here / "log"
who = Path(__file__).name
log.open("a").write(json.dumps([who, *sys.argv[1:]]) + "\\n")
turn = sum(json.loads(line)[0] == who for line in log.read_text().splitlines()) - 1
def values(name):
    return [int(v) for v in sys.argv[sys.argv.index(name) + 1].split(",")] if name in sys.argv else [0]
"""
_OURS = """
rows = []
for t in values("-t"):
    for d in values("-d"):
        for kind, flag in (("pp", "-p"), ("tg", "-n"), ("batch", "-b")):
            for n in values(flag):
                if n and (kind != "batch" or d == 0):
                    rows.append({"test": f"{kind}{n}" + (f" @ d{d}" if d else ""), "threads": t, "tok_s": [100, 140, 120][turn % 3],
                                 "read_pct": [80, 90, 70][turn % 3], "math_pct": 12.5})
print(json.dumps(rows))
"""
_LLAMA_BENCH = """
rows = []
speed = [50, 40, 80][turn % 3]
for t in values("-t"):
    for d in values("-d"):
        for p, n in [(p, 0) for p in values("-p") if p] + [(0, n) for n in values("-n") if n]:
            rows.append({"n_prompt": p, "n_gen": n, "n_depth": d, "n_threads": t, "avg_ts": 1, "samples_ts": [1, speed, 1000]})
print(json.dumps(rows))
"""
_BATCHED = """
print("not every line is a record")
for n in values("-npl"):
    print(json.dumps({"pl": n, "tg": 32, "speed_tg": [50, 40, 80][turn % 3], "speed": 7}))
"""


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!{sys.executable}\n{_COMMON}{text}")
    path.chmod(0o755)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An artifact called ours beside llama-bench, llama-batched-bench and a model file."""
    (tmp_path / "manifest.json").write_text('{"name": "ours"}')
    script(tmp_path / "ours", _OURS)
    script(tmp_path / "llama-bench", _LLAMA_BENCH)
    script(tmp_path / "llama-batched-bench", _BATCHED)
    (tmp_path / "m.gguf").write_bytes(b"")
    return tmp_path


def command(folder: Path, *more: str, vs: str = "--vs", program: str = "llama-bench", turns: int = 3) -> list[str]:
    return ["bench", str(folder), vs, str(folder / program), "--vs-model", str(folder / "m.gguf"), "--turns", str(turns), *more]


def calls(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def test_turns_alternate_and_both_sides_get_the_same_tests(folder: Path, capsys: Capture) -> None:
    argv = command(
        folder, "-p", "64,128", "-n", "8", "-d", "0,256", "-t", "1,2", "-r", "4", "-ub", "32", "--vs-args", "-fa '1'", "-o", "json"
    )
    assert main(argv) == 0
    log = calls(folder)
    assert [c[0] for c in log] == ["ours", "llama-bench"] * 3
    ours, peer = log[0][1:], log[1][1:]
    same = {"-p": "64,128", "-n": "8", "-d": "0,256", "-t": "1,2", "-r": "4"}
    for name, value in same.items():
        assert ours[ours.index(name) + 1] == peer[peer.index(name) + 1] == value
    assert ours[0] == "bench"
    assert ours[ours.index("-b") + 1] == "0"  # llama-bench has no such test
    assert ours[ours.index("-ub") + 1] == "32"
    assert "-ub" not in peer
    assert peer[-2:] == ["-fa", "1"]
    assert peer[peer.index("-m") + 1] == str(folder / "m.gguf")
    rows = json.loads(capsys.readouterr().out)
    names = [test_name(k, n, d) for d in (0, 256) for k, n in (("pp", 64), ("pp", 128), ("tg", 8))]
    assert [(r["test"], r["threads"]) for r in rows] == [(name, t) for t in (1, 2) for name in names]
    for r in rows:
        assert (r["tok_s"], r["peer_tok_s"]) == (120, 50)  # the peer's figure of a turn is the median of its samples
        assert (r["ratio"], r["ratio_min"], r["ratio_max"]) == (2.4, 1.5, 3.5)
        assert (r["read_pct"], r["math_pct"]) == (80, 12.5)
        assert (r["turns"], r["peer_turns"]) == ([100, 140, 120], [50, 40, 80])


def test_the_table(folder: Path, capsys: Capture) -> None:
    assert main(command(folder, "-p", "64", "-n", "0")) == 0
    out, err = capsys.readouterr()
    lines = [[c.strip() for c in line.split("|")[1:-1]] for line in out.splitlines()]
    assert lines[0][:5] == ["test", "threads", "infc tok/s", "llama-bench tok/s", "ratio of medians"]
    assert lines[2] == ["pp64", "1", "120.0 (100.0-140.0)", "50.0 (40.0-80.0)", "2.40 (1.50-3.50)", "80.0", "12.5"]
    assert len(lines) == 3
    assert "turn 3 of 3: peer" in err
    assert "-d" not in calls(folder)[1]  # older forks of llama.cpp do not have the option


def test_batches(folder: Path, capsys: Capture) -> None:
    argv = command(folder, "-b", "1,4", "-t", "1,2", "-r", "1", "-o", "json", vs="--vs-batched", program="llama-batched-bench", turns=1)
    assert main(argv) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["test"], r["threads"]) for r in rows] == [(b, t) for t in (1, 2) for b in ("batch1", "batch4")]
    # Two processes, one a thread count, are two turns of the script: 50, then 40.
    assert [(r["tok_s"], r["peer_tok_s"]) for r in rows] == [(100, 50), (100, 50), (100, 40), (100, 40)]
    log = calls(folder)
    assert [c[0] for c in log] == ["ours", "llama-batched-bench", "llama-batched-bench"]  # one thread count a process
    assert log[0][log[0].index("-p") + 1] == log[0][log[0].index("-n") + 1] == "0"
    for name, value in (("-npp", "1"), ("-ntg", "32"), ("-npl", "1,4"), ("-t", "1"), ("-c", "256")):
        assert log[1][log[1].index(name) + 1] == value


def test_tests_that_one_side_lacks_are_left_out(folder: Path, capsys: Capture) -> None:
    script(folder / "llama-bench", _LLAMA_BENCH.replace('values("-n")', "[]"))
    assert main(command(folder, "-o", "json")) == 0
    assert [r["test"] for r in json.loads(capsys.readouterr().out)] == ["pp512"]


def refused(argv: list[str], capsys: Capture) -> str:
    """Status 2, and the one line that is left when progress is taken away."""
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert lines[0].startswith("infc: error[")
    return lines[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("print('hello')", "did not print what llama-bench"),
        ("print('[1]')", "did not print what llama-bench"),
        ("print(json.dumps([{'n_prompt': 'x', 'n_gen': 0, 'n_threads': 1, 'avg_ts': 1}]))", "did not print what llama-bench"),
        ("print('[]')", "ran none of the artifact's tests"),
        ("print('noise', file=sys.stderr); print('cannot load it', file=sys.stderr); sys.exit(1)", "status 1: cannot load it"),
        ("import os; os.kill(os.getpid(), 4)", "ended with signal 4"),
    ],
)
def test_a_peer_that_fails_is_one_sentence(text: str, says: str, folder: Path, capsys: Capture) -> None:
    script(folder / "llama-bench", text)
    assert says in refused(command(folder, turns=1), capsys)


def test_a_batched_peer_that_fails_is_one_sentence(folder: Path, capsys: Capture) -> None:
    script(folder / "llama-batched-bench", "print('{\"pl\": 1}')")
    argv = command(folder, vs="--vs-batched", program="llama-batched-bench", turns=1)
    assert "what llama-batched-bench prints" in refused(argv, capsys)


def test_bad_paths_and_options(folder: Path, capsys: Capture) -> None:
    assert "cannot run the peer: no such file" in refused(command(folder, program="nothing"), capsys)
    assert "cannot run the peer: permission denied" in refused(command(folder, program="m.gguf"), capsys)
    argv = command(folder)
    argv[argv.index("--vs-model") + 1] = str(folder / "no.gguf")
    assert "--vs-model is not a file" in refused(argv, capsys)
    assert "--vs-model is missing" in refused(["bench", str(folder), "--vs", "x"], capsys)
    assert "go with --vs" in refused(["bench", str(folder), "--vs-model", "x"], capsys)
    assert "--vs-args" in refused(command(folder, "--vs-args", "'open"), capsys)
    assert "no list of whole numbers" in refused(command(folder, "-p", "many"), capsys)
    assert "needs a value" in refused(command(folder, "-p"), capsys)
    assert "neither md nor json" in refused(command(folder, "-o", "csv"), capsys)
    assert not (folder / "log").exists() or {c[0] for c in calls(folder)} == {"ours"}


def test_our_own_refusal_keeps_its_sentence(folder: Path, capsys: Capture) -> None:
    script(folder / "ours", "print('ours: error: the context is full', file=sys.stderr); sys.exit(3)")
    assert main(command(folder)) == 3
    assert "the context is full" in capsys.readouterr().err


def test_arguments_are_read_as_the_executable_reads_them() -> None:
    asked = read_arguments(["--n-prompt", "5", "-n", "0", "-b", "0,2", "--pin", "--isa", "avx2", "--threads", "2"])
    assert asked.tests == Tests(prompts=(5,), gens=(), batches=(2,), threads=(2,))
    assert asked.more == ("--pin", "--isa", "avx2")
    assert asked.value("--isa") == "avx2"
    assert not asked.json
    assert read_arguments([]).tests == Tests()
    with pytest.raises(InputError):
        read_arguments(["-t"])
