"""SentencePiece's unigram model (GGUF model ``t5``): of all ways to cut a text into tokens the one whose scores have the greatest sum.

Before that a map of characters makes text alike (the file's ``precompiled_charsmap``, mostly NFKC with white space made spaces). It is
a double array (Darts) of what SentencePiece finds in text, and stays one. As in SentencePiece, spaces are marks, runs
of them may be merged and one may be put first, and a character without a token is the unknown one, or the tokens of its bytes where the
vocabulary has all 256. Sums are doubles, as in HF and llama.cpp.
"""

from __future__ import annotations

import numpy as np

from infc.errors import InputError
from infc.tokenizer.section import FLAG_MERGE_SPACES, FLAG_SPACE_PREFIX, NONE
from infc.tokenizer.trie import trie
from infc.tokenizer.vocabulary import BYTE, NORMAL, PREFIX, USER_DEFINED, Vocabulary, byte_tokens, unmarked

_KEY = PREFIX + "precompiled_charsmap"
_UNKNOWN_PENALTY = np.float32(10)  # below the least score, as SentencePiece has it
_LONGEST_REPLACEMENT = 255  # bytes; infc_unigram.c has the same number


def special_ids(vocabulary: Vocabulary) -> dict[str, int]:
    """``bos`` and ``sep`` (the end of a text), and ``unknown``. InputError G72."""
    unknown = vocabulary.special_id("unknown", 2)
    if unknown == NONE:
        raise InputError("G72", "a unigram model needs a token for what is unknown", f"key: {PREFIX}unknown_token_id")
    return {"bos": vocabulary.special_id("bos"), "sep": vocabulary.special_id("eos", 1), "unknown": unknown}


def unigram_tables(vocabulary: Vocabulary) -> tuple[dict[str, int], dict[str, np.ndarray | bytes]]:
    """Header and tables. InputError G68, G69, G78, G79."""
    scores = vocabulary.scores()
    normal = vocabulary.types == NORMAL
    least = scores[normal].min() if normal.any() else np.float32(0)
    words = {
        unmarked(token): i for i, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types.tolist(), strict=True))
        if kind in (NORMAL, USER_DEFINED) and token and " " not in token
    }  # fmt: skip
    # What a user added is found in raw text first; where only normalization makes it, it costs nothing, as in llama.cpp.
    scores = np.where(vocabulary.types == USER_DEFINED, np.float32(0), scores)
    has_bytes = int((vocabulary.types == BYTE).sum()) >= 256
    charsmap = vocabulary.kv.get(_KEY)
    units, text = _map(np.asarray(charsmap if charsmap is not None else []))
    header = {
        "unknown_score": int((least - _UNKNOWN_PENALTY).astype(np.float32).view(np.uint32)),
        "flags": FLAG_SPACE_PREFIX * vocabulary.flag("add_space_prefix", True)
        | FLAG_MERGE_SPACES * vocabulary.flag("remove_extra_whitespaces", False),
    }
    return header, {
        "byte_ids": byte_tokens(vocabulary) if has_bytes else b"",
        "scores": scores,
        **trie(words),
        "map_units": units,
        "map_text": text,
    }


def _refuse(what: str) -> InputError:
    return InputError("G78", f"the map of characters {what}", f"key: {_KEY}")


def _map(charsmap: np.ndarray) -> tuple[np.ndarray, bytes]:
    """(uint32 units, strings) of ``u32 size | double array | strings that end in NUL``; both empty for no map. InputError G78.

    What the units say is checked where it is used: a place outside of them is the end of an entry, as is one that is too long.
    """
    none = np.zeros(0, np.uint32), b""
    if not len(charsmap):
        return none
    if charsmap.dtype.kind not in "iu" or charsmap.ndim != 1:
        raise _refuse("is no array of bytes")
    blob = charsmap.astype(np.uint8).tobytes()
    size = int.from_bytes(blob[:4], "little")
    strings = blob[4 + size :]
    if len(blob) < 8 or size % 4 or size == 0 or not strings:
        raise _refuse(f"has an array of {size} bytes in {len(blob)}")
    if strings[-1] != 0 or max(map(len, strings.split(b"\0"))) > _LONGEST_REPLACEMENT:
        raise _refuse(f"has a replacement without end, or of over {_LONGEST_REPLACEMENT} bytes")
    return np.frombuffer(blob, "<u4", size // 4, 4), strings
