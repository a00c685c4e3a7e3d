"""What llama.cpp answers, through ``xllamacpp``, a build of its server (extra ``peer``; `make test` installs it where there is a wheel)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infc.binding.artifact import Artifact
from infc.frontend import gguf
from tests.reference.kl import mean_kl


def llama_cpp_logprobs(model: str | Path, ids: list[int], threads: int = 1) -> NDArray[np.float32]:
    """Log-probabilities (T, vocab) of every position: one request each for the whole vocabulary, the prefix coming from its cache.

    Keys and values are f16, the context is all that the model has (Phi 3's factors depend on it). One thread: two that share cores with
    other programs wait for each other, here 25 times as long. Raises ImportError where xllamacpp is not installed.
    """
    import xllamacpp

    with gguf.read(model) as file:
        tokens, n_ctx = file.kv["tokenizer.ggml.tokens"], file.kv[f"{file.kv['general.architecture']}.context_length"]
    assert isinstance(tokens, list) and isinstance(n_ctx, int) and n_ctx > len(ids)  # one token is made up
    said = tokens.index("a")  # what the server makes up must be text, else it keeps the probabilities to itself; they ignore biases
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx = n_ctx
    params.n_parallel = 1
    params.cpuparams.n_threads = threads
    params.warmup = False
    params.verbosity = 0
    server = xllamacpp.Server(params)
    rows = np.full((len(ids), len(tokens)), np.nan, np.float32)
    for t in range(len(ids)):
        request = {"prompt": ids[: t + 1], "n_predict": 1, "n_probs": len(tokens), "temperature": 0.0, "cache_prompt": True}
        request["logit_bias"] = [[said, 1000.0]]
        top = server.handle_completions(request)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        rows[t, [p["id"] for p in top]] = [p["logprob"] for p in top]
    assert not np.isnan(rows).any()
    return rows


def top1_agreement(theirs: NDArray[np.floating], ours: NDArray[np.floating], tie: float) -> tuple[float, float]:
    """Shares of positions (T): where both choose the same token, and where ours is at least as good but for a tie.

    Random weights often make the two best logits nearly equal, nearer than either program's own rounding (int8 rows, 16-bit keys);
    a trained model does so rarely. Which of the two is then chosen says nothing. So the second share counts a position as well when
    llama.cpp gives our choice a log-probability within ``tie`` nats of that of its own.
    """
    mine = ours.argmax(axis=1)
    lost = theirs.max(axis=1) - np.take_along_axis(theirs, mine[:, None], axis=1)[:, 0]
    return float((lost == 0).mean()), float((lost < tie).mean())


def assert_agrees(artifact: Artifact, model: Path, ids: list[int]) -> None:
    """The program's logits beside llama.cpp's for the file it was made of, by the bounds that docs/testing.md gives reasons for."""
    with artifact.load(threads=2) as llm:
        ours = llm.logits(ids)
    theirs = llama_cpp_logprobs(model, ids)
    assert mean_kl(theirs, ours) < 1e-3
    plain, but_for_ties = top1_agreement(theirs, ours, tie=0.05)
    assert plain >= 0.97 and but_for_ties >= 0.99
