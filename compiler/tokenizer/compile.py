"""``compile_tokenizer``: the tokenizer keys of a model file to the TOKENIZER section of the blob."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from infc.errors import InputError
from infc.tokenizer import bpe, words
from infc.tokenizer.added import automaton
from infc.tokenizer.patterns import pretokenizer
from infc.tokenizer.pretokenizers import compile_splits
from infc.tokenizer.section import (
    FLAG_ADD_BOS,
    FLAG_IGNORE_MERGES,
    NONE,
    TOKEN_EOG,
    TOKEN_SPECIAL,
    pack,
)

_PREFIX = "tokenizer.ggml."
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4  # token types of the GGUF format

# Control tokens that end a turn or a text, by the names their model families gave them. A file names one of them as eos.
_END_OF_GENERATION = frozenset(
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <end_of_turn> <|endoftext|> <|eom_id|> <EOT> _<EOT> [EOT] [EOS] "
    "<|end_of_text|> <end_of_utterance> </s> <eos>".split()
)


_MOST_SHORT_WORDS = 14336  # of 16 bytes and a half: tables of 49,152 tokens stay below 2 MiB


def compile_tokenizer(kv: Mapping[str, Any], vocab_size: int) -> bytes:
    """The TOKENIZER section for byte-level BPE (``tokenizer.ggml.model`` = ``gpt2``).

    ``vocab_size`` is the model's number of logits; tokens must be as many. InputError G41, G67-G77, G79.
    """
    model = kv.get(_PREFIX + "model")
    if model != "gpt2":
        raise InputError("G76", f"tokenizer model {model!s:.40} is not known (known: gpt2)", f"key: {_PREFIX}model")
    pre = pretokenizer(kv.get(_PREFIX + "pre"))
    splits = compile_splits(pre.splits)
    tokens = _tokens(kv, vocab_size)
    types = _types(kv, len(tokens))
    ids = {t: i for i, t in reversed(list(enumerate(tokens)))}  # of equal tokens the first

    raw = [_raw(t, int(y)) for t, y in zip(tokens, types, strict=True)]
    offsets = np.cumsum([0, *map(len, raw)])
    if offsets[-1] >= NONE:
        raise InputError("G71", "tokens take 4 GiB or more", f"key: {_PREFIX}tokens")
    pairs, made = bpe.parse_merges(_merges(kv), ids)
    merge_slots = bpe.merge_table(pairs)
    byte_ids = bpe.byte_ids(ids)
    short, by_merging, long = _words(tokens, types, byte_ids, (pairs, made), pre.ignore_merges)
    short_homes, short_slots = words.short_word_table(short, by_merging)
    word_homes, word_slots = bpe.word_table(long)
    special, eog, user = _marks(kv, tokens, types)
    token_flags = np.zeros(len(tokens), np.uint8)
    token_flags[special] |= TOKEN_SPECIAL
    token_flags[eog] |= TOKEN_EOG
    added = {raw[i]: i for i in sorted({*special, *user}, reverse=True) if raw[i]}
    bos = _special_id(kv, "bos", len(tokens))
    add_bos = _flag(kv, "add_bos_token", pre.add_bos and bos != NONE)
    if add_bos and bos == NONE:
        raise InputError("G77", "the tokenizer adds a BOS token but has none", f"key: {_PREFIX}add_bos_token")
    header = {
        "vocab_size": len(tokens), "n_merges": len(made),
        "flags": FLAG_ADD_BOS * add_bos | FLAG_IGNORE_MERGES * pre.ignore_merges,
        "bos": bos, "eos": _special_id(kv, "eos", len(tokens)), "eot": _special_id(kv, "eot", len(tokens)),
        "n_classes": splits.n_classes, "n_stages": len(splits.dfas),
        "reserved": 0, "word_slots": word_homes, "short_slots": short_homes, "longest_word": max(map(len, long), default=0),
    }  # fmt: skip
    tables: dict[str, np.ndarray | bytes] = {
        "token_offsets": offsets.astype(np.uint32),
        "token_bytes": b"".join(raw),
        "token_flags": token_flags,
        "byte_ids": byte_ids,
        "merge_slots": merge_slots,
        "merge_ids": made,
        "word_slots": word_slots,
        "class_stage1": splits.stage1,
        "class_stage2": splits.stage2,
        "split_states": np.array([len(d) for d in splits.dfas], np.uint32),
        "split_rows": np.concatenate([d.reshape(-1) for d in splits.dfas]),
        "added_all": automaton(added),
        "added_user": automaton({text: i for text, i in added.items() if i in set(user)}),
        "short_slots": short_slots,
        "joins": words.joins(tokens, byte_ids, pairs),
        "scan": splits.scan,
    }
    return pack(header, tables)


def _tokens(kv: Mapping[str, Any], vocab_size: int) -> list[str]:
    tokens = kv.get(_PREFIX + "tokens")
    where = f"key: {_PREFIX}tokens"
    if tokens is None or not len(tokens) or not isinstance(tokens[0], str):
        raise InputError("G67", "the tokenizer has no tokens", where)
    if len(tokens) != vocab_size:
        raise InputError("G41", f"{len(tokens)} tokens for a vocabulary of {vocab_size}", where)
    if len(tokens) > bpe.MAX_VOCAB:
        raise InputError("G67", f"{len(tokens)} tokens (the merge table holds {bpe.MAX_VOCAB})", where)
    return list(tokens)


def _types(kv: Mapping[str, Any], n: int) -> np.ndarray:
    types = kv.get(_PREFIX + "token_type")
    if types is None:
        return np.full(n, _NORMAL, np.int32)
    if len(types) != n:
        raise InputError("G69", f"{len(types)} token types for {n} tokens", f"key: {_PREFIX}token_type")
    return np.asarray(types, np.int32)


def _merges(kv: Mapping[str, Any]) -> list[str]:
    merges = kv.get(_PREFIX + "merges")
    if merges is None or (len(merges) and not isinstance(merges[0], str)):
        raise InputError("G74", "byte-pair encoding without merges", f"key: {_PREFIX}merges")
    return list(merges)


def _raw(text: str, token_type: int) -> bytes:
    """What a token writes: added tokens are text as it is, ordinary ones are in GPT-2's alphabet."""
    decoded = bpe.token_bytes(text) if token_type == _NORMAL else None
    return text.encode("utf-8", "surrogatepass") if decoded is None else decoded


