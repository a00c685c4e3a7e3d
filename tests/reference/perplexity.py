"""Perplexity of one model in every weight format, by infc, by llama.cpp and in float64, on the same files.

    python -m tests.reference.perplexity --model M.gguf --llama BIN [--formats Q4_K,Q4_K_M] [--windows 8] [--exact 3]
        [--again='-fa off'] [--int8 32,256] [--work DIR]

BIN holds llama.cpp's llama-quantize and llama-perplexity (the llama-cpp-python source package builds them). M is dequantized to F32, as
it is for formats in blocks of up to 32, widened to multiples of 256 for the others (tests/models/widened.py), and quantized by
llama-quantize, all matrices alike (--pure); a mix (Q4_K_M) chooses as llama-quantize does. The text is tests/data/passage.txt and then
Python's language reference. Method of llama.cpp's tool: windows of 512 tokens, each begun anew, the second half scored.

Of each file: both perplexities over all windows and their ratio; over the first --exact windows each one's perplexity against that of
float64, and its mean KL divergence from it, among the tokens whose probability llama-perplexity writes down (not e^-16 below the largest).
After +- stands the standard error of the mean difference of the log-likelihoods, position by position. Last the mean of the ratios.
Two controls: --again asks llama.cpp once more with other options and compares it with itself; --int8 rounds in float64 what matrices
multiply, in blocks, and nothing else.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pydoc_data.topics import topics  # type: ignore[attr-defined]
from typing import Any

import numpy as np
from numpy.typing import NDArray

import infc
from infc.formats import FORMATS
from tests.models.widened import widen
from tests.reference.kl import kl_per_position, log_softmax
from tests.reference.llama_f64 import LlamaF64

WINDOW = 512
FIRST = WINDOW // 2
SCORED = WINDOW - 1 - FIRST  # the last position predicts a token of the next window
_PASSAGE = Path(__file__).parent.parent / "data" / "passage.txt"
F64 = NDArray[np.float64]
_NEVER = -1e4  # the logarithm of no probability


@dataclass(frozen=True)
class Peer:
    """llama.cpp's answer: tokens (windows, WINDOW), perplexity after each window, and its log-probabilities on disk."""

    tokens: NDArray[np.int32]
    perplexity: list[float]
    file: Path
    n_vocab: int

    def log_probabilities(self, window: int) -> F64:
        """(SCORED, vocab); below 16 under the largest they are cut off. Written as 16-bit steps of a scale, two floats before each row."""
        n = 2 * ((self.n_vocab + 1) // 2) + 4
        head = 8 + 3 * 4 + self.tokens.nbytes
        rows = np.fromfile(self.file, np.uint16, SCORED * n, offset=head + window * SCORED * n * 2).reshape(SCORED, n)
        scale = np.ascontiguousarray(rows[:, :4]).view(np.float32).astype(np.float64)
        return scale[:, 1:] + scale[:, :1] * rows[:, 4 : 4 + self.n_vocab]


def run(command: list[Any]) -> str:
    """What the command printed; RuntimeError with its last words if it failed."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: " + (done.stderr or done.stdout)[-500:])
    return done.stdout + done.stderr


def quantized(llama: Path, work: Path, model: Path, format: str) -> Path:
    """The model in one format, from its F32 twin, which is written once."""
    mix = format not in FORMATS
    wide = mix or FORMATS[format].block_size == 256
    source = work / ("wide.gguf" if wide else "plain.gguf")
    if not source.exists():
        widen(model, source.with_suffix(".part"), 256 if wide else 1)
        source.with_suffix(".part").rename(source)
    if format == "F32":
        return source
    out = work / f"{format}.gguf"
    name = {"MXFP4": "MXFP4_MOE", "Q3_K": "Q3_K_S", "Q4_K": "Q4_K_S", "Q5_K": "Q5_K_S"}.get(format, format)
    how: list[Any] = [] if mix else ["--pure"]
    run([llama / "llama-quantize", *how, source, out, name, 2])
    return out


def ask_llama(llama: Path, model: Path, text: Path, windows: int, threads: int, out: Path, options: Sequence[str] = ()) -> Peer:
    """llama.cpp's own perplexity tool."""
    command = [llama / "llama-perplexity", "-m", model, "-f", text, "-c", WINDOW, "-b", WINDOW, "--chunks", windows, "-t", threads]
    said = run([*command, "--kl-divergence-base", out, *options])
    after = [float(p) for _, p in re.findall(r"\[(\d+)\]([0-9.]+|nan|inf),", said)]
    n_ctx, n_vocab, n_chunk = np.fromfile(out, np.int32, 3, offset=8)
    if (n_ctx, n_chunk, len(after)) != (WINDOW, windows, windows):
        raise RuntimeError(f"llama-perplexity scored {len(after)} windows of {n_ctx} tokens: {windows} of {WINDOW} were asked for")
    tokens = np.fromfile(out, np.int32, windows * WINDOW, offset=20).reshape(windows, WINDOW)
    return Peer(tokens, after, out, int(n_vocab))


def compiled(model: Path, folder: Path, target: str) -> Any:
    """The model as infc compiles it."""
    return infc.compile(model, out=folder, name="file", target=target, pgo=False, lto=False, ctx=WINDOW, max_seqs=1, cache=False)


def _kept(theirs: F64) -> NDArray[np.bool_]:
    """(SCORED, vocab): which probabilities llama.cpp wrote; the others all have the least one, and together they are too much."""
    return theirs > theirs.min(axis=1, keepdims=True)


def int8_blocks(x: F64, block: int) -> F64:
    """x (T, k), each block of a row to the nearest multiples of its max|x| / 127."""
    b = x.reshape(len(x), -1, block)
    d = np.abs(b).max(axis=-1, keepdims=True) / 127
    return (np.rint(b / np.where(d == 0, 1, d)) * d).reshape(x.shape)


class Oracle(LlamaF64):
    """Float64; where ``block`` is set, with activations rounded to int8."""

    block = 0

    def has(self, block: int) -> bool:
        """Whether rows of every matrix divide by the block."""
        return all(w.shape[-1] % block == 0 for w in self.w.values() if w.ndim == 2)

    def _times(self, x: F64, weight: str) -> F64:
        return super()._times(int8_blocks(x, self.block) if self.block else x, weight)


@dataclass
class Scores:
    """Of one program: the log-likelihood of each scored token, whether it is exact, and its divergence from float64 where that is known."""

    likelihood: list[F64] = field(default_factory=list)
    whole: list[NDArray[np.bool_]] = field(default_factory=list)  # false: llama.cpp cut the token off
    kl: list[F64] = field(default_factory=list)
    after: list[float] = field(default_factory=list)  # llama.cpp's perplexities, which know of no cut

    def perplexity(self, windows: int) -> float:
        """Over the first windows."""
        return self.after[windows - 1] if self.after else float(np.exp(-np.concatenate(self.likelihood[:windows]).mean()))

    def over(self, other: Scores, windows: int) -> str:
        """How much larger the perplexity is than the other's, in percent, +- the standard error from the tokens that neither cut off."""
        whole = np.concatenate(self.whole[:windows]) & np.concatenate(other.whole[:windows])
        d = np.concatenate(other.likelihood[:windows])[whole] - np.concatenate(self.likelihood[:windows])[whole]
        ratio = self.perplexity(windows) / other.perplexity(windows)
        return f"{100 * (ratio - 1):+.3f} +- {100 * d.std(ddof=1) / len(d) ** 0.5:.3f}"


def measure(asked: argparse.Namespace, format: str, text: Path, work: Path) -> dict[str, Scores]:
    """Scores of infc, llama.cpp, llama.cpp again if asked for, and over the first windows those of float64, rounded and exact."""
    model = quantized(asked.llama, asked.work, asked.model, format)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        ways = {"llama.cpp": [], "again": asked.again.split()} if asked.again else {"llama.cpp": []}
        peers = {n: ask_llama(asked.llama, model, text, asked.windows, asked.threads, Path(folder) / n, how) for n, how in ways.items()}
        tokens = peers["llama.cpp"].tokens
        ours = compiled(model, Path(folder) / "artifact", asked.target).load(threads=asked.threads)
        assert ours.tokenize(text.read_text(encoding="utf-8"))[: tokens.size] == tokens.reshape(-1).tolist()
        oracle = Oracle(model) if asked.exact else None
        scores = {"infc": Scores()} | {name: Scores(after=peer.perplexity) for name, peer in peers.items()}
        scores |= {f"int8/{block}": Scores() for block in asked.int8} | {"float64": Scores()}
        scored = slice(FIRST, FIRST + SCORED)
        for w, ids in enumerate(tokens):
            rows = {"infc": log_softmax(ours.logits(ids.tolist())[scored])} | {n: p.log_probabilities(w) for n, p in peers.items()}
            kept = {name: _kept(row) for name, row in rows.items() if name != "infc"}
            if oracle is not None and w < asked.exact:
                for block in (*filter(oracle.has, asked.int8), 0):
                    oracle.block = block
                    rows[f"int8/{block}" if block else "float64"] = log_softmax(oracle.logits(ids)[scored])
                for name in rows.keys() - {"float64"}:
                    some = kept.get(name, kept["llama.cpp"])
                    scores[name].kl.append(kl_per_position(np.where(some, rows["float64"], _NEVER), np.where(some, rows[name], _NEVER)))
            at = (np.arange(SCORED), ids[FIRST + 1 :])
            for name, row in rows.items():
                scores[name].likelihood.append(row[at])
                scores[name].whole.append(kept[name][at] if name in kept else np.ones(SCORED, np.bool_))
    return scores


def together(formats: list[dict[str, Scores]]) -> str:
    """infc over llama.cpp, the mean of formats, in percent. They round independently: its error is smaller than each one's."""
    pairs = [(scores["infc"], scores["llama.cpp"]) for scores in formats]
    n = len(pairs[0][0].likelihood)
    whole = np.all([np.concatenate(s.whole) for pair in pairs for s in pair], axis=0)
    d = np.mean([np.concatenate(b.likelihood) - np.concatenate(a.likelihood) for a, b in pairs], axis=0)[whole]
    ratio = np.mean([np.log(a.perplexity(n) / b.perplexity(n)) for a, b in pairs])
    return f"{100 * np.expm1(ratio):+.3f} +- {100 * d.std(ddof=1) / len(d) ** 0.5:.3f}"


def heads(*, exact: bool, again: bool, blocks: list[int]) -> list[str]:
    """Of the table's columns."""
    names = ["format", "infc", "llama.cpp", "infc over llama.cpp, %"] + ["llama.cpp again over itself, %"] * again
    if exact:
        names += ["float64", "infc over it, %", "llama.cpp over it, %", "KL, infc", "KL, llama.cpp"] + ["KL, again"] * again
        names += [f"KL, int8/{block}" for block in blocks] + [f"int8/{block} over float64, %" for block in blocks]
    return names


def row(format: str, scores: dict[str, Scores]) -> str:
    """The row of the table."""
    ours, theirs, exact = (scores[name] for name in ("infc", "llama.cpp", "float64"))
    n, some = len(ours.likelihood), len(exact.likelihood)
    cells = [format, f"{ours.perplexity(n):.4f}", f"{theirs.perplexity(n):.4f}", ours.over(theirs, n)]
    if "again" in scores:
        cells.append(scores["again"].over(theirs, n))
    if some:
        cells += [f"{exact.perplexity(some):.4f}", ours.over(exact, some), theirs.over(exact, some)]
        cells += [f"{np.concatenate(s.kl).mean():.6f}" if s.kl else "-" for s in scores.values() if s is not exact]
        cells += [s.over(exact, some) if s.kl else "-" for name, s in scores.items() if name.startswith("int8")]
    return "| " + " | ".join(cells) + " |"


def main(arguments: list[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="GGUF file of a llama model")
    parser.add_argument("--llama", type=Path, required=True, help="folder of llama-quantize and llama-perplexity")
    parser.add_argument("--formats", default=",".join(f for f in FORMATS if f != "F32"))
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--exact", type=int, default=3, help="windows that float64 scores too")
    parser.add_argument("--again", default="", help="options with which llama.cpp is asked once more: --again='-fa off'")
    parser.add_argument("--int8", default="", help="sizes of blocks in which float64 rounds activations to int8: 32,256")
    parser.add_argument("--target", default="native")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, help="where files are kept (default: they are not)")
    asked = parser.parse_args(arguments)
    blocks = asked.int8.split(",") if asked.int8 else []
    if not all(b.isdecimal() and int(b) for b in blocks):
        parser.error(f"--int8 {asked.int8}: sizes of blocks with commas between are expected, as in 32,256")
    asked.int8 = [int(b) for b in blocks]
    missing = [asked.llama / n for n in ("llama-quantize", "llama-perplexity") if not (asked.llama / n).is_file()]
    missing += [p for p in (asked.model, asked.work) if p is not None and not p.exists()]
    if asked.int8 and not asked.exact:
        parser.error("--int8 is compared with float64, which --exact 0 leaves out")
    if missing or asked.windows < 2 or not 0 <= asked.exact <= asked.windows:
        parser.error(f"{missing[0]} is missing" if missing else "--windows begins at 2, --exact is at most as many")
    with tempfile.TemporaryDirectory(dir=asked.work) as folder:
        work = Path(folder)
        asked.work = asked.work or work
        text = work / "text"
        words = "\n\n".join(topics[name] for name in sorted(topics))
        text.write_text(_PASSAGE.read_text(encoding="utf-8") + "\n\n" + words[: 6 * WINDOW * asked.windows], encoding="utf-8")
        names = heads(exact=bool(asked.exact), again=bool(asked.again), blocks=asked.int8)
        print("| " + " | ".join(names) + " |")
        print("|---" * len(names) + "|", flush=True)
        measured = []
        for format in asked.formats.split(","):
            measured.append(measure(asked, format, text, work))
            print(row(format, measured[-1]), flush=True)
            (asked.work / f"{format}.gguf").unlink(missing_ok=True)
        print(f"\ninfc over llama.cpp, mean of these formats: {together(measured)} %")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
