"""The TOKENIZER section of the blob: a header, a directory, tables. ``runtime_c/infc_tokenizer.h`` reads the same layout.

Little-endian. ``magic[8] | u32 version | u32 n_tables | HEADER u32s | n_tables x (u64 offset, u64 size)``, then the tables
in the order of TABLES, each at a multiple of 64 bytes from the section's start. A table may be empty.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

MAGIC = b"INFCTOK1"
VERSION = 6
NONE = 0xFFFFFFFF

HEADER = (
    "vocab_size", "n_merges", "flags", "bos", "eos", "eot", "n_classes", "n_stages",
    "kind", "word_slots", "short_slots", "longest_word", "sep", "unknown",
)  # fmt: skip
FLAG_ADD_BOS, FLAG_IGNORE_MERGES, FLAG_SPACE_PREFIX, FLAG_ADD_SEP, FLAG_MERGE_SPACES = 1, 2, 4, 8, 16
FLAG_KEEP_END, FLAG_SPLIT_SPACES, FLAG_PREFIX_ONCE, FLAG_PREFIX_FIRST, FLAG_WORDS_APART = 32, 64, 128, 256, 512
FLAG_FLOAT_SUMS = 1024
# BPE: byte-level, words cut by the splits' automata. SPM: merging from characters, SentencePiece's and Gemma's. WORDPIECE: BERT's.
# UNIGRAM: SentencePiece's tokens of the best sum of scores.
KIND_BPE, KIND_SPM, KIND_WORDPIECE, KIND_UNIGRAM = 0, 1, 2, 3

TABLES = (
    "token_offsets",  # u32 (vocab_size + 1): token t is token_bytes[offsets[t] : offsets[t + 1]]
    "token_bytes",  # u8
    "token_flags",  # u8 (vocab_size): TOKEN_*
    "byte_ids",  # u32 (256): the token of a single byte, or NONE
    "merge_slots",  # u64: left << 44 | right << 24 | rank in one of two slots by hash of the pair; all ones: empty
    "merge_ids",  # u32 (n_merges): the token that a merge makes
    "word_slots",  # u32 (home slots + overflow + 1): long words by hash of their bytes; NONE: empty
    "class_stage1",  # u16 (0x1100)
    "class_stage2",  # u8
    "split_states",  # u32 (n_stages): states of each stage's automaton
    "split_rows",  # u16: the stages' rows one after another, n_classes + 1 entries a row
    "added_all",  # an added-token automaton, see added.py: tokens found when special tokens are recognised
    "added_user",  # the same for those found always
    "short_slots",  # 16 bytes each (home slots + overflow + 1): short words that are one token, see words.py; the last is empty
    "joins",  # u8 (256, 32): bits of pairs of bytes that some merge can join
    "char_ids",  # u32 (128): SPM: the token of each ASCII character, or NONE
    "priorities",  # u32 (n_merges) or empty: SPM: the order of a rank's merge, where several ranks share one
    "scan",  # u8: the short way through the split's automaton, see scan.py; without pairs for several splits
    "char_stage1",  # u16 (0x1100): WORDPIECE: what becomes of a character, see characters.py
    "char_stage2",  # u16
    "char_offsets",  # u32 (n_sequences + 1)
    "char_items",  # u8
    "trie",  # u64: the tokens of WORDPIECE and UNIGRAM, see trie.py
    "map_units",  # u32: UNIGRAM: a double array of sequences that are replaced, see infc_unigram.c; empty: none
    "map_text",  # u8: replacements, each with a NUL at its end
    "scores",  # f64 (vocab_size + 1): UNIGRAM; the last one that of what is unknown
    "map_classes",  # u8 (128): UNIGRAM: what becomes of an ASCII character before another: 1 itself, 2 one space, 0 something else
)
TOKEN_SPECIAL, TOKEN_EOG, TOKEN_RSTRIP, TOKEN_USER = 1, 2, 4, 8


def pack(header: Mapping[str, int], tables: Mapping[str, np.ndarray | bytes]) -> bytes:
    """The section. Every name of HEADER must be given; a table that is not is empty."""
    head = struct.pack(f"<8sII{len(HEADER)}I", MAGIC, VERSION, len(TABLES), *(header[n] for n in HEADER))
    body = bytearray()
    directory = b""
    base = -(-(len(head) + 16 * len(TABLES)) // 64) * 64
    for name in TABLES:
        data = tables.get(name, b"")
        raw = data if isinstance(data, bytes) else data.astype(data.dtype.newbyteorder("<")).tobytes()
        directory += struct.pack("<QQ", base + len(body), len(raw))
        body += raw + bytes(-len(raw) % 64)
    return (head + directory).ljust(base, b"\0") + bytes(body)
