"""NAME bench: which tests run, what is printed. Never how fast."""

from __future__ import annotations

import json

from tests.cli.conftest import Program

KEYS = ["test", "threads", "tok_s", "min", "max", "gb_s", "read_bw_gb_s", "reps"]  # the contract of DESIGN section 6
MORE = ["read_pct", "gmac_s", "int8_peak_gmac_s", "int16_peak_gmac_s", "f32_peak_gmac_s", "math_pct"]
STREAM, HEAD = 65536, 16384  # bytes in the toy model's description
INT, F32, HEAD_INT, HEAD_F32 = 90000, 500, 30000, 20  # its multiply-accumulates a row
POSITION = 4096 / 128  # bytes of keys and values: kv_bytes over the positions of 8 pages
ATTEND_INT16, ATTEND_F32, WINDOW = 12, 4, 20  # multiply-accumulates a position in each of two layers, of which the first has a window


def close(a: float, b: float) -> bool:
    return abs(a - b) < 1e-6 * abs(b)


def seen(first: int, n: int, window: int = 1 << 30) -> int:
    """Positions that n rows from position ``first`` on attend to."""
    return sum(min(p + 1, window) for p in range(first, first + n))


def test_json_rows(fake: Program) -> None:
    rows = json.loads(fake.ok("bench", "-p", "20", "-n", "10", "-b", "1,2,4", "-t", "1,2", "-r", "2", "-o", "json"))
    assert [(r["test"], r["threads"]) for r in rows] == [(t, n) for n in (1, 2) for t in ("pp20", "tg10", "batch1", "batch2", "batch4")]
    for r in rows:
        assert list(r) == KEYS + MORE
        assert r["reps"] == 2
        assert 0 < r["min"] <= r["tok_s"] <= r["max"]
        assert r["read_bw_gb_s"] > 0
    decode = next(r for r in rows if r["test"] == "tg10")
    assert close(decode["gb_s"], decode["tok_s"] * STREAM * 1e-9)
    four = next(r for r in rows if r["test"] == "batch4")
    assert close(four["gb_s"], four["tok_s"] / 4 * STREAM * 1e-9)  # one pass over the weights serves four
    prompt = next(r for r in rows if r["test"] == "pp20")  # chunks of 16 and 4 rows, of which the last has logits
    assert close(prompt["gb_s"], prompt["tok_s"] / 20 * (2 * STREAM - HEAD) * 1e-9)


def test_every_row_stands_beside_both_limits_of_its_own_run(fake: Program) -> None:
    rows = json.loads(fake.ok("bench", "-p", "20", "-n", "10", "-b", "2", "-t", "1", "-r", "1", "-o", "json"))
    # multiply-accumulates of one run, attention apart: (integer, float); positions attended to over the layers; tokens
    macs = {
        # the last of two layers attends for the last row
        "pp20": (20 * INT + HEAD_INT, 20 * F32 + HEAD_F32, seen(0, 20, WINDOW) + 20, 20),
        "tg10": (10 * (INT + HEAD_INT), 10 * (F32 + HEAD_F32), seen(0, 10, WINDOW) + seen(0, 10), 10),
        "batch2": (64 * (INT + HEAD_INT), 64 * (F32 + HEAD_F32), 2 * (seen(0, 32, WINDOW) + seen(0, 32)), 64),
    }
    assert {r["test"] for r in rows} == set(macs)
    for r in rows:
        whole, real, positions, tokens = macs[r["test"]]
        half, real = ATTEND_INT16 * positions, real + ATTEND_F32 * positions
        seconds = tokens / r["tok_s"]
        assert close(r["read_pct"], 100 * r["gb_s"] / r["read_bw_gb_s"])
        assert close(r["gmac_s"], 1e-9 * (whole + half + real) / seconds)
        least = 1e-9 * (whole / r["int8_peak_gmac_s"] + half / r["int16_peak_gmac_s"] + real / r["f32_peak_gmac_s"])
        assert close(r["math_pct"], 100 * least / seconds)


def test_start_and_memory_are_left_out_when_asked(fake: Program) -> None:
    done = fake("bench", "-p", "0", "-n", "4", "-b", "0", "-r", "1", "--no-process")
    assert done.returncode == 0
    assert b"tg4" in done.stdout
    assert b"start to first token" not in done.stdout
    assert b"peak RSS" not in done.stdout


def test_defaults_fit_the_program(fake: Program) -> None:
    done = fake("bench", "-r", "1")
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("|")][2:] == ["pp64", "tg64", "batch1", "batch2", "batch4"]
    assert lines[0].count("% of it") == 2
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
    assert list(rows) == ["pp8", "tg4", "pp8 @ d24", "tg4 @ d24"]  # the kept sequence leaves three, so no batch of four
    assert b"depth 64 does not fit" in done.stderr
    deep = rows["tg4 @ d24"]
    step = STREAM + (WINDOW + (25 + 26 + 27 + 28) / 4) * POSITION / 2
    assert close(deep["gb_s"], deep["tok_s"] * step * 1e-9)
    prompt = rows["pp8 @ d24"]  # in one pass, whose rows read more than one window together; the last layer is for the last row
    assert close(prompt["gb_s"], prompt["tok_s"] / 8 * (STREAM + (WINDOW + 7 + 32) * POSITION / 2) * 1e-9)
    for r, n, last in ((deep, 4, 4), (prompt, 8, 1)):
        attention = (seen(24, n, WINDOW) + seen(24 + n - last, last)) * (ATTEND_INT16 + ATTEND_F32)
        macs = n * (INT + F32) + last * (HEAD_INT + HEAD_F32) + attention
        assert close(r["gmac_s"], r["tok_s"] / n * macs * 1e-9)
