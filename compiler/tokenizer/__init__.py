"""Tokenizers and chat templates, compiled to the tables that ``runtime_c/infc_tokenizer.c`` and ``infc_chat.c`` walk."""

from infc.tokenizer.chat import ChatReduction, reduce_chat
from infc.tokenizer.compile import MODELS, compile_tokenizer
from infc.tokenizer.patterns import IGNORE_MERGES, PRETOKENIZERS, SPLITS
from infc.tokenizer.pretokenizers import compile_splits, name_of, patterns_of

__all__ = [
    "IGNORE_MERGES", "MODELS", "PRETOKENIZERS", "SPLITS", "ChatReduction", "compile_splits", "compile_tokenizer", "name_of", "patterns_of",
    "reduce_chat",
]  # fmt: skip
