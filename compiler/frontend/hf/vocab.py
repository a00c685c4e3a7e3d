"""tokenizer.json and tokenizer_config.json as the ``tokenizer.ggml.*`` keys that a GGUF file would have.

What cannot be said in those keys, and would tokenize differently without a sign, is refused (InputError S13; G76 for a pre-tokenizer).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from infc.errors import InputError
from infc.frontend.hf import wordpiece
from infc.frontend.hf.config import Config
from infc.frontend.hf.folder import TOKENIZER, Folder
from infc.frontend.hf.pretok import pre_name
from infc.limits import Limits

_P = "tokenizer.ggml."
_SETTINGS, _TEMPLATE, _TEMPLATE_JSON = "tokenizer_config.json", "chat_template.jinja", "chat_template.json"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
# name in tokenizer_config.json -> in GGUF
_SPECIAL = {
    "bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding", "cls": "cls", "mask": "mask",
}  # fmt: skip
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_SPACE = "\u2581"  # SentencePiece's sign for a space


def fill(c: Config, folder: Folder, limits: Limits) -> None:
    """Put the tokenizer's keys and the chat template into ``c``."""
    if not folder.has(TOKENIZER):
        other = " (tokenizer.model alone is not read)" if folder.has("tokenizer.model") else ""
        raise InputError("S13", f"the folder has no {TOKENIZER}{other}", str(folder.path))
    found = folder.json(TOKENIZER, "S13")
    settings = folder.json(_SETTINGS, "S13")
    model = _object(found, "model")
    kind = model.get("type")
    if kind not in ("BPE", "WordPiece"):
        raise InputError("G76", f"tokenizer model {str(kind)[:40]!r} is not supported (BPE and WordPiece are)", TOKENIZER)
    for key in ("dropout", "end_of_word_suffix", *(["continuing_subword_prefix"] if kind == "BPE" else [])):
        if model.get(key) not in (None, "", 0):
            raise InputError("S13", f"{key} {str(model[key])[:40]!r} is not supported", TOKENIZER)
    tokens, types, added = _tokens(c, found, model, limits)
    merges = _merges(model) if kind == "BPE" else []
    if kind == "WordPiece":
        wordpiece.fill(c, found, model, tokens, types)
    elif model.get("byte_fallback") is True:
        _sentencepiece(c, found, tokens, types, merges)
    else:
        c.put(_P + "model", "str", "gpt2")
        c.put(_P + "pre", "str", pre_name(found, model.get("ignore_merges") is True))
        space = {ord(" "): chr(ord(" ") + 256)}  # a blank stands between the two parts
        c.put(_P + "merges", "[str]", [f"{a.translate(space)} {b.translate(space)}" for a, b in merges])
        _check_normalizer(found)
    c.put(_P + "tokens", "[str]", tokens)
    c.put(_P + "token_type", "[i32]", np.array(types, np.int32))
    _special(c, found, settings, added, (("cls", "bos"), ("sep", "sep")) if kind == "WordPiece" else (("bos", "bos"), ("eos", "eos")))
    template = _chat_template(folder, settings)
    if template is not None:
        c.put("tokenizer.chat_template", "str", template)


def notes(folder: Folder) -> list[str]:
    """What the user should know of the tokenizer."""
    if _normalizer(folder.json(TOKENIZER, "S13")) == ["NFC"]:
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


def _tokens(c: Config, found: dict[str, Any], model: dict[str, Any], limits: Limits) -> tuple[list[str], list[int], dict[str, int]]:
    """(tokens by id, their types, added tokens -> id). Ids without a token are unused ones, as many as the embedding has rows."""
    vocab, extra = model.get("vocab"), found.get("added_tokens", [])
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
        added[text] = _place(tokens, types, text if control else text.replace(_SPACE, " "), i, CONTROL if control else USER_DEFINED)
    c.put(".vocab_size", "u32", n)
    return tokens, types, added


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


def _sentencepiece(c: Config, found: dict[str, Any], tokens: list[str], types: list[int], merges: list[tuple[str, str]]) -> None:
    """A vocabulary that was SentencePiece's: scores from the order of the merges, bytes by their names, spaces as U+2581."""
    c.put(_P + "model", "str", "llama")
    c.put(_P + "pre", "str", "default")
    rank: dict[str, int] = {}
    for i, (left, right) in enumerate(merges):
        rank.setdefault(left + right, i)
    c.put(_P + "scores", "[f32]", np.array([-float(rank.get(t, len(merges))) for t in tokens], np.float32))
    for i, t in enumerate(tokens):
        if types[i] == NORMAL and _BYTE.fullmatch(t):
            types[i] = BYTE
    unknown = found["model"].get("unk_token")
    if isinstance(unknown, str) and unknown in tokens:
        types[tokens.index(unknown)] = UNKNOWN
    c.put(_P + "add_space_prefix", "bool", _space_prefix(found))


