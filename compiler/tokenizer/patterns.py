"""The pre-tokenizers by GGUF name: data only. ``pretokenizers.py`` compiles them.

Each is a list of splits applied one inside the other, as HF's ``Sequence`` does with ``Isolated`` pieces (text between
matches is a piece too). A new name is a new entry; a pattern outside the subset of ``regex.py`` is refused.

The patterns are those of the models' own tokenizer files, where llama.cpp has rewritten them for its matcher too (``gpt-4o``
and ``tekken``: it replaces case classes by lookaheads that know ASCII case only).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from infc.errors import InputError


@dataclass(frozen=True, slots=True)
class Pretokenizer:
    """``splits``: patterns from the outermost; ``ignore_merges``: a piece that is a token needs no merging.

    ``add_bos``: what a file that does not say wants.
    """

    splits: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False


GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DIGITS = r"\p{Numeric}"  # HF's Digits, one by one
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACE = r"\s+(?!\S)|\s+"
# %s: numbers, then what may follow punctuation.
_TIKTOKEN = _ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+%s|\s*[\r\n]+|" + _SPACE
CL100K = _TIKTOKEN % (r"\p{N}{1,3}", r"[\r\n]*")
_QWEN2 = _TIKTOKEN % (r"\p{N}", r"[\r\n]*")
_QWEN35 = (
    _ENDINGS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|" + _SPACE
)  # fmt: skip
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
# Words by case: %s: endings, numbers.
_CASED = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%s|%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|" + _SPACE
)
_O200K = _CASED % (_ENDINGS + "?", _ENDINGS + "?", r"\p{N}{1,3}")
_TEKKEN = _CASED % ("", "", r"\p{N}")
# The same without Chinese characters, which are words of their own kind.
_KIMI = (
    r"[\p{Han}]+|" + (_CASED % (_ENDINGS + "?", _ENDINGS + "?", r"\p{N}{1,3}"))
    .replace(r"\p{M}]", r"\p{M}&&[^\p{Han}]]").replace(r"[\r\n/]*", r"[\r\n]*")
)  # fmt: skip
_YOUTU_SCRIPTS = (
    "[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+"
    "|[\u3105-\u312f]+|[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
)
PUNCTUATION = r"[\p{P}\$\+<=>\^~\|`]+"  # HF's Punctuation, contiguous: ASCII's symbols too
_CJK = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_DEEPSEEK_CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
# Letters of scripts with case, as listed by DeepSeek's own file.
_DEEPSEEK_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377"
    "\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5"
    "\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d"
    "\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4"
    "\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115"
    "\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184"
    "\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e"
    "\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
_DEEPSEEK_V3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|""" + _SPACE
)
_SENTENCE_MARKS = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"

