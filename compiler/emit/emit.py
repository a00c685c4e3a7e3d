"""Plan -> C files, recipe.json and a Makefile under DIR/src, with the runtime's sources beside them."""

from __future__ import annotations

import shutil
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from infc.emit.env import render
from infc.emit.forward import ForwardContext
from infc.emit.phases import FILE as PHASES
from infc.emit.phases import phases_json
from infc.emit.recipe import Recipe, Source
from infc.plan.plan import Plan

MAIN_ONLY = "main"

# Flags of the contract: the toolchain adds optimisation, profile, hardening and warnings.
C_FLAGS = (
    "-std=gnu11",
    "-ffp-contract=off",  # the contract names every fused operation; the compiler may add none
    "-fno-math-errno",  # sqrtf and rintf inline; the results are the same
)
LINK_FLAGS = ("-lm", "-lpthread", "-ldl")


def _copy_tree(folder: Traversable, out: Path) -> list[str]:
    """Copy headers and sources; returns the relative paths of the .c files, sorted."""
    out.mkdir(parents=True, exist_ok=True)
    found = []
    for item in sorted(folder.iterdir(), key=lambda i: i.name):
        if item.is_dir() and item.name != "__pycache__":
            found += [f"{item.name}/{p}" for p in _copy_tree(item, out / item.name)]
        elif item.name.endswith((".c", ".h")):
            (out / item.name).write_bytes(item.read_bytes())
            if item.name.endswith(".c"):
                found.append(item.name)
    return found


def _role(path: str) -> str:
    """A source's role in the recipe."""
    return "main" if path in MAIN_SOURCES else "tokenizer" if path in TOKENIZER_SOURCES else "runtime"


TOKENIZER_SOURCES = frozenset(
    ("infc_tokenizer.c", "infc_merge.c", "infc_pieces.c", "infc_pretok.c", "infc_scan.c", "infc_unigram.c", "infc_wordpiece.c")
)


MAIN_SOURCES = frozenset(
    ("infc_main.c", "infc_args.c", "infc_generate.c", "infc_chat_cli.c", "infc_bench.c", "infc_bandwidth.c", "infc_perplexity.c",
     "infc_json.c", "infc_output.c", "infc_session.c", "infc_describe.c", "infc_bench_report.c", "infc_startup.c",
     "infc_peak.c", "infc_together.c")
)  # fmt: skip


def emit(plan: Plan, out: Path) -> Recipe:
    """Write everything under ``out``/src (which is replaced) and NAME.h; returns the recipe."""
    src = out / "src"
    if src.exists():
        shutil.rmtree(src)
    runtime = _copy_tree(resources.files("infc.runtime_c"), src)
    (src / "program.h").write_text(render("program.h.j2", plan=plan, c=plan.config))
    (src / "program.c").write_text(render("program.c.j2", plan=plan, layer_offsets=plan.layer_offsets))
    sources = [Source(path, (), _role(path)) for path in runtime]
    sources.append(Source("program.c", (), "program"))
    for tp in plan.targets:
        path = f"forward_{tp.target.isa}.c"
        (src / path).write_text(render("forward.c.j2", **ForwardContext(plan, tp).build()))
        sources.append(Source(path, (*tp.target.flags, f"-D{tp.target.define}"), "forward"))
    (out / f"{plan.name}.h").write_bytes((src / "infc.h").read_bytes())
    recipe = Recipe(plan.name, tuple(t.target.name for t in plan.targets), tuple(sources), (".",), C_FLAGS, LINK_FLAGS)
    (src / "recipe.json").write_text(recipe.to_json())
    (src / PHASES).write_text(phases_json(plan))
    makefile = render("Makefile.j2", name=recipe.name, sources=recipe.sources, c_flags=("-O2", *C_FLAGS), link_flags=LINK_FLAGS)
    (src / "Makefile").write_text(makefile)
    return recipe
