"""Small unigram models: trained by ``sentencepiece`` from text that Python ships, or random; as the keys of a GGUF file."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import sentencepiece

from tests.unit.tokenizer_support import P

MARK = "\u2581"
# Options of the trainer, by what they are there for.
MODELS: dict[str, dict[str, Any]] = {
    "small": {"vocab_size": 300, "normalization_rule_name": "nmt_nfkc", "character_coverage": 0.99},
    "t5": {"vocab_size": 800, "normalization_rule_name": "nmt_nfkc"},
    "bytes": {"vocab_size": 1100, "normalization_rule_name": "nmt_nfkc", "byte_fallback": True},
    "as it is": {
        "vocab_size": 1000, "normalization_rule_name": "identity", "byte_fallback": True, "remove_extra_whitespaces": False,
    },
    "folded": {"vocab_size": 900, "normalization_rule_name": "nfkc_cf", "add_dummy_prefix": False},
    "spaces kept": {"vocab_size": 900, "normalization_rule_name": "nmt_nfkc", "add_dummy_prefix": False, "remove_extra_whitespaces": False},
}  # fmt: skip


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of a protobuf message: as much of that format as two nested settings need."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            size = {1: 8, 5: 4}.get(key & 7) or varint()
            yield key >> 3, message[at : at + size]
            at += size


@cache
def trained(name: str) -> tuple[Any, dict[str, Any]]:
    """(the processor of ``sentencepiece``, the keys of the same model)."""
    from pydoc_data.topics import topics  # type: ignore[attr-defined]  # the language reference: half a megabyte of English

    lines = "\n".join(topics[k] for k in sorted(topics)).splitlines()[:6000]
    lines += ["naïve café straße привет мир 世界 こんにちは ½ ﬁ a\u0301"] * 20
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, model_type="unigram", minloglevel=2, num_threads=1, **MODELS[name]
    )
    sp = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    spec = dict(_fields(dict(_fields(out.getvalue()))[3]))  # type: ignore[arg-type]  # normalizer_spec
    ids = range(sp.get_piece_size())
    kinds = [(sp.is_unknown, 2), (sp.is_control, 3), (sp.is_byte, 6), (sp.is_unused, 5), (lambda i: True, 1)]
    kv = {
        P + "model": "t5", P + "tokens": [sp.id_to_piece(i) for i in ids], P + "scores": [sp.get_score(i) for i in ids],
        P + "token_type": [next(kind for test, kind in kinds if test(i)) for i in ids], P + "unknown_token_id": sp.unk_id(),
        P + "eos_token_id": sp.eos_id(), P + "add_space_prefix": bool(spec.get(3, 1)), P + "remove_extra_whitespaces": bool(spec.get(4, 1)),
    }  # fmt: skip
    if spec.get(2):
        kv[P + "precompiled_charsmap"] = np.frombuffer(spec[2], np.uint8)  # type: ignore[arg-type]
    return sp, kv


def random_kv(seed: int, with_bytes: bool = False) -> dict[str, Any]:
    """Random tokens whose scores are few halves: sums are exact and many ways are equally good, so that the order of search decides."""
    rnd = random.Random(seed)
    parts = ["a", "b", MARK, "é", "世", "\U0001f642", "c"]
    tokens = dict.fromkeys(rnd.sample(parts, 6))
    while len(tokens) < 60:
        tokens["".join(rnd.choice(parts) for _ in range(rnd.randint(1, 6)))] = None
    names = ["<pad>", "</s>", "<unk>", *([f"<0x{b:02X}>" for b in range(256)] if with_bytes else [])]
    n = len(names)
    return {
        P + "model": "t5", P + "tokens": [*names, *tokens], P + "scores": [0.0] * n + [-rnd.randint(2, 8) / 2 for _ in tokens],
        P + "token_type": [3, 3, 2, *[6] * (n - 3), *[1] * len(tokens)], P + "unknown_token_id": 2, P + "eos_token_id": 1,
        P + "add_space_prefix": bool(seed % 2), P + "remove_extra_whitespaces": False,
    }  # fmt: skip


def write_vocabulary(path: Path, kv: dict[str, Any]) -> Path:
    """A GGUF file without weights, for llama.cpp."""
    w = gguf.GGUFWriter(path, "t5")
    w.add_context_length(512)
    w.add_embedding_length(64)
    w.add_block_count(1)
    w.add_feed_forward_length(64)
    w.add_head_count(4)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_relative_attn_buckets_count(32)
    w.add_tokenizer_pre("default")
    w.add_token_list(kv[P + "tokens"])
    w.add_token_scores(kv[P + "scores"])
    w.add_token_types(kv[P + "token_type"])
    for key, value in kv.items():
        if key.rpartition(".")[2] not in ("tokens", "scores", "token_type", "precompiled_charsmap"):
            {bool: w.add_bool, int: w.add_uint32, str: w.add_string}[type(value)](key, value)
    if P + "precompiled_charsmap" in kv:
        w.add_precompiled_charsmap(kv[P + "precompiled_charsmap"].tobytes())
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()
    return path
