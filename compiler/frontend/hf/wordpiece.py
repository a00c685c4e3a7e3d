"""A WordPiece tokenizer.json as the keys that a GGUF file would have: BERT's, with the choices that GGUF can say or takes for granted."""

from __future__ import annotations

from typing import Any

from infc.errors import InputError
from infc.frontend.hf.config import Config
from infc.frontend.hf.folder import TOKENIZER

_P = "tokenizer.ggml."
CONTROL, UNUSED = 3, 5
_MARK = "\u2581"  # begins a token that begins a word, where tokenizer.json marks the others with ##
_WORD_CHARACTERS = 100


def _refuse(what: str) -> InputError:
    return InputError("S13", f"a WordPiece tokenizer that is not BERT's: {what:.120}", TOKENIZER)


def fill(c: Config, found: dict[str, Any], model: dict[str, Any], tokens: list[str], types: list[int]) -> None:
    """Put the keys of the model and its normalizer, and respell ``tokens``. Raises InputError S13."""
    if model.get("continuing_subword_prefix") != "##":
        raise _refuse(f"words continue with {model.get('continuing_subword_prefix')!r}, not '##'")
    if model.get("max_input_chars_per_word") != _WORD_CHARACTERS:
        raise _refuse(f"words of up to {model.get('max_input_chars_per_word')} characters, not {_WORD_CHARACTERS}")
    pre = found.get("pre_tokenizer")
    if not isinstance(pre, dict) or pre.get("type") != "BertPreTokenizer":
        raise _refuse(f"pre-tokenizer {pre!s}")
    unknown = model.get("unk_token")
    if not isinstance(unknown, str) or unknown not in tokens:
        raise _refuse(f"its unknown token {unknown!r} is not in the vocabulary")
    i = tokens.index(unknown)
    lowercase, strip_accents = _normalizer(found.get("normalizer"))
    c.put(_P + "model", "str", "bert")
    c.put(_P + "pre", "str", "default")
    c.put(_P + "unknown_token_id", "u32", i)
    c.put(_P + "normalizer.lowercase", "bool", lowercase)
    c.put(_P + "normalizer.strip_accents", "bool", strip_accents)
    types[i] = CONTROL
    for k, (text, kind) in enumerate(zip(tokens, types, strict=True)):
        if kind not in (CONTROL, UNUSED):  # unused: an id that the vocabulary leaves out
            tokens[k] = text[2:] if text.startswith("##") and text != "##" else _MARK + text


def _normalizer(step: object) -> tuple[bool, bool]:
    """(lowercase, strip_accents). Raises InputError S13 for one that is not BERT's, or that leaves text or Chinese as it is."""
    if not isinstance(step, dict) or step.get("type") != "BertNormalizer":
        raise _refuse(f"normalizer {step!s}")
    lowercase, accents = step.get("lowercase"), step.get("strip_accents")
    if step.get("clean_text") is not True or step.get("handle_chinese_chars") is not True or not isinstance(lowercase, bool):
        raise _refuse(f"normalizer {step!s}")
    return lowercase, accents if isinstance(accents, bool) else lowercase
