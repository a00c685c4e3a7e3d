"""The contract on models of every format and shape: instruction sets, threads and chunks change no bit, and the float64 model agrees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infc.binding.artifact import Artifact
from infc.toolchain import host
from tests import tiles
from tests.reference.kl import mean_kl
from tests.reference.llama_f64 import LlamaF64

APART = True  # see tests/conftest.py
Tiny = Callable[..., Path]

MODELS: dict[str, dict[str, Any]] = {
    **{t: {"types": t, "head_dim": 32} for t in ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")},
    "mixed": {"types": "mixed", "n_layers": 3, "tied": False},
    "shared heads, odd panels": {"types": "Q4_0", "head_dim": 48, "n_heads": 6, "n_kv_heads": 2, "dim": 96, "hidden_dim": 160},
    "one kv head": {"types": "Q8_0", "head_dim": 64, "n_heads": 3, "n_kv_heads": 1},
    "as many kv heads": {"types": "Q5_1", "n_heads": 2, "n_kv_heads": 2, "head_dim": 32, "rope_freqs": True},
    "scaled rope": {"types": {"attn_q": "Q4_1", "attn_k": "F16", "attn_v": "Q8_0", "ffn_up": "Q5_0"}, "rope_scaling": 4.0},
}
N = 70  # three pages, and a batch in the large class; f16 keys and values alone cost 1e-6 of KL


def targets(name: str) -> str:
    """All that runs here; one model is compiled for AVX-512 even where it cannot run."""
    return "scalar,avx2,avx512,amx" if name == "mixed" else ",".join(runnable(name))


# On emulated tiles: weights with and without a sign and a minimum, odd panels, one kv head. Tests of kernels have all formats.
TILED = ("Q4_1", "Q8_0", "mixed", "shared heads, odd panels", "one kv head")


def runnable(name: str) -> tuple[str, ...]:
    return tiles.runnable() if name in TILED else host.runnable()


def _ids(vocab: int, n: int = N) -> list[int]:
    return [int(i) for i in np.random.default_rng(7).integers(4, vocab, n)]


@pytest.mark.parametrize("name", MODELS)
def test_bits_and_accuracy(name: str, compiled: Callable[..., Artifact], tiny_llama: Tiny) -> None:
    path = tiny_llama(**MODELS[name])
    artifact = compiled(path, name="tiny", target=targets(name), lto=False, emulated=True)
    with artifact.load(isa="scalar", threads=1) as model:
        ids = _ids(model.info.vocab_size)
        expected = model.logits(ids)
    for isa in runnable(name):
        for threads, chunk in ((1, 512), (2, 512), (3, 512), (2, 16), (3, 5), (1, 1), (2, 1)):
            # Attention keeps all threads busy first: three share 70 rows of one kv head, and two sixteen, in fewer rows than a tile has.
            products = (*((tiles.LINEAR,) if chunk >= 16 else ()), *((tiles.ATTENTION,) if chunk == 512 and threads < 3 else ()))
            with artifact.load(isa=isa, threads=threads, ubatch=chunk) as model, tiles.used(artifact, isa, *products):
                for _ in range(2 if threads > 1 else 1):  # a race may need a second chance to show
                    assert model.logits(ids).tobytes() == expected.tobytes(), f"{isa}, {threads} threads, chunks of {chunk}"
    exact = LlamaF64(path).logits(ids)
    kl = mean_kl(exact, expected)
    floats = MODELS[name]["types"] in ("F32", "F16", "BF16")
    assert kl < (5e-6 if floats else 2e-2), f"mean KL {kl} to the float64 model"
    gap = np.sort(exact, axis=1)
    clear = gap[:, -1] - gap[:, -2] > 4 * np.abs(exact - expected).max()
    assert (exact.argmax(axis=1) == expected.argmax(axis=1))[clear].all()
