"""docs/support.md: every family, format and target with the test that covers it, from the registries and the tests' own parameters.

``python -m tests.support`` writes the page; tests/unit/test_support.py fails where it is not current.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from infc.formats import FORMATS
from infc.frontend.families import FAMILIES
from infc.frontend.hf.families import FAMILIES as FOLDERS
from infc.kernels.spec import registry
from infc.kernels.target import load_targets
from tests.models.families import FAMILIES as DENSE
from tests.models.tiny_moe import EXPERT_TYPES

PAGE = Path(__file__).parents[1] / "docs" / "support.md"
_HEAD = """# What is supported, and which test covers it

Written by `python -m tests.support` (`make docs`) from the registries; do not edit. Kernels know formats and targets but no
families, and families know no formats: a matrix of any family may have any of the formats on any of the targets, as far as its
row length is a multiple of the block. So the first table covers family x target, the second format x target, and the tests of
mixed files (`tests/e2e/test_tiny_bits.py`) that the two meet. A machine that lacks a target's instructions skips its tests,
visibly, with two exceptions. Where there is AVX-512 and no AMX, target amx runs with emulated
tiles: the same C with `tests/kernels/emul_amx.h` in the place of the tile instructions, for kernels and whole programs, so its bits are
tested and its instructions are not. Where there is neither, the compiler checks every family's C for the targets that cannot run.
"""


def _cover(family: str) -> str:
    """The end-to-end test of a family."""
    for families, file in ((DENSE, "test_families"), (EXPERT_TYPES, "test_experts")):
        if family in families:
            return f"`tests/e2e/{file}.py::test_bits[{family}-...]`, `test_accuracy[{family}]`"
    raise LookupError(f"no end-to-end test covers {family}")


def _table(header: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _families() -> Iterator[tuple[str, ...]]:
    folders: dict[str, list[str]] = {}
    for name, family in FOLDERS.items():
        mixtral = family.arch == "llama" and family.experts
        folders.setdefault("mixtral" if mixtral else family.arch, []).append(name)
    marks = ["end to end"] * len(load_targets())
    for name in FAMILIES:
        yield (f"`{name}`", ", ".join(f"`{f}`" for f in folders.get(name, ())) or "no", *marks, _cover(name))
    yield ("`llama` with experts", ", ".join(f"`{f}`" for f in folders["mixtral"]), *marks, _cover("mixtral"))


def _formats() -> Iterator[tuple[str, ...]]:
    targets = load_targets()
    for f in FORMATS.values():
        classes = [", ".join(s.batch for s in registry() if s.weight == f and s.target == t) or "no" for t in targets]
        bits = (8 * f.raw_bytes / f.block_size, 8 * f.r16_bytes / 16 / f.block_size)
        yield (f.name, f"{bits[0]:g}", f"{bits[1]:g}", str(f.block_size), *classes)


def page() -> str:
    """The whole of docs/support.md."""
    names = tuple(t.name for t in load_targets())
    lines = [_HEAD, "## Families\n"]
    lines += _table(("GGUF architecture", "folder of safetensors", *names, "test"), _families())
    lines += ["\n## Formats\n", "Kernels per target by batch class, each held to the scalar build bit for bit and that to numpy by"]
    lines += ["`tests/kernels/test_linear.py`; embedding and layout to the `gguf` package by"]
    lines += ["`tests/kernels/test_formats.py` and `test_repack.py`.\n"]
    lines += _table(("format", "bits a weight, file", "in memory", "block", *names), _formats())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
