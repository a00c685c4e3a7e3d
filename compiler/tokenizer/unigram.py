"""SentencePiece's unigram model (GGUF model ``t5``): of all ways to cut a text into tokens the one whose scores have the greatest sum.

Before that a map of characters makes text alike (the file's ``precompiled_charsmap``, mostly NFKC with white space made spaces). It is
a double array (Darts) of what SentencePiece finds in text, and stays one. As in SentencePiece, spaces are marks, runs
of them may be merged and one may be put first, and a character without a token is the unknown one, or the tokens of its bytes where the
vocabulary has all 256. Sums are doubles, as in HF and llama.cpp; those of a tokenizer.model are rounded as SentencePiece rounds them, which
decides between ways that are equally good.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from infc.errors import InputError
from infc.tokenizer.section import (
    FLAG_FLOAT_SUMS,
    FLAG_KEEP_END,
    FLAG_MERGE_SPACES,
    FLAG_SPACE_PREFIX,
    FLAG_SPLIT_SPACES,
    FLAG_WORDS_APART,
    NONE,
)
from infc.tokenizer.trie import trie
from infc.tokenizer.vocabulary import BYTE, NORMAL, OWN, PREFIX, SPACE_MARK, USER_DEFINED, Vocabulary, byte_tokens, unmarked
from infc.tokenizer.words import SHORT_WORD, short_word_table

_KEY = PREFIX + "precompiled_charsmap"
_UNKNOWN_PENALTY = np.float32(10)  # below the least score, as SentencePiece has it
_LEAST_EXACT = 2.0**-12  # 24 bits from there on end above 2^-36: sums up to 65,536 are exact
# Words that get a slot in the table of short words: the likeliest.
_MOST_WORDS = 16384
_LONGEST_REPLACEMENT = 255  # bytes; infc_unigram.c has the same number


def special_ids(vocabulary: Vocabulary) -> dict[str, int]:
    """``bos`` and ``sep`` (the end of a text), and ``unknown``. InputError G72."""
    unknown = vocabulary.special_id("unknown", 2)
    if unknown == NONE:
        raise InputError("G72", "a unigram model needs a token for what is unknown", f"key: {PREFIX}unknown_token_id")
    return {"bos": vocabulary.special_id("bos"), "sep": vocabulary.special_id("eos", 1), "unknown": unknown}


def unigram_tables(vocabulary: Vocabulary) -> tuple[dict[str, int], dict[str, np.ndarray | bytes]]:
    """Header and tables. InputError G68, G69, G78, G79."""
    scores, unknown_score = scores_of(vocabulary)
    split, floats = vocabulary.own_flag("split"), vocabulary.own_flag("float_sums")
    met = np.isin(vocabulary.types, (NORMAL, USER_DEFINED)) & ~np.isnan(scores)
    words = {
        unmarked(token): i for i, token in enumerate(vocabulary.tokens)
        if met[i] and token and " " not in token and not (split and SPACE_MARK in token[1:])
    }  # fmt: skip
    has_bytes = int((vocabulary.types == BYTE).sum()) >= 256
    charsmap = vocabulary.kv.get(_KEY)
    units, text = _map(np.asarray(charsmap if charsmap is not None else []))
    apart = not floats and _words_apart(words, scores, unknown_score, split) and (has_bytes or b" " in words)
    # Only text whose words are apart is looked at word by word.
    homes, slots = short_word_table(*_whole_words(words, scores, unknown_score) if apart else ({}, np.zeros(0, bool)))
    header = {
        "short_slots": homes,
        "flags": FLAG_SPACE_PREFIX * vocabulary.flag("add_space_prefix", True)
        | FLAG_MERGE_SPACES * vocabulary.flag("remove_extra_whitespaces", False)
        | FLAG_KEEP_END * vocabulary.own_flag("keep_end")
        | FLAG_SPLIT_SPACES * split
        | FLAG_WORDS_APART * apart
        | FLAG_FLOAT_SUMS * floats,
    }
    return header, {
        "byte_ids": byte_tokens(vocabulary) if has_bytes else b"",
        "scores": np.append(np.nan_to_num(scores), unknown_score),
        **trie(words),
        "map_units": units,
        "map_text": text,
        "map_classes": _classes(units, text),
        "short_slots": slots,
    }


def _whole_words(words: Mapping[bytes, int], scores: np.ndarray, unknown_score: float) -> tuple[dict[bytes, int], np.ndarray]:
    """(word -> token of the likeliest short words of which their token is the best cut, ones): what infc_unigram.c's search comes to."""
    of = {w.decode("utf-8", "surrogatepass"): float(scores[i]) for w, i in words.items()}
    starts = [w for w in words if w[:1] == b" " and len(w) <= SHORT_WORD]
    starts.sort(key=lambda w: (-scores[words[w]], words[w]))
    whole = {w: words[w] for w in starts[:_MOST_WORDS] if _is_best(w.decode("utf-8", "surrogatepass"), of, unknown_score)}
    return whole, np.ones(len(whole), bool)