def _words(
    tokens: list[str], types: np.ndarray, byte_ids: np.ndarray, merges: tuple[np.ndarray, np.ndarray], ignore_merges: bool
) -> tuple[dict[bytes, int], np.ndarray, dict[bytes, int]]:
    """(short words, whether merging makes each of them too, long words): bytes -> token, for words that are one token.

    Those are what merging makes one token of, and with ``ignore_merges`` every ordinary token. Of equal tokens the last, as in HF.
    """
    whole = {b: i for i, t in enumerate(tokens) if types[i] == _NORMAL and (b := bpe.token_bytes(t))}
    merged = words.merged_whole(list(whole), byte_ids, *merges).tolist()
    if not ignore_merges:
        whole = {b: m for b, m in zip(whole, merged, strict=True) if m != NONE}
    by_merging = [i == m for i, m in zip(whole.values(), merged, strict=True)] if ignore_merges else [True] * len(whole)
    is_short = [len(b) <= words.SHORT_WORD for b in whole]
    short = {b: i for (b, i), s in zip(whole.items(), is_short, strict=True) if s}
    long = {b: i for (b, i), s in zip(whole.items(), is_short, strict=True) if not s}
    merges_too = np.array(by_merging, bool)[is_short]
    if not ignore_merges:  # merging makes the others too: only the frequent ones are worth their slot
        short = dict(list(short.items())[:_MOST_SHORT_WORDS])
        merges_too = merges_too[:_MOST_SHORT_WORDS]
    return short, merges_too, long


def _special_id(kv: Mapping[str, Any], name: str, n: int) -> int:
    value = kv.get(f"{_PREFIX}{name}_token_id")
    if value is None:
        return NONE
    if not 0 <= int(value) < n:
        raise InputError("G72", f"{name} token {int(value)} of {n} tokens", f"key: {_PREFIX}{name}_token_id")
    return int(value)


def _flag(kv: Mapping[str, Any], name: str, default: bool) -> bool:
    value = kv.get(_PREFIX + name, default)
    return bool(value)


def _marks(kv: Mapping[str, Any], tokens: list[str], types: np.ndarray) -> tuple[list[int], list[int], list[int]]:
    """(special, end of generation, user-defined) tokens. A token that is named as an end is special whatever its type."""
    eog = {_special_id(kv, name, len(tokens)) for name in ("eos", "eot", "eom")} - {NONE}
    eog |= {i for i, t in enumerate(tokens) if t in _END_OF_GENERATION and types[i] in (_CONTROL, _USER_DEFINED)}
    special = [int(i) for i in np.flatnonzero(np.isin(types, (_UNKNOWN, _CONTROL)))]
    user = [int(i) for i in np.flatnonzero(types == _USER_DEFINED)]
    return special, sorted(eog), user
