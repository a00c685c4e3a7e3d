"""Tokenizers and chat templates, compiled to the tables that ``runtime_c/infc_tokenizer.c`` and ``infc_chat.c`` walk."""

from infc.tokenizer.chat import ChatReduction, reduce_chat
from infc.tokenizer.compile import MODELS, compile_tokenizer
from infc.tokenizer.patterns import PRETOKENIZERS
from infc.tokenizer.pretokenizers import name_of, patterns_of

__all__ = ["MODELS", "PRETOKENIZERS", "ChatReduction", "compile_tokenizer", "name_of", "patterns_of", "reduce_chat"]
