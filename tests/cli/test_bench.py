"""NAME bench: which tests run, what is printed. Never how fast."""

from __future__ import annotations

import json

from tests.cli.conftest import Program

KEYS = ["test", "threads", "tok_s", "min", "max", "gb_s", "read_bw_gb_s", "reps"]


def test_json_rows(fake: Program) -> None:
    rows = json.loads(fake.ok("bench", "-p", "20", "-n", "10", "-b", "1,2,4", "-t", "1,2", "-r", "2", "-o", "json"))
    assert [(r["test"], r["threads"]) for r in rows] == [(t, n) for n in (1, 2) for t in ("pp20", "tg10", "batch1", "batch2", "batch4")]
    for r in rows:
        assert list(r) == KEYS
        assert r["reps"] == 2
        assert 0 < r["min"] <= r["tok_s"] <= r["max"]
        assert r["read_bw_gb_s"] > 0
    decode = next(r for r in rows if r["test"] == "tg10")
    assert abs(decode["gb_s"] - decode["tok_s"] * 65536e-9) < 1e-6 * decode["gb_s"]  # stream_bytes of the model's description
    four = next(r for r in rows if r["test"] == "batch4")
    assert abs(four["gb_s"] - four["tok_s"] / 4 * 65536e-9) < 1e-6 * four["gb_s"]  # one pass over the weights serves four


def test_defaults_fit_the_program(fake: Program) -> None:
    done = fake("bench", "-r", "1")
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("|")][2:] == ["pp64", "tg64", "batch1", "batch2", "batch4"]
    assert "% of limit" in lines[0]
    assert any(line.startswith("start to first token of a 4-token prompt: ") for line in lines)
    assert any(line.startswith("peak RSS of a process with 32 prompt tokens and 32 decoded: ") for line in lines)
    notes = done.stderr.decode()
    assert "pp512 does not fit" in notes
    assert "batch8 does not fit" in notes


def test_zero_leaves_a_kind_out(fake: Program) -> None:
    rows = json.loads(fake.ok("bench", "-p", "0", "-n", "4,8", "-b", "0", "-r", "1", "-o", "json"))
    assert [r["test"] for r in rows] == ["tg4", "tg8"]
    done = fake("bench", "-p", "0", "-n", "0", "-b", "0", "-r", "1", "-o", "json")
    assert json.loads(done.stdout) == []
    assert b"start to first token" in done.stderr  # stdout holds JSON alone


def test_failures(fake: Program) -> None:
    assert "ordered" in fake.refused(70, "bench", "-p", "4", "-n", "4", "-b", "1", FAKE_FAIL="step:-6")
    assert "no such ISA" in fake.refused(3, "bench", "--isa", "vax")


def test_depth(fake: Program) -> None:
    args = ("-p", "8", "-n", "4", "-b", "4", "-r", "2")
    done = fake("bench", *args, "-d", "0,24,64", "-o", "json")
    assert done.returncode == 0
    rows = {r["test"]: r for r in json.loads(done.stdout)}
    assert list(rows) == ["pp8", "tg4", "pp8@d24", "tg4@d24"]  # the kept sequence leaves three, so no batch of four
    assert b"depth 64 does not fit" in done.stderr
    deep = rows["tg4@d24"]
    position = 4096 / 128  # kv_bytes over the positions of 8 pages
    step = 65536 + (25 + 26 + 27 + 28) / 4 * position
    assert abs(deep["gb_s"] - deep["tok_s"] * step * 1e-9) < 1e-6 * deep["gb_s"]
