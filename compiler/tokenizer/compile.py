"""``compile_tokenizer``: the tokenizer keys of a model file to the TOKENIZER section of the blob."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from infc.errors import InputError
from infc.tokenizer import bpe, spm, unigram, wordpiece, words
from infc.tokenizer.added import automaton
from infc.tokenizer.patterns import AS_GEMMA4, Pretokenizer, of_keys
from infc.tokenizer.pretokenizers import compile_splits
from infc.tokenizer.section import (
    FLAG_ADD_BOS,
    FLAG_ADD_SEP,
    FLAG_IGNORE_MERGES,
    FLAG_PREFIX_FIRST,
    FLAG_PREFIX_ONCE,
    FLAG_SPACE_PREFIX,
    KIND_BPE,
    KIND_SPM,
    KIND_UNIGRAM,
    KIND_WORDPIECE,
    NONE,
    TOKEN_EOG,
    TOKEN_RSTRIP,
    TOKEN_SPECIAL,
    TOKEN_USER,
    pack,
)
from infc.tokenizer.vocabulary import NORMAL, PREFIX, Vocabulary, read_vocabulary

MODELS = ("gpt2", "llama", "gemma4", "bert", "t5")  # values of tokenizer.ggml.model that are supported
_MOST_SHORT_WORDS = 14336  # of 16 bytes and a half: tables of 49,152 tokens stay below 2 MiB

Tables = dict[str, np.ndarray | bytes]


def compile_tokenizer(kv: Mapping[str, Any], vocab_size: int) -> bytes:
    """The TOKENIZER section for a ``tokenizer.ggml.model`` of MODELS.

    ``vocab_size`` is the model's number of logits; tokens must be as many. InputError G41, G67-G77, G79.
    """
    model = kv.get(PREFIX + "model")
    if model not in MODELS:
        raise InputError("G76", f"tokenizer model {model!s:.40} is not known (known: {', '.join(MODELS)})", f"key: {PREFIX}model")
    if model == "gpt2" and kv.get(PREFIX + "pre") in AS_GEMMA4:
        model = "gemma4"
    pre = of_keys(kv) if model == "gpt2" else Pretokenizer(())
    vocabulary = read_vocabulary(kv, vocab_size)
    if model == "gpt2":
        raw = [_raw(t, y) for t, y in zip(*_columns(vocabulary), strict=True)]
        return _section(vocabulary, KIND_BPE, raw, pre, *_bpe(vocabulary, pre))
    if model == "bert":
        raw = wordpiece.raw_tokens(vocabulary)
        return _section(vocabulary, KIND_WORDPIECE, raw, pre, {"flags": FLAG_SPACE_PREFIX}, wordpiece.wordpiece_tables(vocabulary, raw))
    raw = spm.raw_tokens(vocabulary)
    if model == "t5":
        return _section(vocabulary, KIND_UNIGRAM, raw, pre, *unigram.unigram_tables(vocabulary))
    tables = spm.spm_tables(vocabulary) if model == "llama" else spm.gemma4_tables(vocabulary, _merges(kv))
    return _section(vocabulary, KIND_SPM, raw, pre, *_spm(tables, vocabulary, model == "llama"))


def _columns(vocabulary: Vocabulary) -> tuple[list[str], list[int]]:
    return vocabulary.tokens, vocabulary.types.tolist()


def _section(vocabulary: Vocabulary, kind: int, raw: list[bytes], pre: Pretokenizer, header: dict[str, int], tables: Tables) -> bytes:
    """Header and tables that every kind has, and those given."""
    offsets = np.cumsum([0, *map(len, raw)])
    if offsets[-1] >= NONE:
        raise InputError("G71", "tokens take 4 GiB or more", f"key: {PREFIX}tokens")
    special, eog, user = vocabulary.marks()
    token_flags = np.zeros(len(vocabulary), np.uint8)
    token_flags[special] |= TOKEN_SPECIAL
    token_flags[eog] |= TOKEN_EOG
    token_flags[user] |= TOKEN_USER
    token_flags[_right_stripping(vocabulary, special, user)] |= TOKEN_RSTRIP
    added = {raw[i]: i for i in sorted({*special, *user}, reverse=True) if raw[i]}
    ids = _special_ids(vocabulary, kind)
    bos, sep = ids["bos"], ids["sep"]
    adds_bos = {KIND_BPE: pre.add_bos, KIND_UNIGRAM: False}.get(kind, True)
    add_bos = vocabulary.flag("add_bos_token", adds_bos and bos != NONE)
    adds_sep = vocabulary.flag("add_sep_token", kind == KIND_WORDPIECE)
    adds_eos = kind != KIND_WORDPIECE and vocabulary.flag("add_eos_token", kind == KIND_UNIGRAM)
    add_sep = sep != NONE and (adds_sep or adds_eos)
    if add_bos and bos == NONE:
        raise InputError("G77", "the tokenizer adds a BOS token but has none", f"key: {PREFIX}add_bos_token")
    eos = vocabulary.special_id("eos", {KIND_SPM: 2, KIND_UNIGRAM: 1}.get(kind, NONE))
    eot = vocabulary.special_id("eot")
    common = {
        "vocab_size": len(vocabulary), "n_merges": 0, "flags": 0, "bos": bos, "eos": eos, "eot": eot, "n_classes": 0, "n_stages": 0,
        "kind": kind, "word_slots": 0, "short_slots": 0, "longest_word": 0, "sep": sep, "unknown": ids["unknown"],
    } | header  # fmt: skip
    common["flags"] |= FLAG_ADD_BOS * add_bos | FLAG_ADD_SEP * add_sep | FLAG_IGNORE_MERGES * pre.ignore_merges
    common["flags"] |= FLAG_PREFIX_ONCE * vocabulary.own_flag("once") | FLAG_PREFIX_FIRST * vocabulary.own_flag("first")
    shared: Tables = {
        "token_offsets": offsets.astype(np.uint32),
        "token_bytes": b"".join(raw),
        "token_flags": token_flags,
        "added_all": automaton(added),
        "added_user": automaton({text: i for text, i in added.items() if i in set(user)}),
    }
    return pack(common, shared | tables)


def _special_ids(vocabulary: Vocabulary, kind: int) -> dict[str, int]:
    """``bos``, ``sep``, which ends a text, and ``unknown``. InputError G72."""
    if kind == KIND_WORDPIECE:
        return wordpiece.special_ids(vocabulary)
    if kind == KIND_UNIGRAM:
        return unigram.special_ids(vocabulary)
    bos, eos = (1, 2) if kind == KIND_SPM else (NONE, NONE)
    sep = vocabulary.special_id("seperator") if vocabulary.flag("add_sep_token", False) else vocabulary.special_id("eos", eos)
    return {"bos": vocabulary.special_id("bos", bos), "sep": sep, "unknown": NONE}


def _bpe(vocabulary: Vocabulary, pre: Pretokenizer) -> tuple[dict[str, int], Tables]:
    """Header and tables of byte-level byte-pair encoding."""
    splits = compile_splits(pre.splits)
    ids = {t: i for i, t in reversed(list(enumerate(vocabulary.tokens)))}  # of equal tokens the first
    pairs, made = bpe.parse_merges(_merges(vocabulary.kv), ids)
    byte_ids = bpe.byte_ids(ids)
    short, by_merging, long = _words(vocabulary, byte_ids, (pairs, made), pre.ignore_merges)
    short_homes, short_slots = words.short_word_table(short, by_merging)
    word_homes, word_slots = bpe.word_table(long)
    header = {
        "n_merges": len(made), "n_classes": splits.n_classes, "n_stages": len(splits.dfas), "word_slots": word_homes,
        "short_slots": short_homes, "longest_word": max(map(len, long), default=0),
    }  # fmt: skip
    return header, {
        "byte_ids": byte_ids,
        "merge_slots": bpe.merge_table(pairs, np.arange(len(pairs), dtype=np.uint32)),
        "merge_ids": made,
        "word_slots": word_slots,
        "class_stage1": splits.stage1,
        "class_stage2": splits.stage2,
        "split_states": np.array([len(d) for d in splits.dfas], np.uint32),
        "split_rows": np.concatenate([d.reshape(-1) for d in splits.dfas]),
        "short_slots": short_slots,
        "joins": words.joins(vocabulary.tokens, byte_ids, pairs),
        "scan": splits.scan,
    }


def _spm(tables: Tables, vocabulary: Vocabulary, space_prefix: bool) -> tuple[dict[str, int], Tables]:
    """Header and tables of merging from characters."""
    header = {
        "n_merges": len(tables["merge_ids"]),
        "short_slots": int(np.asarray(tables.pop("short_homes"))[0]),
        "flags": FLAG_SPACE_PREFIX * vocabulary.flag("add_space_prefix", space_prefix),
    }
    return header, tables


def _merges(kv: Mapping[str, Any]) -> list[str]:
    merges = kv.get(PREFIX + "merges")
    if merges is None or (len(merges) and not isinstance(merges[0], str)):
        raise InputError("G74", "byte-pair encoding without merges", f"key: {PREFIX}merges")
    return list(merges)


def _raw(text: str, token_type: int) -> bytes:
    """What a token writes: added tokens are text as it is, ordinary ones are in GPT-2's alphabet."""
    decoded = bpe.token_bytes(text) if token_type == NORMAL else None
    return text.encode("utf-8", "surrogatepass") if decoded is None else decoded


def _words(
    vocabulary: Vocabulary, byte_ids: np.ndarray, merges: tuple[np.ndarray, np.ndarray], ignore_merges: bool
) -> tuple[dict[bytes, int], np.ndarray, dict[bytes, int]]:
    """(short words, whether merging makes each of them too, long words): bytes -> token, for words that are one token.

    Those are what merging makes one token of, and with ``ignore_merges`` every ordinary token. Of equal tokens the last, as in HF.
    """
    whole = {b: i for i, (t, y) in enumerate(zip(*_columns(vocabulary), strict=True)) if y == NORMAL and (b := bpe.token_bytes(t))}
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


def _right_stripping(vocabulary: Vocabulary, special: list[int], user: list[int]) -> list[int]:
    """Special tokens that swallow white space after them. A file does not say; Phi-3's do, as its own tokenizer file has it."""
    name = str(vocabulary.kv.get("general.name", "")).lower()
    if not any(n in name for n in ("phi-3", "phi3")):
        return []
    kept = ("<unk>", "<s>", "<|endoftext|>")
    return [i for i in {*special, *user} if vocabulary.tokens[i] not in kept]
