"""NAME -p TEXT: text on stdout and nothing else there; ids, logits, JSON, limits."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import BOS, EOS, VOCAB, Program

GREEDY = ("--temp", "0")


def fnv1a(data: bytes) -> int:
    h = 0xCBF29CE484222325
    for b in data:
        h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def test_text_only_on_stdout(fake: Program) -> None:
    # Position p is followed by script[p % 8]; "ab" with <s> holds positions 0..2.
    done = fake("-p", "ab", "-n", "5", *GREEDY, FAKE_SCRIPT="01234567")
    assert done.stdout == b"23456"
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("toy: prompt 3 tokens ")
    assert "decode 4 tokens" in line
    assert "GB/s of weights" in line
    assert "fake, 2 threads" in line


def test_ends_at_eos(fake: Program) -> None:
    assert fake.ok("-p", "ab", *GREEDY, FAKE_SCRIPT="01hey$67") == b"hey"
    out = json.loads(fake.ok("-p", "ab", *GREEDY, "--json", FAKE_SCRIPT="01hey$67"))
    assert (out["text"], out["ids"], out["stop"]) == ("hey", [*b"hey", EOS], "eos")
    assert fake.ok("-p", "ab", *GREEDY, "--print-ids", FAKE_SCRIPT="01hey$67") == b"104 101 121 257\n"


def test_ignore_eos_never_chooses_it(fake: Program) -> None:
    ids = fake.ok("-p", "ab", "-n", "20", *GREEDY, "--ignore-eos", "--print-ids", FAKE_SCRIPT="01hey$67").split()
    assert len(ids) == 20
    assert str(EOS).encode() not in ids


def test_default_is_128_tokens(fake: Program) -> None:
    assert len(fake.ok("-p", "ab", *GREEDY, FAKE_SCRIPT="x", FAKE_N_CTX="400")) == 128


@pytest.mark.parametrize("n", ["-1", "128"])
def test_stops_when_the_context_is_full(fake: Program, n: str) -> None:
    done = fake("-p", "ab", "-n", n, *GREEDY, FAKE_SCRIPT="x", FAKE_N_CTX="10")
    # Positions 3..9 are stepped; each step, and the prompt, gives a token.
    assert (done.returncode, done.stdout) == (0, b"x" * 8)
    assert b"context of 10 positions is full" in done.stderr


def test_a_prompt_as_long_as_the_context_gives_one_token(fake: Program) -> None:
    assert fake.ok("-p", "a" * 9, "-n", "-1", *GREEDY, FAKE_SCRIPT="x", FAKE_N_CTX="10") == b"x"
    message = fake.refused(3, "-p", "a" * 10, FAKE_N_CTX="10")
    assert "the prompt has 11 tokens, the context holds 10" in message


def test_empty_prompts(fake: Program) -> None:
    assert json.loads(fake.ok("-p", "", "-n", "1", "--json"))["prompt_ids"] == [BOS]
    assert "the prompt is empty" in fake.refused(2, "-p", "", FAKE_NO_BOS="1")
    assert "the prompt is empty" in fake.refused(2, "-p", "", "--no-bos")


def test_tokens_are_taken_as_they_are(fake: Program) -> None:
    out = json.loads(fake.ok("--tokens", "97,98,263", "-n", "1", "--json"))
    assert out["prompt_ids"] == [97, 98, 263]
    assert "token 264 is not in the vocabulary of 264 tokens" in fake.refused(2, "--tokens", f"1,{VOCAB}")


def test_prompt_from_file_and_stdin(fake: Program, tmp_path: Path) -> None:
    text = b"a\x00\xff<|user|>"
    (tmp_path / "p").write_bytes(text)
    want = [BOS, 97, 0, 255, 258]
    assert json.loads(fake.ok("-f", str(tmp_path / "p"), "-n", "0", "--json"))["prompt_ids"] == want
    assert json.loads(fake.ok("-f", "-", "-n", "0", "--json", stdin=text))["prompt_ids"] == want
    plain = json.loads(fake.ok("-f", "-", "-n", "0", "--json", "--no-parse-special", "--no-bos", stdin=b"<s>"))
    assert plain["prompt_ids"] == [*b"<s>"]


def test_a_character_is_never_split(fake: Program) -> None:
    """Each byte of the text is a token; what arrives at any moment is whole characters."""
    script = "aé€🙂b\n"
    process = fake.start(
        "--tokens", "7", "-n", str(2 * len(script.encode())), *GREEDY, FAKE_SCRIPT=script, FAKE_SLOW_MS="3", stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    pieces = []
    with process:
        while piece := os.read(process.stdout.fileno(), 4096):
            pieces.append(piece)
    assert process.returncode == 0
    assert "".join(p.decode() for p in pieces) == script * 2
    assert len(pieces) > 3  # it did stream


def test_a_cut_character_is_flushed_at_the_end(fake: Program) -> None:
    assert fake.ok("--tokens", "7", "-n", "2", *GREEDY, FAKE_SCRIPT="€") == "€".encode()[:2]
    assert json.loads(fake.ok("--tokens", "7", "-n", "2", *GREEDY, "--json", FAKE_SCRIPT="€"))["text"] == "\ufffd\ufffd"


def test_same_seed_same_text(fake: Program) -> None:
    first, again, other = (fake.ok("-p", "a", "-n", "30", "--print-ids", "--seed", s) for s in ("5", "5", "6"))
    assert first == again != other


def test_a_random_seed_is_told_and_repeats(fake: Program) -> None:
    out = json.loads(fake.ok("-p", "a", "-n", "30", "--json"))
    again = json.loads(fake.ok("-p", "a", "-n", "30", "--json", "--seed", str(out["seed"])))
    assert again["ids"] == out["ids"]
    assert f"seed {out['seed']}" in fake("-p", "a", "-n", "3", "--seed", str(out["seed"])).stderr.decode()


@pytest.mark.parametrize("chunk", [None, "1", "3", "16"])
def test_logits_of_every_prompt_position(fake: Program, tmp_path: Path, chunk: str | None) -> None:
    prompt = "a prompt of forty-one bytes, give or take.."
    file, log = tmp_path / "l.f32", tmp_path / "log"
    extra = ("-ub", chunk) if chunk else ()
    out = json.loads(fake.ok("-p", prompt, "-n", "3", *GREEDY, "--logits-out", str(file), "--json", *extra, FAKE_LOG=str(log)))
    data = file.read_bytes()
    n = len(prompt) + 1
    logits = np.frombuffer(data, "<f4").reshape(n, VOCAB)
    assert np.isfinite(logits).all()
    assert len({row.tobytes() for row in logits}) == n
    assert out["logits_hash"] == f"0x{fnv1a(data):016x}"
    assert out["ids"][0] == logits[-1].argmax()  # sampling goes on from the last row
    rows = [int(line.split()[3]) for line in log.read_text().splitlines()]
    assert rows[0] == min(int(chunk or 16), n)
    assert sum(rows) == n + 2


def test_hash_is_of_the_prompt_alone(fake: Program) -> None:
    hashes = {json.loads(fake.ok("-p", "abc", "-n", n, "--logits-hash", "--json", "-ub", ub))["logits_hash"] for n in "059" for ub in "148"}
    assert len(hashes) == 1
    assert f"logits hash {hashes.pop()} over 4 prompt positions" in fake("-p", "abc", "-n", "0", "--logits-hash").stderr.decode()
    assert json.loads(fake.ok("-p", "abc", "-n", "0", "--json"))["logits_hash"] is None


def test_evaluate_only(fake: Program) -> None:
    done = fake("-p", "abc", "-n", "0", "--logits-hash")
    assert (done.returncode, done.stdout) == (0, b"")


def test_without_logits_the_prompt_goes_in_chunks_of_ub(fake: Program, tmp_path: Path) -> None:
    log = tmp_path / "log"
    fake.ok("-p", "a" * 20, "-n", "1", "-ub", "8", FAKE_LOG=str(log))
    assert log.read_text() == "step 0 0 8\nstep 0 8 8\nstep 0 16 5\n"


def test_json_schema(fake: Program) -> None:
    out = json.loads(fake.ok("-p", 'q"\\\n\x01é', "-n", "3", "--json", "-t", "3", "--isa", "scalar", "--seed", "1"))
    assert list(out) == ["text", "ids", "prompt_ids", "logits_hash", "stop", "seed", "timings", "isa", "threads"]
    assert (out["isa"], out["threads"], out["stop"], out["seed"]) == ("scalar", 3, "length", 1)
    names = "prompt_n prompt_ms prompt_per_second predicted_n predicted_ms predicted_per_second first_token_ms gb_s"
    assert list(out["timings"]) == names.split()
    assert out["timings"]["prompt_n"] == len(out["prompt_ids"])
    assert out["timings"]["predicted_n"] == 2
    assert all(v >= 0 for v in out["timings"].values())


def test_json_escapes(fake: Program) -> None:
    script = '"\\/\n\t\x01\x7fé'
    out = fake.ok("--tokens", "7", "-n", str(len(script.encode())), *GREEDY, "--json", FAKE_SCRIPT=script)
    assert json.loads(out)["text"] == script
    assert out.isascii() is False
    assert out.count(b"\n") == 1


def test_tokenize(fake: Program, tmp_path: Path) -> None:
    assert fake.ok("tokenize", "hi<s>") == b"256 104 105 256\n"
    assert fake.ok("tokenize", "hi<s>", "--no-bos", "--no-parse-special") == b"104 105 60 115 62\n"
    assert fake.ok("tokenize", "", "--no-bos") == b"\n"
    (tmp_path / "t").write_bytes("été".encode())
    assert json.loads(fake.ok("tokenize", "-f", str(tmp_path / "t"), "--json")) == {"n": 2, "ids": [256, 261], "pieces": ["<s>", "été"]}
    assert json.loads(fake.ok("tokenize", "-f", "-", "--json", "--no-bos", stdin=b"\xff"))["pieces"] == ["\ufffd"]
    long = "abc" * 5000  # more tokens than the first guess
    assert len(fake.ok("tokenize", long).split()) == 15001


def test_info(fake: Program) -> None:
    out = json.loads(fake.ok("info", "--json"))
    assert out["model"]["name"] == 'fa"ke'
    assert (out["stream_bytes"], out["weights_bytes"]) == (65536, 131072)  # the top-level key, not the inner one
    assert (out["isas"], out["isa"], out["chat"], out["vocab_size"]) == (["scalar", "fake"], "fake", True, VOCAB)
    text = fake.ok("info").decode()
    assert "vocab_size     264\n" in text
    assert json.loads(fake.ok("info", "--json", "--isa", "scalar"))["isa"] == "scalar"


def test_verify(fake: Program) -> None:
    assert fake.ok("verify") == b"ok: 131072 bytes of weights match their checksum\n"
    assert "ordered" in fake.refused(3, "verify", FAKE_FAIL="verify:-5")