def _is_best(word: str, of: Mapping[str, float], unknown_score: float) -> bool:
    """Whether no cut of a token's text has a greater sum, added from the left."""
    best = [0.0] + [-np.inf] * len(word)
    for at in range(1, len(word) + 1):
        # from before this character: every other token's text that ends here
        for begin in range(at == len(word), at):
            score = of.get(word[begin:at], unknown_score if begin == at - 1 else None)
            if score is not None and best[begin] + score > best[at]:
                best[at] = best[begin] + score
    return best[-1] <= of[word]


def _classes(units: np.ndarray, text: bytes) -> np.ndarray:
    """uint8 (128,): what the map makes of an ASCII character if ASCII follows: 1 itself, 2 one space, 0 something else, or more of what
    follows with it."""
    out = np.zeros(128, np.uint8)
    for c in range(1, 128):
        found = _replaced(units, text, bytes([c]))
        longer = any(_leads_on(units, bytes([c, d])) for d in range(1, 128))
        becomes = bytes([c]) if found is None else found
        out[c] = 0 if longer else 2 if becomes == b" " else becomes == bytes([c])
    return out


def _words_apart(words: Mapping[bytes, int], scores: np.ndarray, unknown_score: float, split: bool) -> bool:
    """Whether a text may be cut before each space and every word looked at alone: no token goes on over a space, and sums may begin anew.

    They may where they are exact, so that what is before changes no comparison: floats of 32 bits that are not tiny, in doubles.
    """
    used = np.append(scores[list(words.values())], unknown_score) if words else np.array([unknown_score])
    exact = bool((used == used.astype(np.float32)).all()) and bool((np.abs(used[used != 0]) >= _LEAST_EXACT).all())
    return (split or exact) and not any(b" " in w[1:] for w in words)


def scores_of(vocabulary: Vocabulary) -> tuple[np.ndarray, float]:
    """(float64, one a token, NaN where no text makes it; that of what is unknown). InputError G68, G69."""
    own = vocabulary.kv.get(OWN + "scores")
    if own is not None:
        unknown = vocabulary.kv.get(OWN + "unknown_score")
        found = np.asarray(own)
        if found.dtype != np.float64 or found.shape != (len(vocabulary),) or np.isinf(found).any() or not isinstance(unknown, float):
            raise InputError("G68", "scores of a folder that are no doubles, one a token", f"key: {OWN}scores")
        return found, unknown
    scores = vocabulary.scores()
    normal = vocabulary.types == NORMAL
    least = scores[normal].min() if normal.any() else np.float32(0)
    # What a user added is found in raw text first; where only normalization makes it, it costs nothing, as in llama.cpp.
    return np.where(vocabulary.types == USER_DEFINED, 0, scores).astype(np.float64), float(least - _UNKNOWN_PENALTY)


def replaced(charsmap: bytes, text: bytes) -> bytes | None:
    """What a map of characters makes of ``text``; None where it has no such entry. InputError G78."""
    return _replaced(*_map(np.frombuffer(charsmap, np.uint8)), text)


def _leads_on(units: np.ndarray, text: bytes) -> bool:
    """Whether entries of a double array begin with ``text``."""
    return _walk(units, text) is not None


def _walk(units: np.ndarray, text: bytes) -> tuple[int, int] | None:
    """(the unit that the last byte leads to, the place that this one names), None where no entry goes on so."""

    def offset(unit: int) -> int:
        return unit >> 10 << ((unit & 512) >> 6)

    unit, at = 0, offset(int(units[0])) if len(units) else 0
    for byte in text:
        at ^= byte
        if at >= len(units) or int(units[at]) & 0x800000FF != byte:
            return None
        unit = int(units[at])
        at ^= offset(unit)
    return unit, at


def _replaced(units: np.ndarray, strings: bytes, text: bytes) -> bytes | None:
    found = _walk(units, text)
    if found is None:
        return None
    unit, at = found
    if at >= len(units) or not unit & 256:
        return None
    return strings[int(units[at]) & 0x7FFFFFFF :].split(b"\0")[0]


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