def _space_prefix(found: dict[str, Any]) -> bool:
    """Whether a space is put before the text. Spaces must become U+2581, by the normalizer or by Metaspace, and words not be cut."""
    normalizer, pre = found.get("normalizer"), found.get("pre_tokenizer")
    steps = (normalizer.get("normalizers") or [normalizer]) if isinstance(normalizer, dict) else []
    replaced = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    prepended = {"type": "Prepend", "prepend": _SPACE}
    # Gemma's split: spaces are gone when it looks for them.
    no_split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    if replaced in steps and all(s in (replaced, prepended) for s in steps) and pre in (None, no_split):
        return prepended in steps
    if not steps and isinstance(pre, dict) and pre.get("type") == "Metaspace" and pre.get("replacement") == _SPACE:
        scheme = pre.get("prepend_scheme", "always" if pre.get("add_prefix_space", True) else "never")
        if pre.get("split") is False and scheme in ("always", "first", "never"):
            return bool(scheme != "never")
    raise InputError("S13", f"a normalizer and pre-tokenizer that are not SentencePiece's: {str(steps)[:60]}, {str(pre)[:60]}", TOKENIZER)


def _content(entry: object) -> str | None:
    """A special token's text: a string, or an object with one."""
    text = entry.get("content") if isinstance(entry, dict) else entry
    return text if isinstance(text, str) else None


def _special(
    c: Config, found: dict[str, Any], settings: dict[str, Any], added: dict[str, int], around: tuple[tuple[str, str], tuple[str, str]]
) -> None:
    """Ids of the special tokens, and whether text starts or ends with one: ``around`` says which, and what GGUF's keys call it."""
    ids: dict[str, int] = {}
    for name, key in _SPECIAL.items():
        text = _content(settings.get(f"{name}_token"))
        i = added.get(text) if text is not None else None
        if i is None:
            value = c.values.get(f"{name}_token_id")
            value = value[0] if isinstance(value, list) and value else value
            i = value if type(value) is int and 0 <= value < len(_list(c)) else None
        if i is not None:
            ids[name] = i
            c.put(f"{_P}{key}_token_id", "u32", i)
    first, last = _template_ends(found)
    for (name, key), text in zip(around, (first, last), strict=True):
        stated = settings.get(f"add_{name}_token")
        adds = stated if isinstance(stated, bool) else text is not None and ids.get(name) == added.get(text)
        if text is not None and not isinstance(stated, bool) and not adds:
            raise InputError("S13", f"every text gets {text[:40]!r}, which is not the {name} token", TOKENIZER)
        c.put(f"{_P}add_{key}_token", "bool", adds)


def _list(c: Config) -> list[str]:
    tokens = c.kv[_P + "tokens"]
    assert isinstance(tokens, list)
    return tokens


def _template_ends(found: dict[str, Any]) -> tuple[str | None, str | None]:
    """The special tokens that the post-processor puts before and after one text."""
    post = found.get("post_processor")
    steps = (post.get("processors") or [post]) if isinstance(post, dict) else []
    for step in steps if isinstance(steps, list) else []:
        if isinstance(step, dict) and step.get("type") == "BertProcessing":
            return _pair_text(step.get("cls")), _pair_text(step.get("sep"))
        if isinstance(step, dict) and step.get("type") == "TemplateProcessing":
            single = step.get("single")
            parts = [p for p in single if isinstance(p, dict)] if isinstance(single, list) else []
            names = [p["SpecialToken"].get("id") if isinstance(p.get("SpecialToken"), dict) else None for p in parts]
            text = next((i for i, p in enumerate(parts) if "Sequence" in p), 0)
            if len(names) > 3 or any(n is not None and not isinstance(n, str) for n in names):
                raise InputError("S13", "a post-processor with more than one token at an end", TOKENIZER)
            return (names[0] if text == 1 else None), (names[-1] if len(names) == text + 2 else None)
    return None, None


def _pair_text(pair: object) -> str | None:
    """The text of [text, id]."""
    return pair[0] if isinstance(pair, list) and pair and isinstance(pair[0], str) else None


def _chat_template(folder: Folder, settings: dict[str, Any]) -> str | None:
    """From tokenizer_config.json, else a file of its own; of several the one named default."""
    template: object = settings.get("chat_template")
    if template is None and folder.has(_TEMPLATE):
        template = folder.text(_TEMPLATE, "S13")
    if template is None:
        template = folder.json(_TEMPLATE_JSON, "S13").get("chat_template")
    if isinstance(template, list):
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise InputError("S13", "the chat template is not a string", _SETTINGS)
    return template
