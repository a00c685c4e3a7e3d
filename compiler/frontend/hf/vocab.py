"""tokenizer.json (or tokenizer.model) and tokenizer_config.json as the ``tokenizer.ggml.*`` keys that a GGUF file would have.

What cannot be said in those keys, and would tokenize differently without a sign, is refused (InputError S13; G76 for a pre-tokenizer).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from infc.errors import InputError
from infc.frontend.hf import metaspace, pretok, sentencepiece, unigram, wordpiece
from infc.frontend.hf.config import Config
from infc.frontend.hf.folder import TOKENIZER, Folder
from infc.frontend.hf.special import SETTINGS, chat_template, content, ends, special, template_ends
from infc.limits import Limits
from infc.tokenizer.vocabulary import OWN

_P = "tokenizer.ggml."
_SPECIALS, _ADDED = "special_tokens_map.json", "added_tokens.json"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_SPACE = "\u2581"  # SentencePiece's sign for a space


def fill(c: Config, folder: Folder, limits: Limits) -> None:
    """Put the tokenizer's keys and the chat template into ``c``."""
    settings = folder.json(_SPECIALS, "S13") | folder.json(SETTINGS, "S13")
    if folder.has(TOKENIZER):
        _from_json(c, folder, limits, settings)
    elif folder.has(sentencepiece.MODEL):
        _from_sentencepiece(c, folder, limits, settings)
    else:
        others = [name for name in ("spiece.model", "vocab.json", "vocab.txt", "tekken.json") if folder.has(name)]
        hint = f" ({others[0]} is not read)" if others else ""
        raise InputError("S13", f"the folder has neither {TOKENIZER} nor {sentencepiece.MODEL}{hint}", str(folder.path))
    ends(c, folder)
    template = chat_template(folder, settings)
    if template is not None:
        c.put("tokenizer.chat_template", "str", template)


def _from_json(c: Config, folder: Folder, limits: Limits, settings: dict[str, Any]) -> None:
    """tokenizer.json's keys."""
    found = folder.json(TOKENIZER, "S13")
    model = _object(found, "model")
    kind = model.get("type")
    if kind not in ("BPE", "WordPiece", "Unigram"):
        raise InputError("G76", f"tokenizer model {str(kind)[:40]!r} is not supported (BPE, Unigram and WordPiece are)", TOKENIZER)
    for key in ("dropout", "end_of_word_suffix", *(["continuing_subword_prefix"] if kind == "BPE" else [])):
        if model.get(key) not in (None, "", 0):
            raise InputError("S13", f"{key} {str(model[key])[:40]!r} is not supported", TOKENIZER)
    vocab = unigram.vocabulary(model) if kind == "Unigram" else model.get("vocab")
    tokens, types, added = _tokens(c, found, vocab, limits)
    merges = _merges(model) if kind == "BPE" else []
    if kind == "WordPiece":
        wordpiece.fill(c, found, model, tokens, types)
    elif kind == "Unigram":
        unigram.fill(c, found, model, tokens, types)
    elif model.get("byte_fallback") is True:
        _sentencepiece(c, found, tokens, types, merges)
    else:
        c.put(_P + "model", "str", "gpt2")
        pretok.fill(c, found, model.get("ignore_merges") is True)
        space = {ord(" "): chr(ord(" ") + 256)}  # a blank stands between the two parts
        c.put(_P + "merges", "[str]", [f"{a.translate(space)} {b.translate(space)}" for a, b in merges])
        _check_normalizer(found)
    c.put(_P + "tokens", "[str]", tokens)
    c.put(_P + "token_type", "[i32]", np.array(types, np.int32))
    around = (("cls", "bos"), ("sep", "sep")) if kind == "WordPiece" else (("bos", "bos"), ("eos", "eos"))
    special(c, settings, added, template_ends(found), around)
    if kind == "Unigram":
        c.put(_P + "unknown_token_id", "u32", model["unk_id"])  # whatever other files call unknown


