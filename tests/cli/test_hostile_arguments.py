"""Whatever the arguments are, the program ends with a documented code and, when it refuses, one line."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cli.conftest import Program

# "-f" and "--logits-out" are left out: a random path may be a device that never ends, or a file of somebody's.
WORDS = [
    "-p", "-n", "-t", "-ub", "--temp", "--top-k", "--top-p", "--min-p", "--repeat-penalty", "--repeat-last-n", "--seed", "-s",
    "--tokens", "--ignore-eos", "--print-ids", "--logits-hash", "--json", "--isa", "--pin", "-h", "--version", "--no-bos", "--", "-",
    "tokenize", "info", "verify", "chat", "-sys", "1", "0", "-1", "2147483648", "1e9", ".5", "nan", "1,2,3", "1,", "scalar", "text", "<s>",
]  # fmt: skip
argument = st.one_of(st.sampled_from(WORDS), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(st.lists(argument, max_size=8), st.binary(max_size=50))
def test_ends_as_documented(fake: Program, arguments: list[str], stdin: bytes) -> None:
    done = fake(*arguments, stdin=stdin, FAKE_N_CTX="48", FAKE_SCRIPT="ab$")
    assert done.returncode in (0, 2, 3), (arguments, done)
    assert all(b == 0x0A or 0x20 <= b < 0x7F for b in done.stderr)
    if done.returncode == 2:
        assert done.stdout == b""
        assert done.stderr.count(b"\n") == 1
        assert len(done.stderr) <= 300
