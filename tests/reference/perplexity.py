"""Perplexity of one model in every weight format, by infc, by llama.cpp and in float64, on the same files.

    python -m tests.reference.perplexity --model M.gguf --llama BIN [--formats Q4_K,Q4_K_M] [--windows 8] [--exact 3] [--work DIR]

BIN holds llama.cpp's llama-quantize and llama-perplexity (the llama-cpp-python source package builds them). M is dequantized to F32, as
it is for formats in blocks of up to 32, widened to multiples of 256 for the others (tests/models/widened.py), and quantized by
llama-quantize, all matrices alike (--pure); a mix (Q4_K_M) chooses as llama-quantize does. The text is tests/data/passage.txt and then
Python's language reference. Method of llama.cpp's tool: windows of 512 tokens, each begun anew, the second half scored.

Of each file: both perplexities over all windows and their ratio; over the first --exact windows each one's perplexity against that of
float64, and its mean KL divergence from it, among the tokens whose probability llama-perplexity writes down (not e^-16 below the largest).
After +- stands the standard error of the mean difference of the log-likelihoods, position by position.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
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


def ask_llama(llama: Path, model: Path, text: Path, windows: int, threads: int, out: Path) -> Peer:
    """llama.cpp's own perplexity tool."""
    command = [llama / "llama-perplexity", "-m", model, "-f", text, "-c", WINDOW, "-b", WINDOW, "--chunks", windows, "-t", threads]
    said = run([*command, "--kl-divergence-base", out])
    after = [float(p) for _, p in re.findall(r"\[(\d+)\]([0-9.]+|nan|inf),", said)]
    n_ctx, n_vocab, n_chunk = np.fromfile(out, np.int32, 3, offset=8)
    if (n_ctx, n_chunk, len(after)) != (WINDOW, windows, windows):
        raise RuntimeError(f"llama-perplexity scored {len(after)} windows of {n_ctx} tokens: {windows} of {WINDOW} were asked for")
    tokens = np.fromfile(out, np.int32, windows * WINDOW, offset=20).reshape(windows, WINDOW)
    return Peer(tokens, after, out, int(n_vocab))


def compiled(model: Path, folder: Path, target: str) -> Any:
    """The model as infc compiles it."""
    return infc.compile(model, out=folder, name="file", target=target, pgo=False, lto=False, ctx=WINDOW, max_seqs=1, cache=False)


def difference(a: F64, b: F64) -> str:
    """How much larger the perplexity of log-likelihoods ``a`` is than that of ``b``, in percent, and the standard error of that."""
    d = b - a
    return f"{100 * np.expm1(d.mean()):+.3f} +- {100 * d.std(ddof=1) / len(d) ** 0.5:.3f}"


def _kept(theirs: F64) -> NDArray[np.bool_]:
    """(SCORED, vocab): which probabilities llama.cpp wrote; the others all have the least one, and together they are too much."""
    return theirs > theirs.min(axis=1, keepdims=True)


def compare(asked: argparse.Namespace, format: str, text: Path, work: Path) -> str:
    """The row of the table."""
    model = quantized(asked.llama, asked.work, asked.model, format)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        peer = ask_llama(asked.llama, model, text, asked.windows, asked.threads, Path(folder) / "logits")
        ours = compiled(model, Path(folder) / "artifact", asked.target).load(threads=asked.threads)
        assert ours.tokenize(text.read_text(encoding="utf-8"))[: peer.tokens.size] == peer.tokens.reshape(-1).tolist()
        oracle = LlamaF64(model) if asked.exact else None
        likelihoods: list[list[F64]] = [[], [], []]  # infc, llama.cpp, float64
        kl: list[list[F64]] = [[], []]
        kept: list[NDArray[np.bool_]] = []
        for w, ids in enumerate(peer.tokens):
            scored, target = slice(FIRST, FIRST + SCORED), ids[FIRST + 1 :]
            rows = [log_softmax(np.array(ours.logits(ids.tolist()))[scored]), peer.log_probabilities(w)]
            if oracle is not None and w < asked.exact:
                rows.append(log_softmax(oracle.logits(ids)[scored]))
                exact_kept, *others = (np.where(_kept(rows[1]), row, _NEVER) for row in (rows[2], *rows[:2]))
                for other, divergence in zip(others, kl, strict=True):
                    divergence.append(kl_per_position(exact_kept, other))
            for row, to in zip(rows, likelihoods, strict=False):
                to.append(row[np.arange(SCORED), target])
            kept.append(_kept(rows[1])[np.arange(SCORED), target])
    mine, theirs, exact = (np.concatenate(x) if x else np.zeros(0) for x in likelihoods)
    whole = np.concatenate(kept)  # what llama.cpp cut off cannot be compared position by position
    mean, last = float(np.exp(-mine.mean())), peer.perplexity[-1]
    row = f"| {format} | {mean:.4f} | {last:.4f} | {100 * (mean / last - 1):+.3f} +- {difference(mine[whole], theirs[whole]).split()[-1]} |"
    if len(exact):
        n, some = len(exact), whole[: len(exact)]
        truth = float(np.exp(-exact.mean()))
        them = f"{100 * (peer.perplexity[asked.exact - 1] / truth - 1):+.3f} +- {difference(theirs[:n][some], exact[some]).split()[-1]}"
        row += f" {truth:.4f} | {difference(mine[:n], exact)} | {them} |"
        row += "".join(f" {np.concatenate(x).mean():.6f} |" for x in kl)
    return row


def main(arguments: list[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="GGUF file of a llama model")
    parser.add_argument("--llama", type=Path, required=True, help="folder of llama-quantize and llama-perplexity")
    parser.add_argument("--formats", default=",".join(f for f in FORMATS if f != "F32"))
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--exact", type=int, default=3, help="windows that float64 scores too")
    parser.add_argument("--target", default="native")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, help="where files are kept (default: they are not)")
    asked = parser.parse_args(arguments)
    missing = [asked.llama / n for n in ("llama-quantize", "llama-perplexity") if not (asked.llama / n).is_file()]
    missing += [p for p in (asked.model, asked.work) if p is not None and not p.exists()]
    if missing or asked.windows < 2 or not 0 <= asked.exact <= asked.windows:
        parser.error(f"{missing[0]} is missing" if missing else "--windows begins at 2, --exact is at most as many")
    with tempfile.TemporaryDirectory(dir=asked.work) as folder:
        work = Path(folder)
        asked.work = asked.work or work
        text = work / "text"
        words = "\n\n".join(topics[name] for name in sorted(topics))
        text.write_text(_PASSAGE.read_text(encoding="utf-8") + "\n\n" + words[: 6 * WINDOW * asked.windows], encoding="utf-8")
        heads = ["format", "infc", "llama.cpp", "infc over llama.cpp, %"]
        if asked.exact:
            heads += ["float64", "infc over it, %", "llama.cpp over it, %", "KL, infc", "KL, llama.cpp"]
        print("| " + " | ".join(heads) + " |")
        print("|---" * len(heads) + "|", flush=True)
        for format in asked.formats.split(","):
            print(compare(asked, format, text, work), flush=True)
            (asked.work / f"{format}.gguf").unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
