"""A Unigram tokenizer.json, or tokenizer.model, as the keys that a GGUF file of SentencePiece's unigram model would have."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from infc.errors import InputError
from infc.frontend.hf import metaspace
from infc.frontend.hf.config import Config
from infc.frontend.hf.folder import TOKENIZER
from infc.frontend.hf.sentencepiece import SentencePiece

_P = "tokenizer.ggml."
NORMAL, UNKNOWN, BYTE = 1, 2, 6
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_GREATEST = 1e30  # of a score; no number passes neither
_PENALTY = 10.0  # HF's, below the least score of all


def vocabulary(model: dict[str, Any]) -> dict[str, int]:
    """token -> id. Raises InputError S13 for a list that is no vocabulary."""
    pieces = model.get("vocab")
    if not isinstance(pieces, list) or not pieces:
        raise InputError("S13", "vocab is missing or no list", TOKENIZER)
    ids: dict[str, int] = {}
    for i, piece in enumerate(pieces):
        text, score = piece if isinstance(piece, list) and len(piece) == 2 else (None, None)
        if not isinstance(text, str) or not isinstance(score, int | float) or not abs(score) <= _GREATEST:
            raise InputError("S13", f"piece {i} is no token with a score: {str(piece)[:60]}", TOKENIZER)
        if ids.setdefault(text, i) != i:
            raise InputError("S13", f"tokens {ids[text]} and {i} are both {text[:40]!r}", TOKENIZER)
    return ids


def fill(c: Config, found: dict[str, Any], model: dict[str, Any], tokens: list[str], types: list[int]) -> None:
    """Put the keys of the model, and of what it does about spaces. Raises InputError S13."""
    from infc.tokenizer.vocabulary import OWN

    pieces = model["vocab"]
    unknown = model.get("unk_id")
    if type(unknown) is not int or not 0 <= unknown < len(pieces):
        raise InputError("S13", f"a unigram model needs a token for what is unknown: unk_id is {str(unknown)[:20]}", TOKENIZER)
    scores = np.full(len(tokens), np.nan)  # no number: no token of the model
    scores[: len(pieces)] = [float(score) for _, score in pieces]
    if types[unknown] == NORMAL:
        types[unknown] = UNKNOWN
    if model.get("byte_fallback") is True:
        at = [i for i, (t, y) in enumerate(zip(tokens, types, strict=True)) if y == NORMAL and _BYTE.fullmatch(t)]
        if len({int(tokens[i][3:5], 16) for i in at}) != 256:
            raise InputError("S13", f"byte fallback with {len(at)} tokens of bytes, not 256", TOKENIZER)
        for i in at:
            types[i] = BYTE
    c.put(_P + "model", "str", "t5")
    c.put(_P + "pre", "str", "default")
    c.put(_P + "scores", "[f32]", np.where(np.isnan(scores), 0, scores).astype(np.float32))
    c.put(_P + "unknown_token_id", "u32", unknown)
    # GGUF's scores are narrower, and a sum that is a little different may prefer another way.
    c.put(OWN + "scores", "[f64]", scores)
    c.put(OWN + "unknown_score", "f64", float(np.nanmin(scores)) - _PENALTY)
    metaspace.fill(c, metaspace.read(found))


def fill_spaces(c: Config, model: SentencePiece) -> None:
    """Put what a tokenizer.model does to text before it is cut; sums are SentencePiece's own."""
    from infc.tokenizer.vocabulary import OWN

    if model.charsmap:
        c.put(_P + "precompiled_charsmap", "[u8]", np.frombuffer(model.charsmap, np.uint8))
    c.put(_P + "remove_extra_whitespaces", "bool", model.merge)
    c.put(OWN + "float_sums", "bool", True)
