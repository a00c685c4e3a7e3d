"""The emitted program and the runtime under AddressSanitizer and UndefinedBehaviorSanitizer: clean, and the same bits."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import infc
from infc.binding.artifact import Artifact
from infc.toolchain import host, process
from infc.toolchain.append import append_blob, read_trailer
from tests import shared
from tests.e2e.test_experts import N_CTX as EXPERT_CTX
from tests.e2e.test_experts import options as expert_options
from tests.e2e.test_tiny_bits import MODELS, targets
from tests.models.tiny_moe import EXPERT_TYPES

APART = True  # see tests/conftest.py
Tiny = Callable[..., Path]
# Of test_tiny_bits and test_experts, whose artifacts serve here too.
CASES = (("mixed", "avx2"), ("shared heads, odd panels", "scalar"), ("gpt-oss", "avx2"))
# -fno-sanitize-recover: the first finding ends the program. Fresh pages are filled with NaN (INFC_POISON_PAGES), so that a read of a
# position that was never written shows in the logits. -g1: a report's lines and functions, in two thirds of the time that -g takes.
FLAGS = ("-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DINFC_POISON_PAGES", "-ffp-contract=off")
# Of forward passes pointer sums are not checked, only what is read and written through them: that would double their time to compile.
FORWARD = ("-fno-sanitize=pointer-overflow",)


@pytest.fixture(scope="module", params=CASES, ids=lambda p: f"{p[0]} on {p[1]}")
def pair(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    compiled: Callable[..., Artifact],
    objects_folder: Path,
    tiny_llama: Tiny,
    tiny_moe: Callable[..., Path],
) -> tuple[Artifact, Path, str]:
    """(normal artifact, sanitized executable of the same plan, instruction set)."""
    name, isa = request.param
    if isa not in host.runnable():
        pytest.skip(f"this CPU has no {isa}")
    experts = name in EXPERT_TYPES
    path = tiny_moe(name, EXPERT_CTX) if experts else tiny_llama(**MODELS[name])
    options = expert_options(name) if experts else {"name": "tiny", "target": targets(name), "lto": False}
    normal = compiled(path, emulated=True, **options)
    work = tmp_path_factory.mktemp("sanitized")
    infc.compile(path, **(options | {"target": isa}), stop_after="emit", out=work / "emitted")
    src = work / "emitted" / "src"
    recipe = json.loads((src / "recipe.json").read_text())
    objects, jobs = [], []
    for source in recipe["sources"]:
        objects.append(source["path"].replace("/", "_") + ".o")
        flags = [f for f in source["flags"] if f != "-O3"]
        lighter = FORWARD if source["path"].startswith("forward_") else ()
        jobs.append(["gcc", *recipe["c_flags"], *flags, *FLAGS, *lighter, "-c", source["path"], "-o", objects[-1]])
    with shared.objects(objects_folder), ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: process.check(job, src, work, f"compiling {job[-3]}"), jobs))
    subprocess.run(["gcc", *FLAGS, *objects, *recipe["link_flags"], "-o", "tiny"], cwd=src, check=True)
    trailer = read_trailer(normal.program)
    assert trailer is not None
    offset, size, digest = trailer
    blob = work / "blob"
    with normal.program.open("rb") as f:
        f.seek(offset)
        blob.write_bytes(f.read(size))
    append_blob(src / "tiny", blob, digest)
    return normal, src / "tiny", isa


def _run(program: Path, *arguments: str, text: str = "") -> str:
    done = subprocess.run([program, *arguments], input=text, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stderr
    assert "runtime error" not in done.stderr and "Sanitizer" not in done.stderr
    return done.stdout


IDS = ",".join(str(4 + 7 * i % 300) for i in range(75))


@pytest.mark.asan
@pytest.mark.parametrize(("threads", "chunk"), [(1, 512), (2, 512), (3, 5), (2, 1), (1, 16)])
def test_logits_are_the_same(pair: tuple[Artifact, Path, str], threads: int, chunk: int) -> None:
    normal, sanitized, isa = pair
    options = ["--tokens", IDS, "-n", "0", "-t", str(threads), "-ub", str(chunk), "--logits-hash", "--json"]
    expected = json.loads(_run(normal.program, *options, "--isa", isa))
    assert json.loads(_run(sanitized, *options))["logits_hash"] == expected["logits_hash"]


@pytest.mark.asan
def test_every_command_runs_clean(pair: tuple[Artifact, Path, str], tmp_path: Path) -> None:
    _, program, _ = pair
    passage = tmp_path / "text"
    passage.write_text("the cat sat on the mat and the dog ran to the house " * 12)
    _run(program, "-p", "once upon a time", "-n", "40", "--temp", "0.9", "--top-k", "20", "--repeat-penalty", "1.2", "--seed", "3")
    _run(program, "chat", "-n", "8", "--seed", "1", text="hello\nand again\n")
    _run(program, "perplexity", str(passage), "-c", "64")
    _run(program, "bench", "-p", "20", "-n", "4", "-b", "1,3", "-r", "1", "-t", "2", "-o", "json")
    _run(program, "tokenize", "naïve 世界 <|im_end|>")
    _run(program, "verify")
    _run(program, "info")
