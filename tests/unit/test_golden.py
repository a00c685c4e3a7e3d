"""Emitted C, read in review like written C. `pytest --update-golden` rewrites the files under tests/golden."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infc.emit import emit
from infc.frontend.families import build
from infc.frontend.gguf import read
from infc.frontend.validate import validate
from infc.ir.graph import dump
from infc.kernels.target import target
from infc.options import CompileOptions
from infc.passes.order import run_passes
from infc.plan import Plan, build_plan

GOLDEN = Path(__file__).parents[1] / "golden"
Tiny = Callable[..., Path]

CASES = {
    "q4_1": ({"types": "Q4_1", "head_dim": 32}, ("avx2",)),
    "mixed": ({"types": "mixed", "tied": False, "rope_freqs": True, "n_layers": 3}, ("scalar",)),
    "experts": ({"family": "gpt-oss"}, ("amx",)),
    "shared_expert": ({"family": "qwen2moe"}, ("avx2",)),
}


def _plan(path: Path, targets: tuple[str, ...], **options: object) -> tuple[str, Plan]:
    model = read(path)
    config, _ = validate(model)
    graph = list(run_passes(build(model, config)))[-1][1]
    return dump(graph), build_plan(graph, CompileOptions.create(**options), tuple(target(t) for t in targets), "tiny")


@pytest.mark.parametrize("case", CASES)
def test_emitted_text(case: str, tiny_llama: Tiny, tiny_moe: Tiny, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    arguments, targets = CASES[case]
    text, plan = _plan((tiny_moe if "family" in arguments else tiny_llama)(**arguments), targets)
    emit(plan, tmp_path)
    files = {"graph.txt": text}
    for name in ("program.h", "program.c", *(f"forward_{t}.c" for t in targets)):
        files[name] = (tmp_path / "src" / name).read_text()
    folder = GOLDEN / case
    if request.config.getoption("--update-golden"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(content)
    assert {p.name for p in folder.iterdir()} == set(files)
    for name, content in files.items():
        assert content == (folder / name).read_text(), f"{case}/{name} changed: read the diff, then --update-golden"


def test_equal_bytes_under_another_hash_seed(tiny_llama: Tiny, tmp_path: Path) -> None:
    path = tiny_llama(types="mixed", tied=False)
    script = (
        "import sys; from pathlib import Path; from tests.unit.test_golden import _plan; from infc.emit import emit;"
        "emit(_plan(Path(sys.argv[1]), ('scalar', 'avx2', 'avx512'))[1], Path(sys.argv[2]))"
    )
    folders = []
    for seed in ("1", "2"):
        out = tmp_path / seed
        out.mkdir()
        env = {"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin"}
        subprocess.run([sys.executable, "-c", script, str(path), str(out)], check=True, env=env, cwd=GOLDEN.parents[1])
        folders.append({p.relative_to(out): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()})
    assert folders[0] == folders[1]
    assert len(folders[0]) > 10


def test_no_byte_of_the_file_reaches_c(tiny_llama: Tiny, tmp_path: Path) -> None:
    """E01: hostile strings of the same length leave the emitted sources byte-identical."""
    plain = tiny_llama(types="Q8_0", name="harmless model name")
    hostile = tiny_llama(types="Q8_0", name='*/ system("x"); /*\\')
    outputs = []
    for i, path in enumerate((plain, hostile)):
        out = tmp_path / str(i)
        out.mkdir()
        emit(_plan(path, ("avx2",))[1], out)
        outputs.append({p.name: p.read_bytes() for p in (out / "src").rglob("*") if p.is_file()})
    assert outputs[0] == outputs[1]
