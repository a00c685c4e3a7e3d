"""The command line is strict: one line on stderr, exit 2, nothing on stdout."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Program, build

BAD = [
    ([], "no input"),
    (["-n", "3"], "no input"),
    (["--nope"], "unknown option '--nope'"),
    (["-p", "x", "--n-gen", "3"], "unknown option '--n-gen'"),  # of another command
    (["-p"], "option -p needs a value"),
    (["-p", "x", "-n"], "option -n needs a value"),
    (["-p", "x", "-n", "abc"], "'abc' is not a whole number"),
    (["-p", "x", "-n", ""], "is not a whole number"),
    (["-p", "x", "-n", "1.5"], "is not a whole number"),
    (["-p", "x", "-n", " 1"], "is not a whole number"),
    (["-p", "x", "-n", "0x10"], "is not a whole number"),
    (["-p", "x", "-n", "-2"], "out of range"),
    (["-p", "x", "-n", "99999999999"], "out of range"),
    (["-p", "x", "-n", "9" * 40], "is not a whole number"),
    (["-p", "x", "-t", "-1"], "out of range"),
    (["-p", "x", "-t", "1025"], "out of range"),
    (["-p", "x", "-ub", "-1"], "out of range"),
    (["-p", "x", "--temp", "nan"], "is not a number"),
    (["-p", "x", "--temp", "inf"], "is not a number"),
    (["-p", "x", "--temp", "0x1p3"], "is not a number"),
    (["-p", "x", "--temp", "1e999"], "is not a number"),
    (["-p", "x", "--temp", "1.0.0"], "is not a number"),
    (["-p", "x", "--temp", "-0.1"], "out of range"),
    (["-p", "x", "--top-k", "-1"], "out of range"),
    (["-p", "x", "--top-p", "1.01"], "out of range: 0 to 1"),
    (["-p", "x", "--min-p", "2"], "out of range"),
    (["-p", "x", "--repeat-penalty", "0"], "out of range"),
    (["-p", "x", "--repeat-last-n", "-2"], "out of range"),
    (["-p", "x", "--seed", "-2"], "option --seed"),
    (["-p", "x", "--seed", "x"], "option --seed"),
    (["--tokens", ""], "is not a whole number"),
    (["--tokens", "1,,2"], "is not a whole number"),
    (["--tokens", "1,2,"], "is not a whole number"),
    (["--tokens", "1 2"], "is not a whole number"),
    (["--tokens", "-1"], "out of range"),
    (["-p", "x", "--tokens", "1"], "more than one input"),
    (["-p", "x", "-f", "/dev/null"], "more than one input"),
    (["-p", "x", "--json", "--print-ids"], "exclude each other"),
    (["-p", "x", "stray"], "unexpected argument 'stray'"),
    (["-p=x"], "unknown option '-p=x'"),
    (["nope"], "unknown command 'nope'"),
    ([""], "unknown command ''"),
    (["bench", "-o", "xml"], "neither md nor json"),
    (["bench", "-r", "0"], "out of range"),
    (["bench", "-t", "0"], "out of range"),
    (["bench", "-b", "1,x"], "'x' is not a whole number"),
    (["bench", "extra"], "unexpected argument"),
    (["info", "-p", "x"], "unknown option '-p'"),
    (["verify", "--json"], "unknown option '--json'"),
    (["tokenize"], "no input"),
    (["tokenize", "a", "b"], "unexpected argument 'b'"),
    (["tokenize", "a", "-f", "/dev/null"], "more than one input"),
    (["perplexity"], "no input"),
    (["perplexity", "/dev/null", "-c", "1"], "out of range"),
    (["-f", "/nonexistent/file"], "cannot read '/nonexistent/file'"),
    (["perplexity", "/nonexistent/file"], "cannot read"),
    (["-f", "/"], "cannot read '/'"),
    (["-p", "x", "--logits-out", "/nonexistent/file"], "cannot write '/nonexistent/file'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda v: " ".join(v)[:40] if isinstance(v, list) else None)
def test_refused_with_one_line(fake: Program, arguments: list[str], message: str) -> None:
    assert message in fake.refused(2, *arguments)


def test_hostile_text_cannot_drive_a_terminal(fake: Program) -> None:
    assert "\\x1b[31m\\x0a\\xe2\\x80\\xae" in fake.refused(2, "-p", "x", "-n", "\x1b[31m\n\u202e")
    assert len(fake.refused(2, "\x01" * 5000)) < 300


@pytest.mark.parametrize("command", ["", "chat", "bench", "info", "verify", "tokenize", "perplexity"])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_the_options(fake: Program, command: str, flag: str) -> None:
    text = fake.ok(*([command] if command else []), flag).decode()
    assert text.startswith(f"usage: toy {command}".rstrip())
    assert "-h, --help" in text
    assert all(len(line) < 140 for line in text.splitlines())


def test_version_names_every_instruction_set(fake: Program) -> None:
    assert fake.ok("--version") == b"toy: infc 0.0-fake, interface 1, scalar fake\n"


def test_every_spelling_is_taken(fake: Program, tmp_path: Path) -> None:
    text = tmp_path / "t"
    text.write_text("abc")
    common = ["-n", "2", "--seed", "1"]
    for extra in [
        ["-t", "1"], ["--threads", "2"], ["-ub", "3"], ["--ubatch-size", "3"], ["--temp", "0"], ["--top-k", "3"], ["--top-p", "0.5"],
        ["--min-p", ".1"], ["--repeat-penalty", "1.1"], ["--repeat-last-n", "-1"], ["-s", "7"], ["--ignore-eos"], ["--isa", "scalar"],
        ["--pin"], ["--print-ids"], ["--json"], ["--logits-hash"], ["--no-bos"], ["--no-parse-special"], ["--predict", "1"],
        ["--n-predict", "1"], ["--temp", "1e-1"], ["-t", "+1"], ["--", ],
    ]:  # fmt: skip
        fake.ok("-p", "abc", *common, *extra)
    for start in (["--prompt", "abc"], ["-f", str(text)], ["--file", str(text)], ["--tokens", "97,98,99"]):
        fake.ok(*start, *common)


def test_the_last_of_equal_options_counts(fake: Program) -> None:
    out = fake.ok("-p", "a", "-n", "9", "-n", "3", "--temp", "0", "--print-ids")
    assert len(out.split()) == 3


def test_a_value_may_look_like_an_option(fake: Program) -> None:
    assert fake.ok("tokenize", "--no-bos", "--", "-n") == b"45 110\n"
    assert fake.ok("-p", "-n", "-n", "0", "--json").count(b"[256, 45, 110]") == 1


@pytest.mark.parametrize("cc", ["gcc", pytest.param("clang", marks=pytest.mark.clang)])
def test_no_warning_at_release_flags(cc: str, tmp_path: Path) -> None:
    if shutil.which(cc) is None:
        pytest.skip(f"{cc} is not installed")
    program = Program(build(tmp_path / "toy", cc, "-O2", "-fPIE", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong"))
    assert program.ok("tokenize", "hi") == b"256 104 105\n"
