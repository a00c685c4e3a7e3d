"""The tokenizer keys of a model file that every kind of tokenizer has: tokens, their types, the special ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from infc.errors import InputError
from infc.tokenizer import bpe
from infc.tokenizer.section import NONE

PREFIX = "tokenizer.ggml."
OWN = "infc.tokenizer."  # keys of our own, for what a folder's tokenizer says and GGUF has no key for
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # token types of the GGUF format
SPACE_MARK = "\u2581"  # stands for a space in the tokens of SentencePiece and WordPiece vocabularies

# Control tokens that end a turn or a text, by the names their model families gave them. A file names one of them as eos.
END_OF_GENERATION = frozenset(
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <end_of_turn> <|endoftext|> <|eom_id|> <EOT> _<EOT> [EOT] [EOS] "
    "<|end_of_text|> <end_of_utterance> </s> <eos> <turn|> <|tool_response> <|flush|> "
    "<|calls|> <\uff5cend\u2581of\u2581sentence\uff5c>".split()
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """``tokens``: text as the file has it; ``types``: int32, one a token; ``kv``: all keys of the file."""

    tokens: list[str]
    types: np.ndarray
    kv: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.tokens)

    def ids(self) -> dict[str, int]:
        """Text -> token, of equal ones the last."""
        return {t: i for i, t in enumerate(self.tokens)}

    def special_id(self, name: str, default: int = NONE) -> int:
        """``NAME_token_id``; ``default`` where the file does not say and has so many tokens. InputError G72."""
        value = self.kv.get(f"{PREFIX}{name}_token_id")
        if value is None:
            return default if default < len(self.tokens) else NONE
        if not 0 <= int(value) < len(self.tokens):
            raise InputError("G72", f"{name} token {int(value)} of {len(self.tokens)} tokens", f"key: {PREFIX}{name}_token_id")
        return int(value)

    def flag(self, name: str, default: bool) -> bool:
        return bool(self.kv.get(PREFIX + name, default))

    def own_flag(self, name: str) -> bool:
        """A choice that only a folder can make."""
        return self.kv.get(OWN + name) is True

    def scores(self) -> np.ndarray:
        """float32, one a token. InputError G68 or G69: missing, not numbers, too few, NaN."""
        where = f"key: {PREFIX}scores"
        values = self.kv.get(PREFIX + "scores")
        if values is None:
            raise InputError("G68", "the tokenizer needs scores and has none", where)
        try:
            scores = np.asarray(values, np.float32)
        except (TypeError, ValueError):
            raise InputError("G68", "the scores are not numbers", where) from None
        if scores.shape != (len(self.tokens),):
            raise InputError("G69", f"{len(values)} scores for {len(self.tokens)} tokens", where)
        if not np.isfinite(scores).all():
            raise InputError("G68", "a score that is NaN or infinite", where)
        return scores

    def marks(self) -> tuple[list[int], list[int], list[int]]:
        """(special, end of generation, user-defined) tokens. A token that is named as an end is special whatever its type: a user's
        text must not end a turn."""
        named = {i for i, t in enumerate(self.tokens) if t in END_OF_GENERATION and self.types[i] in (CONTROL, USER_DEFINED)}
        special = {int(i) for i in np.flatnonzero(np.isin(self.types, (UNKNOWN, CONTROL)))} | named
        user = {int(i) for i in np.flatnonzero(self.types == USER_DEFINED)} - named
        eog = named | ({self.special_id(name) for name in ("eos", "eot", "eom")} - {NONE})
        texts = {self.tokens[i] for i in eog}
        if texts >= {"<|end|>", "<|return|>", "<|call|>"}:
            eog -= {i for i in eog if self.tokens[i] == "<|end|>"}  # gpt-oss: it ends a message, not the answer
        return sorted(special), sorted(eog), sorted(user)


def read_vocabulary(kv: Mapping[str, Any], vocab_size: int) -> Vocabulary:
    """InputError G41, G67, G69."""
    tokens = kv.get(PREFIX + "tokens")
    where = f"key: {PREFIX}tokens"
    if tokens is None or not len(tokens) or not isinstance(tokens[0], str):
        raise InputError("G67", "the tokenizer has no tokens", where)
    if len(tokens) != vocab_size:
        raise InputError("G41", f"{len(tokens)} tokens for a vocabulary of {vocab_size}", where)
    if len(tokens) > bpe.MAX_VOCAB:
        raise InputError("G67", f"{len(tokens)} tokens (the merge table holds {bpe.MAX_VOCAB})", where)
    types = kv.get(PREFIX + "token_type")
    if types is None:
        types = np.full(len(tokens), NORMAL, np.int32)
    if len(types) != len(tokens):
        raise InputError("G69", f"{len(types)} token types for {len(tokens)} tokens", f"key: {PREFIX}token_type")
    return Vocabulary(list(tokens), np.asarray(types, np.int32), kv)


def unmarked(text: str) -> bytes:
    """The bytes of an ordinary token whose spaces are marks."""
    return text.replace(SPACE_MARK, " ").encode("utf-8", "surrogatepass")


def byte_tokens(vocabulary: Vocabulary) -> np.ndarray:
    """uint32 (256,): the tokens ``<0x00>`` to ``<0xFF>``. InputError G73 where one is missing: its byte would have no token."""
    ids = {t: i for i, t in enumerate(vocabulary.tokens)}
    out = np.array([ids.get(f"<0x{b:02X}>", NONE) for b in range(256)], np.uint32)
    missing = np.flatnonzero(out == NONE)
    if len(missing):
        raise InputError("G73", f"{len(missing)} bytes have no token, as <0x{int(missing[0]):02X}>", f"key: {PREFIX}tokens")
    return out