_GPT2 = Pretokenizer((GPT2,))
_STARCODER = Pretokenizer((DIGITS, GPT2))
_LLAMA3 = Pretokenizer((CL100K,), ignore_merges=True, add_bos=True)
_DBRX = Pretokenizer((CL100K,))
_GLM4 = Pretokenizer((CL100K,), ignore_merges=True)
_QWEN = Pretokenizer((_QWEN2,))
_GPT4O = Pretokenizer((_O200K,))
_BLOOM = Pretokenizer((_SENTENCE_MARKS,))
_DEEPSEEK3 = Pretokenizer((r"\p{N}{1,3}", _CJK, _DEEPSEEK_V3))
_BAILING = Pretokenizer(
    (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|" + _SPACE,)
)  # fmt: skip

PRETOKENIZERS: Mapping[str, Pretokenizer] = MappingProxyType(
    {
        **dict.fromkeys("gpt-2 phi-2 olmo mpt jais mellum modern-bert gigachat trillion granite-docling exaone4 a.x-4.0".split(), _GPT2),
        **dict.fromkeys("jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code roberta-bpe".split(), _GPT2),
        **dict.fromkeys("smollm starcoder refact command-r codeshell exaone minerva-7b mellum2".split(), _STARCODER),
        **dict.fromkeys("llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano".split(), _LLAMA3),
        **dict.fromkeys("dbrx smaug-bpe chatglm-bpe".split(), _DBRX),
        **dict.fromkeys("glm4 glm5".split(), _GLM4),
        **dict.fromkeys("qwen2 deepseek-r1-qwen megrez stablelm2 hunyuan solar-open kormo grok-2 f2llmv2".split(), _QWEN),
        "qwen35": Pretokenizer((_QWEN35,)),
        **dict.fromkeys("gpt-4o llama4 kanana2 minimax-m2 talkie".split(), _GPT4O),
        "granite-embed-multi-97m": Pretokenizer((_O200K,), ignore_merges=True),
        "youtu": Pretokenizer((_YOUTU_SCRIPTS, _CASED % (_ENDINGS + "?", _ENDINGS + "?", r"\p{N}")), ignore_merges=True),
        **dict.fromkeys("tiny_aya cohere2moe".split(), Pretokenizer((r"\d{1,3}(?=(?:\d{3})*\b)", _O200K))),
        "superbpe": Pretokenizer((r"\p{N}+", r"(?=(\d{3})+(?!\d))")),
        "kimi-k2": Pretokenizer((_KIMI,)),
        "tekken": Pretokenizer((_TEKKEN,), ignore_merges=True, add_bos=True),
        "deepseek-llm": Pretokenizer(
            (
                r"[\r\n]",
                rf"\s?[{_DEEPSEEK_LETTERS}]+",
                "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
                r"\s+$",
                _DEEPSEEK_CJK,
                DIGITS,
            )
        ),
        "deepseek-coder": Pretokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _DEEPSEEK_CJK, DIGITS)),
        **dict.fromkeys("deepseek-v3 hunyuan-dense joyai-llm hy_v4".split(), _DEEPSEEK3),
        "spark2_5": Pretokenizer((r"\p{N}{1,3}", _CJK, _DEEPSEEK_V3.replace(r"[\r\n]*|\s*[\r\n]+", r"|[\r\n]"), r"\p{N}")),
        "falcon": Pretokenizer((PUNCTUATION, GPT2, r"[0-9][0-9][0-9]")),
        **dict.fromkeys("bloom poro-chat gpt3-finnish".split(), _BLOOM),
        "viking": Pretokenizer((_SENTENCE_MARKS, DIGITS)),
        **dict.fromkeys("bailingmoe bailingmoe2 llada-moe".split(), _BAILING),
        "seed-coder": Pretokenizer(
            (_ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|" + _SPACE,)
        ),
        "exaone-moe": Pretokenizer(
            (
                _ENDINGS + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|"
                + _SPACE,
            )
        ),
        "minicpm5": Pretokenizer((r"\p{N}{1,3}", _TIKTOKEN % (r"\p{N}+", r"[\r\n]*")), ignore_merges=True),
        "laguna": Pretokenizer((r"[^\n]+|[\n]+", _QWEN2)),
        "ufakzeka": Pretokenizer((_QWEN2.removeprefix(_ENDINGS + "|"),)),
    }
)  # fmt: skip


# These cut nothing but line ends and merge from characters: under model gpt2 what model gemma4 is under a name of its own.
AS_GEMMA4 = frozenset({"gemma4", "granite-embed-multi-311m", "sarvam-moe"})

_NAMED = "gpt-2 smollm starcoder llama-bpe dbrx qwen2 gpt-4o tekken deepseek-llm deepseek-v3 falcon".split()


def known() -> str:
    """What is supported, in a few words: a message has 300 bytes."""
    return f"{', '.join(_NAMED)} and {len(PRETOKENIZERS) - len(_NAMED)} more"


# Keys of our own, for a pre-tokenizer that has no name: a folder's regular expressions from the outermost, and what goes with them.
SPLITS, IGNORE_MERGES = "infc.pretokenizer.splits", "infc.pretokenizer.ignore_merges"


def of_keys(kv: Mapping[str, Any]) -> Pretokenizer:
    """The pre-tokenizer of a model's keys, by its name or, without one, its expressions. InputError G76."""
    name, splits = kv.get("tokenizer.ggml.pre"), kv.get(SPLITS)
    if name is not None or splits is None:
        return pretokenizer(name)
    if not len(splits) or not all(isinstance(s, str) for s in splits):
        raise InputError("G76", "the pre-tokenizer's expressions are no strings", f"key: {SPLITS}")
    return Pretokenizer(tuple(splits), kv.get(IGNORE_MERGES) is True)


def pretokenizer(name: object) -> Pretokenizer:
    """The entry of ``name``; InputError G76 if there is none: a guess would give a wrong, silent tokenization."""
    if not isinstance(name, str) or name not in PRETOKENIZERS:
        raise InputError("G76", f"pre-tokenizer {name!s:.40} is not known (known: {known()})", "key: tokenizer.ggml.pre")
    return PRETOKENIZERS[name]
