"""The executable of a real compile, against the same model through Python and against sums in numpy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from infc.binding.artifact import Artifact
from infc.binding.model import Model
from tests.cli.conftest import Program
from tests.cli.test_generate import fnv1a
from tests.cli.test_perplexity import expected

GREEDY = ("--temp", "0")
TEXT = "Once upon a time there was a naïve café: 世界 🙂, and it's 1999."


@pytest.fixture(scope="module")
def program(tiny_artifact: Artifact) -> Program:
    return Program(tiny_artifact.program)


@pytest.fixture(scope="module")
def model(tiny_artifact: Artifact) -> Iterator[Model]:
    with tiny_artifact.load(threads=1) as llm:
        yield llm


def test_logits_are_those_of_the_library(program: Program, model: Model, tmp_path: Path) -> None:
    ids = model.tokenize(TEXT)
    want = model.logits(ids)
    hashes = set()
    for i, extra in enumerate((("-t", "1"), ("-t", "2", "-ub", "1"), ("-t", "3", "-ub", "7"), ("-ub", "2", "--pin"))):
        file = tmp_path / f"{i}.f32"
        out = json.loads(program.ok("-p", TEXT, "-n", "0", "--logits-out", str(file), "--json", *extra))
        assert out["prompt_ids"] == ids
        got = np.frombuffer(file.read_bytes(), "<f4").reshape(len(ids), -1)
        assert got.tobytes() == want.tobytes()
        hashes.add(out["logits_hash"])
    assert hashes == {f"0x{fnv1a(want.tobytes()):016x}"}


def test_text_is_that_of_the_library(program: Program, model: Model) -> None:
    want = model.generate(TEXT, max_tokens=24, temperature=0)
    assert program.ok("-p", TEXT, "-n", "24", *GREEDY).decode("utf-8", "replace") == want
    assert json.loads(program.ok("-p", TEXT, "-n", "24", *GREEDY, "--json"))["text"] == want
    sampled = {"temperature": 0.9, "top_k": 30, "top_p": 0.9, "min_p": 0.01, "repeat_penalty": 1.2, "repeat_last_n": 16, "seed": 11}
    options = [x for k, v in sampled.items() for x in ("--" + k.replace("_", "-").replace("temperature", "temp"), str(v))]
    ids = [t.id for t in model.stream(TEXT, max_tokens=24, ignore_eos=True, **sampled)]
    assert json.loads(program.ok("-p", TEXT, "-n", "24", "--ignore-eos", "--json", *options))["ids"] == ids


def test_tokenize_round_trip(program: Program, model: Model) -> None:
    ids = [int(i) for i in program.ok("tokenize", TEXT, "--no-bos").split()]
    assert ids == model.tokenize(TEXT, bos=False)
    assert model.detokenize(ids, special=True) == TEXT
    assert json.loads(program.ok("tokenize", TEXT, "--json"))["ids"] == model.tokenize(TEXT)


@pytest.mark.slow
def test_chat_answers_as_the_whole_conversation_would(smollm2_artifact: Artifact) -> None:
    """Kept KV positions change nothing: each answer equals the one to the conversation read from its beginning."""
    questions = ["What is the capital of France?", "And of Italy?", "Say it in one word \u2014 s\u00ed?"]
    chat = Program(smollm2_artifact.program)
    answers = chat.ok("chat", "-sys", "Be brief.", "-n", "12", *GREEDY, stdin="\n".join(questions).encode()).decode()
    messages = [{"role": "system", "content": "Be brief."}]
    want = ""
    with smollm2_artifact.load(threads=1) as llm:
        for question in questions:
            messages.append({"role": "user", "content": question})
            answer = llm.chat(messages, max_tokens=12, temperature=0)
            messages.append({"role": "assistant", "content": answer})
            want += answer + "\n"
    assert answers == want


@pytest.mark.parametrize("n_ctx", [16, 25])
def test_perplexity(program: Program, model: Model, tmp_path: Path, n_ctx: int) -> None:
    file = tmp_path / "text"
    file.write_text(TEXT * 4)
    ids = model.tokenize(TEXT * 4)
    bos = model.info.bos_id if model.tokenize("") else None
    ppl, error, scored = expected(program, ids, n_ctx, bos, tmp_path)
    out = json.loads(program.ok("perplexity", str(file), "-c", str(n_ctx), "--json"))
    assert (out["n_scored"], out["n_tokens"]) == (scored, len(ids))
    assert out["ppl"] == pytest.approx(ppl, rel=1e-8)
    assert out["ppl_error"] == pytest.approx(error, rel=1e-5)


def test_info_and_verify(program: Program, model: Model) -> None:
    out = json.loads(program.ok("info", "--json"))
    for name in ("dim", "n_layers", "vocab_size", "n_ctx", "page_size", "weights_bytes", "kv_bytes", "isa"):
        assert out[name] == getattr(model.info, name)
    assert out["isa"] in out["isas"]
    assert out["model"] == model.meta
    assert 0 < out["stream_bytes"] <= out["weights_bytes"]
    assert program.ok("verify").startswith(b"ok: ")


def test_damaged_files(program: Program, tmp_path: Path) -> None:
    copy = Program(tmp_path / program.path.name)
    shutil.copy2(program.path, copy.path)
    data = bytearray(copy.path.read_bytes())
    data[-5000] ^= 1  # in the weights or tables before the trailer
    copy.path.write_bytes(data)
    assert "do not match the checksum" in copy.refused(3, "verify")
    copy.path.write_bytes(data[:-4096])
    copy.refused(3, "info")
    copy.refused(3, "-p", "x")


def test_bench_rows(program: Program) -> None:
    rows = json.loads(program.ok("bench", "-p", "8", "-n", "4", "-b", "1,2", "-t", "1,2", "-r", "1", "-o", "json"))
    names = ["pp8", "tg4", "batch1", "batch2"]
    assert [(r["test"], r["threads"]) for r in rows] == [(n, t) for t in (1, 2) for n in names]
    assert all(r["tok_s"] > 0 and r["gb_s"] > 0 and r["read_bw_gb_s"] > 0 for r in rows)


def test_context_limit(program: Program, model: Model) -> None:
    n = model.info.n_ctx
    ids = ",".join(["5"] * n)
    assert len(program.ok("--tokens", ids, "-n", "-1", "--print-ids", *GREEDY).split()) == 1
    assert f"the context holds {n}" in program.refused(3, "--tokens", ids + ",5")


def test_refusals(program: Program) -> None:
    assert "is not in the vocabulary" in program.refused(2, "--tokens", "99999999")
    program.refused(2, "-p", "x", "-ub", "65536")
    program.refused(2, "-p", "x", "--isa", "vax")