def _from_sentencepiece(c: Config, folder: Folder, limits: Limits, settings: dict[str, Any]) -> None:
    """tokenizer.model's keys, with the tokens that other files add, as llama.cpp's converter adds them."""
    model = sentencepiece.read(folder.document(sentencepiece.MODEL, "S13"), limits)
    n = c.number("vocab_size", default=len(model.pieces))
    if len(model.pieces) > n:
        raise InputError("S13", f"{len(model.pieces)} pieces for a vocabulary of {n}", sentencepiece.MODEL)
    tokens, types = [f"[PAD{i}]" for i in range(n)], [UNUSED] * n
    scores = np.full(n, -10000.0, np.float32)
    for i, (text, score, kind) in enumerate(model.pieces):
        tokens[i], scores[i], types[i] = text, score, kind

    def add(text: object, i: object, kind: int) -> None:
        if not isinstance(text, str) or not text:
            raise InputError("S13", "an added token without content", SETTINGS)
        if type(i) is int and i >= n:
            _past(c, text, i, n)
            return
        if type(i) is not int or i < 0:
            raise InputError("S13", f"token {text[:40]!r} has id {str(i)[:20]} of {n}", SETTINGS)
        tokens[i], scores[i], types[i] = text, -1000.0, kind

    for text, i in folder.json(_ADDED, "S13").items():
        add(text, i, USER_DEFINED)
    decoder = settings.get("added_tokens_decoder") or {}
    for key, entry in decoder.items() if isinstance(decoder, dict) else ():
        text = content(entry) or ""
        control = isinstance(entry, dict) and entry.get("special") is True or _looks_special(text)
        number = int(key) if key.isascii() and key.isdigit() and len(key) < 10 else None
        add(text if control else text.replace(_SPACE, " "), number, CONTROL if control else USER_DEFINED)
    c.put(".vocab_size", "u32", n)
    c.put(_P + "model", "str", "t5" if model.unigram else "llama")
    c.put(_P + "pre", "str", "default")
    c.put(_P + "tokens", "[str]", tokens)
    c.put(_P + "scores", "[f32]", scores)
    c.put(_P + "token_type", "[i32]", np.array(types, np.int32))
    prefix = settings.get("add_prefix_space")
    c.put(_P + "add_space_prefix", "bool", prefix if isinstance(prefix, bool) else model.space_prefix)
    for name, i in model.ids.items():
        if 0 <= i < n and c.values.get(f"{name}_token_id") is None:
            c.values[f"{name}_token_id"] = i
    if model.unigram:
        unigram.fill_spaces(c, model)
    ids = {t: i for i, t in enumerate(tokens)}

    def around(name: str) -> str | None:
        text = content(settings.get(f"{name}_token")) or (tokens[model.ids[name]] if 0 <= model.ids[name] < n else None)
        return text if text in ids else None

    # transformers' tokenizers of this kind begin a text unless told otherwise; T5's end it
    is_t5 = str(settings.get("tokenizer_class")).startswith(("T5Tokenizer", "MT5Tokenizer"))
    special(c, settings, ids, (None, around("eos")) if is_t5 else (around("bos"), None))
    if model.unigram:
        c.put(_P + "unknown_token_id", "u32", model.ids["unk"])  # whatever other files call unknown


def notes(folder: Folder) -> list[str]:
    """What the user should know of the tokenizer."""
    if folder.has(TOKENIZER) and _normalizer(folder.json(TOKENIZER, "S13")) == ["NFC"]:
        return ["the tokenizer wants text in Unicode's form NFC: give it so, nothing converts it"]
    return []


def _object(found: dict[str, Any], key: str) -> dict[str, Any]:
    value = found.get(key)
    if not isinstance(value, dict):
        raise InputError("S13", f"{key} is missing or no object", TOKENIZER)
    return value


def _looks_special(text: str) -> bool:
    """Added tokens that files forget to mark as special."""
    marked = (text.startswith(("<|", "<\uff5c")) and text.endswith(("|>", "\uff5c>"))) or (text.startswith("<unused") and text[-1] == ">")
    return marked or text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")


def _tokens(c: Config, found: dict[str, Any], vocab: object, limits: Limits) -> tuple[list[str], list[int], dict[str, int]]:
    """(tokens by id, their types, added tokens -> id). Ids without a token are unused ones, as many as the embedding has rows."""
    extra = found.get("added_tokens", [])
    if not isinstance(vocab, dict) or not isinstance(extra, list):
        raise InputError("S13", "vocab or added_tokens is missing or of another kind", TOKENIZER)
    n = c.number("vocab_size", default=len(vocab) + len(extra))
    if not 0 < n <= limits.vocab:
        raise InputError("G67", f"{n} tokens, {limits.over('vocab')}" if n else "the vocabulary is empty", TOKENIZER)
    tokens, types = [f"[PAD{i}]" for i in range(n)], [UNUSED] * n
    for text, i in vocab.items():
        _place(tokens, types, text, i, NORMAL)
    added: dict[str, int] = {}
    for entry in extra:
        text, i = (entry.get("content"), entry.get("id")) if isinstance(entry, dict) else (None, None)
        if not isinstance(text, str) or not text:
            raise InputError("S13", "an added token without content", TOKENIZER)
        control = entry.get("special") is True or _looks_special(text)
        if vocab.get(text) == i and isinstance(i, int):
            types[i] = UNUSED  # the vocabulary has it too
        if type(i) is int and i >= n:
            _past(c, text, i, n)
            continue
        added[text] = _place(tokens, types, text if control else text.replace(_SPACE, " "), i, CONTROL if control else USER_DEFINED)
    c.put(".vocab_size", "u32", n)
    return tokens, types, added


