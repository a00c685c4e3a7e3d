"""The short way through the automaton: its table against the automaton, and its wide twins against the scalar one."""

from __future__ import annotations

import mmap
import random
import subprocess
from pathlib import Path
from typing import Any

import cffi
import numpy as np
import pytest

from infc.errors import InputError
from infc.tokenizer import PRETOKENIZERS, compile_tokenizer
from infc.tokenizer.pretokenizers import SplitTables, compile_splits, split_text
from infc.tokenizer.scan import MAX_KINDS
from tests.unit.test_pretok import _random_pattern
from tests.unit.tokenizer_support import (
    CPUS,
    WARNINGS,
    CTokenizer,
    P,
    adversarial,
    distinct_pretokenizers,
    host_isas,
    runtime_c,
    synthetic_kv,
)


def _word_end(scan: np.ndarray, text: bytes, at: int) -> int:
    """infc_scan_word in Python; ``at`` where the table gives no answer."""
    n = int(scan[0])
    pair_class, member, ends, back, _ = np.split(scan[64 : 64 + 1280], range(256, 1280, 256))
    pairs = scan[64 + 1024 + 16 * MAX_KINDS :].reshape(n, n)
    if at + 2 > len(text) or not (pair := int(pairs[pair_class[text[at]], pair_class[text[at + 1]]])):
        return at
    bit, stop = 1 << (pair >> 2), at + (pair & 3)
    while stop < len(text) and member[text[stop]] & bit:
        stop += 1
    if stop == len(text) or not (ends[text[stop]] | back[text[stop]]) & bit:
        return at
    return stop - bool(back[text[stop]] & bit)


def _answers(tables: SplitTables, text: str) -> int:
    """How many words of ``text`` the table knows the end of. They must be the automaton's words."""
    raw, at, known = text.encode(), 0, 0
    for piece in split_text(tables, text):
        end = at + len(piece.encode())
        found = _word_end(tables.scan, raw, at)
        assert found in (at, end), (text, piece, found)
        known += found == end
        at = end
    return known


# The others have several splits, or words that their first two characters do not decide.
_MOSTLY_SHORT = ("gpt-2", "smollm", "llama-bpe", "dbrx", "glm4", "qwen2", "qwen35", "tekken")


@pytest.mark.parametrize("name", distinct_pretokenizers())
def test_the_table_gives_the_automatons_words(name: str) -> None:
    tables = compile_splits(PRETOKENIZERS[name].splits)
    source = adversarial(random.Random(21), ["<|im_start|>"])
    for _ in range(1500):
        _answers(tables, source())
    prose = "It's the keeper's 42nd lamp, isn't it?\n\n    \"No,\" he said;  then: nothing...\tAll right!\r\n" * 3
    words = len(split_text(tables, prose))
    assert _answers(tables, prose) >= words * (0.9 if name in _MOSTLY_SHORT else 0)


def test_tables_of_random_patterns() -> None:
    rnd = random.Random(22)
    checked = known = 0
    while checked < 300:
        try:
            tables = compile_splits((_random_pattern(rnd),))
        except InputError:
            continue
        checked += 1
        known += sum(_answers(tables, "".join(rnd.choice("aab 1xX\n.é's") for _ in range(rnd.randint(1, 12)))) for _ in range(20))
    assert known > 1_500


def test_nested_splits_have_no_short_way() -> None:
    tables = compile_splits((r"[0-9]+x?", r"\s+(?!\S)|[a-z]+ ?"))
    assert not tables.scan[64 + 1024 + 16 * MAX_KINDS :].any()


def _wide() -> list[str]:
    missing = [isa for isa in CPUS if isa not in host_isas()]
    if missing:
        pytest.skip(f"this CPU lacks {', '.join(missing)}")
    return host_isas()


def test_twins(tmp_path: Path) -> None:
    features = max(CPUS[isa] for isa in _wide())
    program = tmp_path / "twins"
    sources = [str(Path(__file__).with_name("scan_twins.c")), str(runtime_c() / "infc_scan.c")]
    subprocess.run(["gcc", *WARNINGS, "-O2", "-I", str(runtime_c()), *sources, "-o", str(program)], check=True)
    done = subprocess.run([program, str(features), "300"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2", "gpt-4o", "deepseek-v3"])
def test_the_same_tokens_on_every_isa_and_no_byte_read_outside(pre: str, built: Any) -> None:
    """Texts of all lengths that begin after, or end before, a page that cannot be read."""
    isas = _wide()
    kv = synthetic_kv(pre)
    tok = CTokenizer(built, compile_tokenizer(kv, len(kv[P + "tokens"])))
    ffi = cffi.FFI()
    ffi.cdef("int mprotect(void *at, size_t size, int access);")
    libc: Any = ffi.dlopen(None)
    page = mmap.PAGESIZE
    room = mmap.mmap(-1, 3 * page)
    base = ffi.from_buffer(room, require_writable=True)
    for k in (0, 2):
        assert libc.mprotect(base + k * page, page, 0) == 0
    rnd = random.Random(23)
    source = adversarial(rnd, ["<|im_start|>"])
    try:
        for i in range(1200):
            raw = (source() if i % 3 else "a" * rnd.randrange(150)).encode()[: rnd.randrange(1, 200)] or b"x"
            if i % 5 == 0:
                raw = rnd.randbytes(len(raw))
            expected = None
            for at in (page, 2 * page - len(raw), page + rnd.randrange(64)):
                room[at : at + len(raw)] = raw
                for isa in isas:
                    tok.use(isa)
                    n = tok.lib.infc_tok_tokenize(tok._t, tok.ffi.cast("uint8_t *", int(ffi.cast("uintptr_t", base)) + at), len(raw), 1,
                                                  tok._ids_at, len(tok._ids))  # fmt: skip
                    ids = tok._ids[:n].tolist()
                    expected = expected or ids
                    assert ids == expected, (isa, raw)
    finally:
        for k in (0, 2):
            libc.mprotect(base + k * page, page, 3)
