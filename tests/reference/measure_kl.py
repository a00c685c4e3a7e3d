"""How far a program's predictions are from exact arithmetic: python -m tests.reference.measure_kl --model M [--artifact DIR]

Prints one line for each: mean, median and largest KL(float64 || other) in nats over the positions of an English text, how
often the most likely token agrees, and the root mean square and largest difference of the centred logits. llama.cpp is
asked through llama-cpp-python when it is importable (one prefill) and else through xllamacpp (one request a position: slow).
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.reference.kl import kl_per_position, log_softmax
from tests.reference.llama_f64 import LlamaF64

_TEXT = Path(__file__).parent.parent / "data" / "passage.txt"
Logits = NDArray[np.floating]


def llama_cpp_logits(model: str, ids: list[int], threads: int, chunk: int) -> Logits:
    """Logits (T, vocab) of one prefill by llama-cpp-python, llama.cpp's defaults otherwise."""
    import llama_cpp

    llm = llama_cpp.Llama(
        model, n_ctx=len(ids), n_batch=chunk, n_ubatch=chunk, logits_all=True, n_threads=threads, n_threads_batch=threads,
        verbose=False,
    )  # fmt: skip
    llm.eval(ids)
    return np.array(llm.scores[: len(ids)])


def xllamacpp_logprobs(model: str, ids: list[int], threads: int) -> Logits:
    """Log-probabilities (T, vocab): one request a position for the whole vocabulary, the prefix coming from its cache."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = len(ids) + 8
    params.n_parallel = 1
    params.cpuparams.n_threads = threads
    params.warmup = False
    server = xllamacpp.Server(params)
    n_vocab = 0
    rows = []
    for t in range(len(ids)):
        request = {"prompt": ids[: t + 1], "n_predict": 1, "n_probs": n_vocab or 1 << 20, "temperature": 0.0, "cache_prompt": True}
        top = server.handle_completions(request)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        n_vocab = len(top)
        row = np.empty(n_vocab, np.float32)
        row[[p["id"] for p in top]] = [p["logprob"] for p in top]
        rows.append(row)
    return np.array(rows)


def infc_logits(artifact: str, ids: list[int], threads: int) -> Logits:
    """Logits (T, vocab) of a compiled model."""
    import infc

    return np.array(infc.load(artifact, threads=threads).logits(ids))


def token_ids(model: str, text: str) -> list[int]:
    """The text's tokens by HF ``tokenizers`` from the file's own vocabulary (byte-level BPE with GPT-2's or digit splitting)."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    from infc.frontend import gguf

    with gguf.read(model) as file:
        kv = file.kv
    tokens, merges = kv["tokenizer.ggml.tokens"], kv["tokenizer.ggml.merges"]
    assert isinstance(tokens, list) and isinstance(merges, list)
    pairs = [(m.partition(" ")[0], m.partition(" ")[2]) for m in merges]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, pairs))
    steps = [pre_tokenizers.Digits(individual_digits=True)] if kv["tokenizer.ggml.pre"] == "smollm" else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    ids: list[int] = tokenizer.encode(text).ids
    return ids


def report(name: str, reference: Logits, other: Logits) -> None:
    kl = kl_per_position(reference, other)
    agree = float((reference.argmax(axis=1) == other.argmax(axis=1)).mean())
    error = np.abs(log_softmax(reference) - log_softmax(other))
    print(
        f"{name:<10} mean KL {kl.mean():.6f} +- {kl.std() / len(kl) ** 0.5:.6f}  median {np.median(kl):.6f}  max {kl.max():.6f}  "
        f"argmax {100 * agree:.1f} %  log-probability error: rms {np.sqrt((error**2).mean()):.4f}  max {error.max():.3f}",
        flush=True,
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="GGUF file")
    parser.add_argument("--artifact", action="append", default=[], help="folder made by `infc compile`; may be repeated")
    parser.add_argument("--text", type=Path, default=_TEXT)
    parser.add_argument("--positions", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--chunk", type=int, default=512, help="of llama.cpp's prefill")
    parser.add_argument("--peer", choices=["auto", "llama_cpp", "xllamacpp", "none"], default="auto")
    options = parser.parse_args(arguments)

    ids = token_ids(options.model, options.text.read_text(encoding="utf-8"))[: options.positions]
    start = time.monotonic()
    reference = LlamaF64(options.model).logits(ids)
    perplexity = np.exp(-log_softmax(reference)[np.arange(len(ids) - 1), ids[1:]].mean())
    print(f"float64    {len(ids)} positions, perplexity {perplexity:.3f}, {time.monotonic() - start:.1f} s", flush=True)
    peer = options.peer
    if peer == "auto":
        peer = next((p for p in ("llama_cpp", "xllamacpp") if importlib.util.find_spec(p)), "none")
    if peer == "llama_cpp":
        report("llama.cpp", reference, llama_cpp_logits(options.model, ids, options.threads, options.chunk))
    elif peer == "xllamacpp":
        report("llama.cpp", reference, xllamacpp_logprobs(options.model, ids, options.threads))
    for artifact in options.artifact:
        report("infc", reference, infc_logits(artifact, ids, options.threads))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