def _past(c: Config, text: str, i: int, n: int) -> None:
    """Fine-tuned models have such tokens, mostly for padding: no row of the embedding is theirs, so no text can have them."""
    c.notes.append(f"added token {text[:40]!r} is left out: its id {i} is past the embedding's {n} rows")


def _place(tokens: list[str], types: list[int], text: str, i: object, kind: int) -> int:
    if type(i) is not int or not 0 <= i < len(tokens):
        raise InputError("S13", f"token {text[:40]!r} has id {str(i)[:20]} of {len(tokens)}", TOKENIZER)
    if types[i] != UNUSED:
        raise InputError("S13", f"two tokens of id {i}: {tokens[i][:40]!r} and {text[:40]!r}", TOKENIZER)
    tokens[i], types[i] = text, kind
    return i


def _merges(model: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs, from "a b" or ["a", "b"]."""
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise InputError("G74", "the merges are missing", TOKENIZER)
    pairs = []
    for i, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(p, str) and p for p in parts):
            raise InputError("G74", f"merge {i} is not two tokens: {str(merge)[:40]!r}", TOKENIZER)
        pairs.append((parts[0], parts[1]))
    return pairs


def _check_normalizer(found: dict[str, Any]) -> None:
    """None, or one that GGUF files leave out as well."""
    if _normalizer(found) not in ([], ["NFC"]):
        raise InputError("S13", f"a normalizer that is not supported: {str(found.get('normalizer'))[:80]}", TOKENIZER)


def _normalizer(found: dict[str, Any]) -> list[object]:
    """The kinds of its steps."""
    normalizer = found.get("normalizer")
    if not isinstance(normalizer, dict):
        return [] if normalizer is None else [normalizer]
    steps = normalizer.get("normalizers") if normalizer.get("type") == "Sequence" else [normalizer]
    return [s.get("type") if isinstance(s, dict) else s for s in steps] if isinstance(steps, list) else [steps]


def _is_scored(merges: list[tuple[str, str]], tokens: set[str]) -> bool:
    """Whether scores say the same as the list: it has every way to cut a token into two tokens, those of one token side by side.

    So a converter writes SentencePiece's scores down as merges. Learned merges have one way for a token, mostly.
    """
    texts = [left + right for left, right in merges]
    beginnings = sum(1 for i, t in enumerate(texts) if i == 0 or texts[i - 1] != t)
    made = {*texts}
    ways = sum(t[:i] in tokens and t[i:] in tokens for t in made for i in range(1, len(t)))
    return beginnings == len(made) and ways == len({*merges})


def _sentencepiece(c: Config, found: dict[str, Any], tokens: list[str], types: list[int], merges: list[tuple[str, str]]) -> None:
    """A vocabulary that was SentencePiece's: scores from the order of the merges, bytes by their names, spaces as U+2581."""
    c.put(_P + "model", "str", "llama")
    c.put(_P + "pre", "str", "default")
    rank: dict[str, int] = {}
    for i, (left, right) in enumerate(merges):
        rank.setdefault(left + right, i)
    c.put(_P + "scores", "[f32]", np.array([-float(rank.get(t, len(merges))) for t in tokens], np.float32))
    if not _is_scored(merges, {t for t, y in zip(tokens, types, strict=True) if y in (NORMAL, USER_DEFINED)}):
        c.put(OWN + "merges", "[str]", [f"{left} {right}" for left, right in merges if " " not in left + right])  # no text has spaces then
    for i, t in enumerate(tokens):
        if types[i] == NORMAL and _BYTE.fullmatch(t):
            types[i] = BYTE
    unknown = found["model"].get("unk_token")
    if isinstance(unknown, str) and unknown in tokens:
        types[tokens.index(unknown)] = UNKNOWN
    spaces = metaspace.read(found)
    if spaces.charsmap or spaces.merge:
        raise InputError("S13", "byte-pair merging after a normalizer that changes text is not supported", TOKENIZER)
    metaspace.fill(c, spaces)
