"""What llama.cpp answers, through the extra ``xllamacpp`` (a build of its server; not among the test's requirements)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infc.frontend import gguf


def llama_cpp_logprobs(model: str | Path, ids: list[int], threads: int = 2) -> NDArray[np.float32]:
    """Log-probabilities (T, vocab) of every position: one request each for the whole vocabulary, the prefix coming from its cache.

    Keys and values are f16. Raises ImportError where xllamacpp is not installed.
    """
    import xllamacpp

    with gguf.read(model) as file:
        tokens = file.kv["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    said = tokens.index("a")  # what the server makes up must be text, else it keeps the probabilities to itself; they ignore biases
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx = len(ids) + 8
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
