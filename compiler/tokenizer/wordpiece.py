"""WordPiece (GGUF model ``bert``): a word is the longest token it begins with, then the longest that its rest continues with, and so on.

As GGUF has it, tokens that begin a word carry the mark U+2581 and those that continue one carry nothing; here the mark is a space. A
word that does not come out, or has more than WORD_CHARACTERS characters, is the unknown token: that is HF's number, and llama.cpp
knows none.
"""

from __future__ import annotations

import numpy as np

from infc.errors import InputError
from infc.tokenizer.characters import character_tables
from infc.tokenizer.section import NONE
from infc.tokenizer.trie import trie
from infc.tokenizer.vocabulary import CONTROL, PREFIX, SPACE_MARK, UNKNOWN, USER_DEFINED, Vocabulary

WORD_CHARACTERS = 100  # infc_wordpiece.h has the same number


def raw_tokens(vocabulary: Vocabulary) -> list[bytes]:
    """What each token writes: a word's beginning has a space before it."""
    return [_raw(t, k) for t, k in zip(vocabulary.tokens, vocabulary.types.tolist(), strict=True)]


def _raw(text: str, kind: int) -> bytes:
    if kind not in (CONTROL, UNKNOWN) and text.startswith(SPACE_MARK) and text != SPACE_MARK:
        # Converters put the mark on tokens that users added too, which stand for themselves.
        text = ("" if kind == USER_DEFINED else " ") + text.removeprefix(SPACE_MARK)
    return text.encode("utf-8", "surrogatepass")


def special_ids(vocabulary: Vocabulary) -> dict[str, int]:
    """``bos`` and ``sep``, which go around a text, and ``unknown``. Where a file does not say, tokens of BERT's names. InputError G72."""
    named = {text: i for i, text in reversed(list(enumerate(vocabulary.tokens)))}

    def find(names: tuple[str, ...], text: str) -> int:
        given = [i for name in names if (i := vocabulary.special_id(name)) != NONE]
        return given[0] if given else named.get(text, NONE)

    found = {"bos": find(("cls", "bos"), "[CLS]"), "sep": find(("seperator", "eos"), "[SEP]"), "unknown": find(("unknown",), "[UNK]")}
    if found["unknown"] == NONE:
        raise InputError("G72", "WordPiece needs a token for words that are unknown", f"key: {PREFIX}unknown_token_id")
    return found


def wordpiece_tables(vocabulary: Vocabulary, raw: list[bytes]) -> dict[str, np.ndarray | bytes]:
    """A trie of what text can become, and the tables of characters. InputError G79."""
    lowercase = vocabulary.flag("normalizer.lowercase", True)
    chars = character_tables(lowercase, vocabulary.flag("normalizer.strip_accents", lowercase))
    words = {
        text: i for i, (text, kind) in enumerate(zip(raw, vocabulary.types.tolist(), strict=True))
        if kind not in (CONTROL, UNKNOWN, USER_DEFINED) and text
    }  # fmt: skip
    return {
        "char_stage1": chars.stage1,
        "char_stage2": chars.stage2,
        "char_offsets": chars.offsets,
        "char_items": chars.items,
        **trie(words),
    }
