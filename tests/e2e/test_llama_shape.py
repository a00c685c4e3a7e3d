"""The random model of Llama-3.2-1B's shape: the whole by its numbers, a narrow one of its vocabulary by compiling it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from infc.binding.artifact import Artifact
from infc.frontend import gguf as reader
from infc.toolchain import host
from tests.models.llama_1b import Shape, matrices, merges, rope_factors, write_llama_1b
from tests.reference.kl import mean_kl
from tests.reference.llama_f64 import LlamaF64

NARROW = Shape(dim=64, hidden_dim=128, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=32, n_ctx=512)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama_1b(tmp_path_factory.mktemp("llama") / "narrow.gguf", NARROW)


def test_the_whole_has_a_real_models_numbers() -> None:
    found = matrices(Shape())
    assert sum(m.n * m.k for m in found) == 1_235_814_400
    assert Shape().vocab_size == 128_256
    assert sum(m.nbytes for m in found) == 826_712_064  # 0.83 GB are written, not more


def test_factors_leave_fast_pairs_and_stretch_slow_ones() -> None:
    factors = rope_factors(Shape())
    assert factors[0] == 1 and factors[-1] == 32
    assert (np.diff(factors) >= 0).all() and 1 < factors[16] < 32


def test_every_merge_joins_two_known_tokens_into_a_new_one() -> None:
    known = {chr(0x120), *"abcdefghijklmnopqrstuvwxyz"}
    for a, b in merges(5000):
        assert a in known and b in known and a + b not in known
        known.add(a + b)


def test_the_file_has_the_planned_tensors(narrow: Path) -> None:
    with reader.read(narrow) as model:
        for m in matrices(NARROW):
            assert (model.tensors[m.name].type, model.tensors[m.name].nbytes) == (m.type, m.nbytes)
            if m.type == "F32":
                assert abs(float(model.data(m.name).view(np.float32).mean()) - 1) < 0.1


def test_a_vocabulary_of_128256_compiles_and_keeps_its_bits(compiled: Callable[..., Artifact], narrow: Path) -> None:
    artifact = compiled(narrow, name="narrow", target=",".join(dict.fromkeys(("scalar", host.runnable()[-1]))), lto=False)
    with artifact.load(isa="scalar", threads=1) as model:
        ids = model.tokenize("the weather in the town")
        assert ids[0] == 128_000 and model.detokenize(ids[1:]) == "the weather in the town"
        assert max(len(model.detokenize([i])) for i in ids[1:]) >= 4  # merged to words' pieces, not bytes
        ids += [128_255, 5, 65_536, 100_000]
        expected = model.logits(ids)
        assert expected.shape[1] == 128_256
    for threads, chunk in ((2, 512), (3, 2)):
        with artifact.load(isa=host.runnable()[-1], threads=threads, ubatch=chunk) as model:
            assert model.logits(ids).tobytes() == expected.tobytes()
    oracle = LlamaF64(narrow)
    for name in (m.name for m in matrices(NARROW) if m.type != "F32"):
        assert 0.8 < oracle.w[name].std() / next(m.std for m in matrices(NARROW) if m.name == name) < 1.25
    assert mean_kl(oracle.logits(ids), expected) < 2e-2
