"""The Python interface on a real artifact: shapes, errors, threads, sequences given back."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import infc
from infc.binding.artifact import Artifact
from infc.binding.model import Model
from infc.errors import HostError, InputError, LimitError
from tests.e2e.test_tiny_bits import MODELS

PROMPTS = ["the cat sat on", "Once upon a time", "a", "naïve café 世界 🙂 and 12 of 345 things", "once upon a time there was a little girl"]


@pytest.fixture(scope="module")
def llm(tiny_artifact: Artifact) -> Iterator[Model]:
    with tiny_artifact.load(threads=1) as model:
        yield model


@pytest.fixture(autouse=True)
def every_sequence_is_given_back(llm: Model) -> Iterator[None]:
    """After each test all sequences and pages are free: the largest prompt the pool takes still fits, once a sequence."""
    yield
    gc.collect()
    h = llm._handle
    with h.use() as model:
        opened = [h.lib.infc_seq_open(model) for _ in range(llm.info.max_seqs)]
        assert min(opened) >= 0
        assert h.lib.infc_seq_open(model) < 0
        for seq in opened:
            assert h.lib.infc_seq_close(model, seq) == 0


def test_info(llm: Model) -> None:
    assert (llm.info.dim, llm.info.n_layers, llm.info.n_heads, llm.info.n_kv_heads) == (64, 2, 4, 2)
    assert llm.info.threads == 1
    assert llm.info.isa in ("scalar", "avx2", "avx512", "amx")
    assert llm.meta["arch"] == "llama"
    llm.verify()


def test_load_by_folder(tiny_artifact: Artifact, llm: Model) -> None:
    with infc.load(tiny_artifact.path) as other:
        assert other.generate("the cat", 8, temperature=0) == llm.generate("the cat", 8, temperature=0)


@pytest.mark.parametrize("text", ["", "a", *PROMPTS, "\n\n  tabs\tand\0nul", "<|im_start|>x<|im_end|>"])
def test_tokenize_round_trip(llm: Model, text: str) -> None:
    assert llm.detokenize(llm.tokenize(text, bos=False), special=True) == text


def test_special_tokens_are_read_or_not(llm: Model) -> None:
    assert 1 in llm.tokenize("<|im_start|>")
    plain = llm.tokenize("<|im_start|>", special=False)
    assert 1 not in plain
    assert llm.detokenize(plain) == "<|im_start|>"
    assert llm.detokenize([1]) == ""
    assert llm.detokenize([1], special=True) == "<|im_start|>"


def test_logits_have_a_row_a_token(llm: Model) -> None:
    ids = llm.tokenize(PROMPTS[3])
    rows = llm.logits(ids)
    assert rows.shape == (len(ids), llm.info.vocab_size)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    assert llm.logits(ids[:2]).tobytes() == rows[:2].tobytes()  # the contract: a chunk's size changes no bit
    assert llm.logits([]).shape == (0, llm.info.vocab_size)


def test_greedy_follows_the_logits(llm: Model) -> None:
    ids = llm.tokenize(PROMPTS[0])
    tokens = list(llm.stream(PROMPTS[0], 6, temperature=0, ignore_eos=True))
    for i, token in enumerate(tokens):
        row = llm.logits(ids + [t.id for t in tokens[:i]])[-1].astype(np.float64)
        row[[0, 1, 2]] = -np.inf if token.id not in (0, 1, 2) else row[[0, 1, 2]]
        assert int(row.argmax()) == token.id


def test_log_probability(llm: Model) -> None:
    (token,) = llm.stream(PROMPTS[0], 1, temperature=0)
    row = llm.logits(llm.tokenize(PROMPTS[0]))[-1].astype(np.float64)
    want = row[token.id] - row.max() - np.log(np.exp(row - row.max()).sum())
    assert token.logprob == pytest.approx(want, abs=1e-4)


def test_stream_is_generate(llm: Model) -> None:
    options = {"temperature": 0.9, "seed": 3, "top_k": 20}
    assert "".join(t.text for t in llm.stream(PROMPTS[1], 20, **options)) == llm.generate(PROMPTS[1], 20, **options)


def test_same_seed_same_text(llm: Model) -> None:
    texts = {llm.generate(PROMPTS[1], 20, temperature=1.5, seed=5, ignore_eos=True) for _ in range(3)}
    assert len(texts) == 1
    others = {llm.generate(PROMPTS[1], 20, temperature=1.5, top_k=0, top_p=1.0, min_p=0.0, seed=s, ignore_eos=True) for s in range(8)}
    assert len(others) > 1


def test_no_token_no_text(llm: Model) -> None:
    assert llm.generate("a", 0) == ""
    assert llm.batch(["a", "b"], 0) == ["", ""]
    assert llm.batch([]) == []


def test_stop_strings_cut(llm: Model) -> None:
    whole = llm.generate(PROMPTS[0], 40, temperature=0, ignore_eos=True)
    stop = whole[6:9]
    cut = llm.generate(PROMPTS[0], 40, temperature=0, ignore_eos=True, stop=stop)
    assert cut == whole[: whole.index(stop)]
    assert llm.generate(PROMPTS[0], 40, temperature=0, ignore_eos=True, stop=["\0never\0", stop]) == cut


def test_the_context_ends_a_text(llm: Model) -> None:
    n_ctx = llm.info.n_ctx
    prompt = ([5, 6, 7, 8] * n_ctx)[: n_ctx - 3]
    assert len(list(llm.stream(prompt, 100, temperature=0, ignore_eos=True))) == 4
    with pytest.raises(LimitError):
        next(llm.stream([5] * (n_ctx + 1), 1))


def test_a_closed_stream_gives_its_sequence_back(llm: Model) -> None:
    streams = [llm.stream("the cat", 30, temperature=0) for _ in range(llm.info.max_seqs)]
    for s in streams:
        next(s)
    with pytest.raises(LimitError):
        next(llm.stream("one too many", 3))
    streams[0].close()
    assert list(llm.stream("now there is room", 3, temperature=0))
    for s in streams:
        s.close()


def test_batch_is_each_alone(llm: Model) -> None:
    alone = [llm.generate(p, 12, temperature=0) for p in PROMPTS]
    assert llm.batch(PROMPTS, 12, temperature=0) == alone
    sampled = [llm.generate(p, 12, temperature=1.2, seed=40 + i) for i, p in enumerate(PROMPTS)]
    assert llm.batch(PROMPTS, 12, temperature=1.2, seed=40) == sampled


def test_a_batch_larger_than_the_model_waits(tiny_llama: Callable[..., Path], compiled: Callable[..., Artifact]) -> None:
    path = tiny_llama(**MODELS["Q4_1"])
    small, large = compiled(path, name="small", ctx=64, kv_tokens=128, max_seqs=3), compiled(path, name="large")
    prompts = PROMPTS * 3
    with small.load(threads=1) as model, large.load(threads=1) as other:
        assert model.info.max_seqs == 3 < other.info.max_seqs
        assert model.batch(prompts, 16, temperature=0) == [other.generate(p, 16, temperature=0) for p in prompts]


def test_embeddings(llm: Model) -> None:
    vectors = llm.embed([*PROMPTS, PROMPTS[0]])
    assert vectors.shape == (len(PROMPTS) + 1, llm.info.dim)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert vectors[0].tobytes() == vectors[-1].tobytes()
    assert not np.allclose(vectors[0], vectors[1])


def test_chat(llm: Model) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi <|im_end|>"}]
    ids = llm.chat_tokens(messages)
    text = llm.detokenize(ids, special=True)
    assert text == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n"
    assert ids.count(2) == 2  # the user's own "<|im_end|>" is plain text
    assert llm.chat(messages, 8, temperature=0) == llm.generate(ids, 8, temperature=0)
    assert "".join(t.text for t in llm.chat_stream(messages, 8, temperature=0)) == llm.chat(messages, 8, temperature=0)
    with pytest.raises(InputError, match="role and a content"):
        llm.chat_tokens([{"content": "no role"}])
    with pytest.raises(InputError, match="wizard"):
        llm.chat_tokens([{"role": "wizard", "content": "x"}])


def test_a_model_without_template_has_no_chat(tiny_llama: Callable[..., Path], compiled: Callable[..., Artifact]) -> None:
    artifact = compiled(tiny_llama(chat_template=None, **MODELS["Q4_1"]), name="mute")
    assert any("chat" in note for note in artifact.manifest["notes"])
    with artifact.load(threads=1) as model:
        assert not model.info.has_chat
        with pytest.raises(InputError, match="without a chat template"):
            model.chat([{"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda m: m.logits([-1]), "negative"),
        (lambda m: m.logits([2**31]), "too large"),
        (lambda m: m.logits([2**80]), "whole numbers"),
        (lambda m: m.logits([10**6]), "token 1000000 is outside the vocabulary"),
        (lambda m: m.logits([0.5]), "whole numbers"),
        (lambda m: m.logits("abc"), "whole numbers"),
        (lambda m: m.tokenize("\ud800"), "lone surrogate at character 0"),
        (lambda m: m.generate("a", temprature=1), "unknown option 'temprature'"),
        (lambda m: m.generate("a", temperature="warm"), "no usable value"),
        (lambda m: m.generate("a", top_k=2**40), "no usable value"),
        (lambda m: m.generate([]), "the prompt is empty"),
        (lambda m: m.batch(["a", []]), "a prompt is empty"),
        (lambda m: m.detokenize([10**6]), "1000000 is no token"),
    ],
)
def test_bad_arguments(llm: Model, call: Callable[[Model], object], error: str) -> None:
    with pytest.raises(InputError, match=error):
        call(llm)


def test_arguments_are_checked_before_the_first_token(llm: Model) -> None:
    with pytest.raises(InputError):
        llm.stream("a", temprature=1)


def test_many_threads_share_a_model(llm: Model) -> None:
    want = [llm.generate(p, 16, temperature=0.7, seed=9) for p in PROMPTS]
    got: dict[tuple[int, int], str] = {}

    def work(i: int, j: int) -> None:
        got[i, j] = llm.generate(PROMPTS[j], 16, temperature=0.7, seed=9)

    threads = [threading.Thread(target=work, args=(i, j)) for i in range(3) for j in range(len(PROMPTS))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(got) == 15
    assert all(text == want[j] for (_, j), text in got.items())


def test_close_during_a_stream(tiny_artifact: Artifact) -> None:
    model = tiny_artifact.load(threads=1)
    stream = model.stream("the cat", 30, temperature=0)
    next(stream)
    model.close()
    model.close()
    with pytest.raises(InputError, match="closed"):
        list(stream)
    with pytest.raises(InputError, match="closed"):
        model.generate("x")


def test_two_models_in_one_process(tiny_artifact: Artifact, tiny_llama: Callable[..., Path], compiled: Callable[..., Artifact]) -> None:
    other = compiled(tiny_llama(seed=1, **MODELS["Q4_1"]), name="other")
    with tiny_artifact.load(threads=1) as a, other.load(threads=1) as b:
        ids = a.tokenize("the cat")
        first = a.logits(ids)
        assert first.tobytes() != b.logits(ids).tobytes()
        assert first.tobytes() == a.logits(ids).tobytes()


def test_an_isa_that_is_not_inside(tiny_artifact: Artifact) -> None:
    with pytest.raises((InputError, HostError), match="avx1024"):
        tiny_artifact.load(isa="avx1024")


def test_what_is_no_artifact(tmp_path: Path, tiny_artifact: Artifact) -> None:
    with pytest.raises(InputError, match="not an artifact"):
        infc.load(tmp_path)
    with pytest.raises(InputError, match="cannot load"):
        Model(tmp_path / "libnone.so")
    broken = tmp_path / "libtiny.so"
    broken.write_bytes(tiny_artifact.library.read_bytes()[:-1])
    with pytest.raises(HostError):
        Model(broken)
