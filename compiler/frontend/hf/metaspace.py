"""What a SentencePiece-like tokenizer.json does about spaces: its normalizer and pre-tokenizer as the few choices that the program has."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import numpy as np

from infc.errors import InputError
from infc.frontend.hf.config import Config
from infc.frontend.hf.folder import TOKENIZER

_P = "tokenizer.ggml."
_MARK = "\u2581"  # SentencePiece's sign for a space
_REPLACED = {"type": "Replace", "pattern": {"String": " "}, "content": _MARK}
_PREPENDED = {"type": "Prepend", "prepend": _MARK}
_RUNS = [{"type": "Replace", "pattern": {"Regex": r}, "content": c} for r in (" {2,}", "  +") for c in (" ", _MARK)]
# Gemma's split: spaces are gone when it looks for them.
_NO_SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
# White space that a map of characters must make spaces of, where HF strips or splits at all of it; the mark, too. (U+0085 no map has.)
_WHITE = "\t\n\r\u00a0\u1680\u2003\u2028\u3000" + _MARK


@dataclass(frozen=True, slots=True)
class Spaces:
    """``charsmap``: bytes of a map of characters. ``prefix``: a space comes before text; ``once``: unless it begins with one; ``first``:
    not after an added token. ``merge``: runs are one, and those at the ends of a text go; ``keep_end``: but one at the end. ``split``:
    words are cut before each space."""

    charsmap: bytes
    prefix: bool
    once: bool = False
    first: bool = False
    merge: bool = False
    keep_end: bool = False
    split: bool = False


def _refuse(what: str) -> InputError:
    return InputError("S13", f"a normalizer and pre-tokenizer that are not SentencePiece's: {what}", TOKENIZER)


def read(found: dict[str, Any]) -> Spaces:
    """Raises InputError S13 for what is not one of those choices."""
    normalizer, pre = found.get("normalizer"), found.get("pre_tokenizer")
    steps = [] if normalizer is None else normalizer.get("normalizers", [normalizer]) if isinstance(normalizer, dict) else [normalizer]
    steps = list(steps) if isinstance(steps, list) else [steps]
    charsmap = _charsmap(steps.pop(0)) if steps and isinstance(steps[0], dict) and steps[0].get("type") == "Precompiled" else b""
    if _REPLACED in steps and all(s in (_REPLACED, _PREPENDED) for s in steps) and pre in (None, _NO_SPLIT):
        if charsmap and _PREPENDED in steps:
            raise _refuse("a map of characters, then a space")
        return Spaces(charsmap, prefix=_PREPENDED in steps)
    strips = bool(steps) and isinstance(steps[0], dict) and steps[0].get("type") == "Strip" and steps[0].get("strip_right") is True
    left = bool(strips and steps.pop(0).get("strip_left"))
    runs = len(steps) == 1 and steps[0] in _RUNS
    if steps and not runs or strips and not runs:
        raise _refuse(f"{(steps or ['Strip'])[0]!s:.100}")
    words, metaspace = _metaspace(pre)
    scheme = metaspace.get("prepend_scheme", "always" if metaspace.get("add_prefix_space", True) else "never")
    split = metaspace.get("split", True)
    merge = runs or words
    if scheme not in ("always", "first", "never") or not isinstance(split, bool) or (merge and scheme == "never"):
        raise _refuse(f"{metaspace!s:.100}")
    if (words and (scheme != "always" or strips or runs)) or (left and scheme != "always"):
        raise _refuse(f"{pre!s:.100}")
    if merge and not all(_becomes_space(charsmap, c) for c in (_WHITE if strips or words else _MARK)):
        raise _refuse("spaces are merged or stripped, and no map makes spaces of other white space before")
    return Spaces(charsmap, scheme != "never", not merge, scheme == "first", merge, merge and not (strips or words), split or words)


def _metaspace(pre: object) -> tuple[bool, dict[str, Any]]:
    """(whether words are cut at white space first, the Metaspace step)."""
    found = pre.get("pretokenizers") if isinstance(pre, dict) and pre.get("type") == "Sequence" else [pre]
    parts = [p if isinstance(p, dict) else {} for p in found] if isinstance(found, list) else []
    kinds = [p.get("type") for p in parts]
    if kinds not in (["Metaspace"], ["WhitespaceSplit", "Metaspace"]) or parts[-1].get("replacement") != _MARK:
        raise _refuse(f"{pre!s:.100}")
    return len(kinds) == 2, parts[-1]


def _charsmap(step: dict[str, Any]) -> bytes:
    text = step.get("precompiled_charsmap")
    try:
        return base64.b64decode(text if isinstance(text, str) else "", validate=True)
    except (binascii.Error, ValueError):
        raise InputError("S13", "the map of characters is not base64", TOKENIZER) from None


def _becomes_space(charsmap: bytes, char: str) -> bool:
    from infc.tokenizer.unigram import replaced

    return replaced(charsmap, char.encode()) in (b" ", b"")


def fill(c: Config, spaces: Spaces) -> None:
    """Put the keys: GGUF's where it has them, else our own."""
    from infc.tokenizer.vocabulary import OWN

    c.put(_P + "add_space_prefix", "bool", spaces.prefix)
    if spaces.charsmap:
        c.put(_P + "precompiled_charsmap", "[u8]", np.frombuffer(spaces.charsmap, np.uint8))
    if spaces.merge:
        c.put(_P + "remove_extra_whitespaces", "bool", True)
    for name in ("once", "first", "keep_end", "split"):
        if getattr(spaces, name):
            c.put(OWN + name, "bool", True)
