"""``python -m tests.replay BASE``: emitted C at revision BASE and here, as one diff. A refactor shows nothing.

The model files are written once, by this tree; each revision's own code then emits them for every target.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.models.tiny import FORMATS, write_tiny_llama

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / ".replay"
PACKAGES = ("templates", "runtime_c", "targets")  # they lie beside compiler/ and are imported below infc
EMIT = """
import sys
# The editable install would lend a revision the modules that it lacks.
sys.meta_path = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")]
from infc import pipeline
for model in sys.argv[2:]:
    name = model.rsplit("/", 1)[1].removesuffix(".gguf")
    for target in ("scalar", "avx2", "avx512", "scalar,avx2,avx512"):
        out = f"{sys.argv[1]}/{name}-{target.replace(',', '+')}"
        pipeline.compile(model, target=target, stop_after="emit", name=name, out=out)
"""


def models(folder: Path) -> list[Path]:
    """One tiny model a weight format, one with untied heads, one whose shapes fill no whole panel."""
    folder.mkdir(parents=True)
    made = [write_tiny_llama(folder / f"{f.lower()}.gguf", types=f) for f in FORMATS]
    made.append(write_tiny_llama(folder / "untied.gguf", tied=False))
    return made


def package_of(tree: Path, farm: Path) -> Path:
    """A folder in which ``import infc`` finds the compiler of ``tree``."""
    package = farm / "infc"
    package.mkdir(parents=True)
    for item in (tree / "compiler").iterdir():
        if item.name != "__pycache__":
            (package / item.name).symlink_to(item)
    for name in PACKAGES:
        (package / name).symlink_to(tree / name)
    return farm


def emit(tree: Path, label: str, files: list[Path]) -> Path:
    """Emit every model with the code of ``tree``."""
    out = WORK / label
    env = {**os.environ, "PYTHONPATH": str(package_of(tree, WORK / f"{label}.packages"))}
    subprocess.run([sys.executable, "-c", EMIT, str(out), *map(str, files)], env=env, check=True)
    return out


def main(base: str) -> int:
    """Print the diff; 0 if there is none, 1 if there is one."""
    shutil.rmtree(WORK, ignore_errors=True)
    files = models(WORK / "models")
    tree = WORK / "tree"
    subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=True)
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, base], cwd=ROOT, check=True)
    try:
        emit(tree, "base", files)
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)
    emit(ROOT, "here", files)
    done = subprocess.run(["git", "--no-pager", "diff", "--no-index", "--stat", "--patch", "base", "here"], cwd=WORK, check=False)
    print(f"replay: {'no difference' if done.returncode == 0 else 'differences'} between {base} and this tree", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "main"))
