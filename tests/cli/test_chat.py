"""NAME chat over a pipe: a line is a turn, earlier turns stay in the KV cache."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from pathlib import Path

from tests.cli.conftest import Program

GREEDY = ("--temp", "0")


def steps(log: Path) -> list[tuple[int, int]]:
    """(first position, rows) of every step."""
    return [(int(p), int(n)) for _, _, p, n in (line.split() for line in log.read_text().splitlines())]


def test_every_line_is_a_turn(fake: Program) -> None:
    out = fake.ok("chat", "-n", "2", *GREEDY, stdin=b"hi\n\nyou\r\nlast", FAKE_SCRIPT="x")
    assert out == b"xx\n" * 3  # an empty line is no turn; the last one needs no newline


def test_ends_at_eos_and_at_end_of_input(fake: Program) -> None:
    assert fake.ok("chat", *GREEDY, stdin=b"", FAKE_SCRIPT="x") == b""
    assert fake.ok("chat", *GREEDY, stdin=b"a\n", FAKE_SCRIPT="0000$") == b"0\n"


def test_earlier_turns_are_not_run_again(fake: Program, tmp_path: Path) -> None:
    log = tmp_path / "log"
    fake.ok("chat", "-n", "3", *GREEDY, stdin=b"hi\nyou\n", FAKE_SCRIPT="x", FAKE_LOG=str(log))
    # <|user|> h i </s> <|assistant|> = 5, then x x x; the second turn adds </s> <|user|> y o u </s> <|assistant|> = 7.
    assert steps(log) == [(0, 5), (5, 1), (6, 1), (7, 1), (8, 7), (15, 1), (16, 1), (17, 1)]


def test_an_answer_that_reads_back_as_other_tokens(fake: Program, tmp_path: Path) -> None:
    """Bytes of "été" are five tokens when generated and one when the conversation is tokenized again."""
    log = tmp_path / "log"
    fake.ok("chat", "-n", "5", *GREEDY, stdin=b"aa\nb\n", FAKE_SCRIPT=os.fsdecode(b"\xa9t\xc3\xa9\xc3"), FAKE_LOG=str(log))
    # <|user|> a a </s> <|assistant|> are positions 0..4, and the script goes on from its last byte: C3 A9 t C3 A9.
    seen = steps(log)
    assert seen[:6] == [(0, 5), *((p, 1) for p in range(5, 10))]
    # Read back, the answer is one token: from position 5 on all is run anew: été </s> <|user|> b </s> <|assistant|>.
    assert seen[6] == (5, 6)


def test_system_message(fake: Program, tmp_path: Path) -> None:
    log = tmp_path / "log"
    fake.ok("chat", "-sys", "be brief", "-n", "1", *GREEDY, stdin=b"hi\n", FAKE_SCRIPT="x", FAKE_LOG=str(log))
    assert steps(log)[0] == (0, 10 + 5)
    fake.ok("chat", "--system-prompt", "be brief", "-n", "1", *GREEDY, stdin=b"hi\n", FAKE_SCRIPT="x")


def test_forgets_the_oldest_turns_when_the_context_is_full(fake: Program, tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = b"0123456789\n" * 8
    done = fake("chat", "-sys", "s", "-n", "4", *GREEDY, stdin=lines, FAKE_SCRIPT="x", FAKE_LOG=str(log))
    assert (done.returncode, done.stdout) == (0, b"xxxx\n" * 8)
    assert b"oldest messages are forgotten" in done.stderr
    assert all(p + n <= 64 for p, n in steps(log))


def test_a_turn_that_never_fits(fake: Program) -> None:
    done = fake("chat", "-n", "1", *GREEDY, stdin=b"a\n" + b"b" * 70 + b"\nc\n", FAKE_SCRIPT="x")
    assert (done.returncode, done.stdout) == (3, b"x\nx\n")
    assert b"error: this turn does not fit the context of 64 positions" in done.stderr


def test_an_answer_is_cut_where_the_context_ends(fake: Program) -> None:
    done = fake("chat", *GREEDY, stdin=b"a\n", FAKE_SCRIPT="x")
    assert (done.returncode, done.stdout) == (0, b"x" * 61 + b"\n")
    assert b"the answer is cut" in done.stderr


def test_a_character_cut_by_the_end_of_an_answer(fake: Program) -> None:
    assert fake.ok("chat", "-n", "1", *GREEDY, stdin=b"a\nb\n", FAKE_SCRIPT="\u20ac").count(b"\n") == 2


def test_a_model_without_template(fake: Program) -> None:
    assert "no chat template" in fake.refused(2, "chat", FAKE_NO_CHAT="1")


def test_ctrl_c_stops_the_answer_only(fake: Program) -> None:
    process = fake.start("chat", *GREEDY, FAKE_SCRIPT="x", FAKE_SLOW_MS="20", FAKE_N_CTX="60000", stderr=subprocess.DEVNULL)
    assert process.stdin is not None
    assert process.stdout is not None
    out = b""
    for _ in range(2):
        process.stdin.write(b"go on\n")
        process.stdin.flush()
        out += os.read(process.stdout.fileno(), 1)
        process.send_signal(signal.SIGINT)
        while not out.endswith(b"\n"):
            out += os.read(process.stdout.fileno(), 1)
    rest, _ = process.communicate(timeout=30)  # closes stdin
    assert process.returncode == 0
    assert (out + rest).replace(b"x", b"") == b"\n\n"


def test_a_terminal_gets_a_prompt_on_stderr(fake: Program) -> None:
    parent, child = pty.openpty()
    command, env = [str(fake.path), "chat", "-n", "2", *GREEDY], fake.environment({"FAKE_SCRIPT": "x"})
    process = subprocess.Popen(command, stdin=child, stdout=subprocess.PIPE, stderr=child, env=env)
    os.close(child)
    seen = b""
    while not seen.endswith(b"> "):
        seen += os.read(parent, 1024)
    os.write(parent, b"hi\n\x04")  # a line, then end of input
    out, _ = process.communicate(timeout=30)
    os.close(parent)
    assert (process.returncode, out) == (0, b"xx\n")


def test_the_date_is_checked_before_the_first_turn(fake: Program) -> None:
    assert fake.ok("chat", "--date", "2024-07-26", "-n", "1", *GREEDY, stdin=b"hi\n", FAKE_SCRIPT="x") == b"x\n"
    done = fake("chat", "--date", "tomorrow", stdin=b"hi\n")
    assert done.returncode == 2 and b"that is no date" in done.stderr and not done.stdout
