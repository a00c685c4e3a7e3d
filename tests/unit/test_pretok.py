"""Pre-tokenizers: the regular expressions, their tables and Unicode, against HF ``tokenizers`` (Oniguruma, Rust)."""

from __future__ import annotations

import json
import random
from importlib import resources
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import Regex
from tokenizers.pre_tokenizers import Digits, Split

from infc.errors import InputError
from infc.tokenizer.charset import CODE_POINTS, CharSet, partition, properties
from infc.tokenizer.dfa import MAX_STATES
from infc.tokenizer.patterns import PRETOKENIZERS, pretokenizer
from infc.tokenizer.pretokenizers import compile_splits, name_of, patterns_of, split_text
from infc.tokenizer.regex import parse
from tests.unit.tokenizer_support import adversarial, distinct_pretokenizers, hf_pre_tokenizer


def _comparable() -> np.ndarray:
    """Code points to compare at: all that are looked at; under another version of HF, whose Unicode may be newer, those of them that are
    assigned."""
    data = resources.files("infc.tokenizer").joinpath("unicode.txt").read_text("ascii")
    known = _LOOKED_AT.copy()
    if f"# tokenizers {tokenizers.__version__}\n" not in data:
        assigned = _members(properties()["C"])
        for group in "LMNPSZ":
            assigned |= _members(properties()[group])
        known &= assigned
    return known


def _members(s: CharSet) -> np.ndarray:
    steps = np.zeros(CODE_POINTS + 1, np.int32)
    steps[list(s.toggles)] = np.resize([1, -1], len(s.toggles))
    return np.cumsum(steps[:-1]).astype(bool)


def _looked_at() -> np.ndarray:
    """Every code point of the planes that Unicode has assigned anything in; of the others, which it has not or has given away whole, the
    ends and some between. A set of ours that changes at a place not looked at fails."""
    c = np.arange(CODE_POINTS)
    dense = (c < 0x40000) | (c >> 12 == 0xE0)
    return (dense | (c % 0x10000 < 2) | (c % 0x10000 > 0xFFFC) | (c % 61 == 0)) & ~((c >= 0xD800) & (c < 0xE000))


_LOOKED_AT = _looked_at()
_TEXT = "".join(map(chr, np.flatnonzero(_LOOKED_AT).tolist()))


@pytest.mark.parametrize(
    "pattern", [r"\p{L}", r"\p{N}", r"\p{M}", r"\p{Han}", r"\s", r"\d", r"(?i:s)", r"[\p{L}\p{M}&&[^\p{Han}]]", r"[^\p{L}&&[\p{Han}a]]",
     r"\w", r"\W", r"\h", r"\p{Latin}", r"\p{Hangul}", r"\p{^Greek}", r"\p{Uppercase_Letter}", r"\p{letter}", r"\p{Punct}", r"\p{Upper}",
     "[[:alpha:]]", "[[:^alnum:]_]", "[[:upper:]]", "[[:lower:]]", "[[:space:]]", "[[:xdigit:]]", r"[a[\p{L}&&[^\p{Han}x]]]",
     r"[\w&&\d&&[^1]]", "(?i:[a-z])", r"(?i:\p{Lu})", r"(?i:[^\s\d])", "(?m:.)"],
)  # fmt: skip
def test_sets_of_all_code_points(pattern: str) -> None:
    kept = "".join(piece for piece, _ in Split(Regex(pattern), "removed").pre_tokenize_str(_TEXT))
    theirs = np.ones(CODE_POINTS, bool)
    theirs[np.frombuffer(kept.encode("utf-32-le"), np.uint32)] = False
    found = parse(pattern).set  # type: ignore[union-attr]
    for at in found.toggles:
        assert at in (0, 0xD800, 0xE000, CODE_POINTS) or _LOOKED_AT[at - 1 : at + 1].all(), hex(at)
    ours = _members(found)
    different = np.flatnonzero((ours != theirs) & _comparable())
    assert not len(different), [hex(c) for c in different[:10]]


def test_digits_of_all_code_points() -> None:
    text = "a" + "".join(c + "a" for c in _TEXT)
    single = [text[b] for _, (b, e) in Digits(individual_digits=True).pre_tokenize_str(text) if e - b == 1 and b % 2]
    theirs = np.zeros(CODE_POINTS, bool)
    theirs[[ord(c) for c in single]] = True
    different = np.flatnonzero((_members(properties()["Numeric"]) != theirs) & _comparable())
    assert not len(different), [hex(c) for c in different[:10]]


def test_every_category_is_there_once() -> None:
    names = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co".split()
    count = sum(_members(properties()[n]).astype(int) for n in names)
    assert count.max() == 1
    assert properties()["L"] == CharSet.of(*((a, a) for a in np.flatnonzero(_members(properties()["L"])).tolist()))


def test_char_sets() -> None:
    rnd = random.Random(2)
    for _ in range(300):
        sets = [CharSet.of(*((a, a + rnd.randrange(9)) for a in rnd.sample(range(60), rnd.randrange(1, 5)))) for _ in range(3)]
        a, b, c = ({x for x in range(80) if x in s} for s in sets)
        for t in sets:  # against sums over the toggles
            assert {x for x in range(80) if sum(x >= at for at in t.toggles) % 2} == {x for x in range(80) if x in t}
        assert {x for x in range(80) if x in sets[0] | sets[1]} == a | b
        assert {x for x in range(80) if x in sets[0] & ~sets[1]} == a - b
        starts, classes, members = partition(sets)
        for x in range(80):
            cls = classes[np.searchsorted(starts, x, "right") - 1]
            assert [cls in m for m in members] == [x in a, x in b, x in c]
    assert ~~CharSet.chars("ab") == CharSet.chars("ab")
    assert (~CharSet()).toggles == (0,) and not CharSet()


_PLAIN = ["a", "b", " ", "1", "x", r"\n", r"\.", "é", r"\x{e9}", r"\x61", r"\u0031"]
_CLASSES = [
    r"\s", r"\S", r"\p{L}", r"\P{L}", r"\p{^N}", r"\p{Letter}", r"\d", r"\w", r"\W", r"\h", "[ab]", "[^a]", r"[^\s\p{L}]",
    r"[\r\n]", "[0-9]", ".", "(?m:.)", "[a[1x]]", r"[\w&&[^b\d]]", r"[^a&&\p{L}]", "[[:alpha:]1]", "[[:^space:]&&[^a]]",
    r"[\p{Latin}'&&[^x-z]]",
]  # fmt: skip
_LOOKS = [r"(?!\S)", "(?=a)", "(?!a|1)", r"(?=\s)", "(?=a|$)", r"(?!\z|[ab])", r"(?![^\n])", "$", r"\z"]
_ONCE = ["a++", r"\s*+", r"\w?+", "(?>a+)", r"(?>\d{1,2})", "(?>[ab]*)", "(?>x|b)", "(?:a|1)++"]
_TIMES = ["?", "*", "+", "{2}", "{1,3}", "{0,2}", "{2,}", "??", "*?", "+?", "{1,3}?", "{2,}?", "{2}?", "{1,2}+", "{2}*", "{1,2}{2}"]


def _random_pattern(rnd: random.Random, depth: int = 0) -> str:
    def atom() -> str:
        kind = rnd.random()
        if kind < 0.35:
            return rnd.choice(_PLAIN)
        if kind < 0.65:
            return rnd.choice(_CLASSES)
        if kind < 0.75:
            return rnd.choice([*_LOOKS, "(?i:x)", "(?i:'s|ab)", "(?i:[a-c])", "(?i:b(?-i:a))"])
        inner = _random_pattern(rnd, depth + 1) if depth < 2 else "a"
        return rnd.choice(["(%s)", "(?:%s)", "(?<name>%s)", "(?i)%s"]) % inner  # the options hold for what is behind them, too

    def item() -> str:
        if rnd.random() < 0.08:
            return rnd.choice(_ONCE)
        part = atom()
        return part if part in _LOOKS or part.startswith("(?i)") or rnd.random() < 0.55 else part + rnd.choice(_TIMES)

    return "|".join("".join(item() for _ in range(rnd.randint(1, 4))) for _ in range(rnd.randint(1, 3)))


def test_random_patterns_split_as_oniguruma_does() -> None:
    """Every construct that is read, in random company. Each was met in patterns that were compared."""
    rnd = random.Random(4)
    checked: list[str] = []
    while len(checked) < 500:
        pattern = _random_pattern(rnd)
        try:
            tables = compile_splits((pattern,))
        except InputError:  # it may match the empty string
            continue
        try:
            hf = Split(Regex(pattern), "isolated")
        except Exception as e:  # HF's own refusal has no other class
            assert "target of repeat operator" in str(e), pattern  # a lookahead alone in a group that is repeated
            continue
        checked.append(pattern)
        for _ in range(20):
            text = "".join(rnd.choice("aab 1xX\n.é's") for _ in range(rnd.randint(1, 12)))
            assert split_text(tables, text) == [p for p, _ in hf.pre_tokenize_str(text)], (pattern, text)
    for part in (*_CLASSES, *_LOOKS, *_ONCE, *_TIMES):
        assert any(part in pattern for pattern in checked), part


@pytest.mark.parametrize("name", distinct_pretokenizers())
def test_named_pretokenizers(name: str) -> None:
    tables = compile_splits(pretokenizer(name).splits)
    hf = hf_pre_tokenizer(name)
    source = adversarial(random.Random(5), ["<|im_start|>"])
    for _ in range(1500):
        text = source()
        ours = split_text(tables, text)
        ends = [sum(map(len, ours[: i + 1])) for i in range(len(ours))]
        assert "".join(ours) == text
        assert ends == [e for _, (_, e) in hf.pre_tokenize_str(text)], repr(text)


def test_nested_splits() -> None:
    """A split of more than single characters runs inside the pieces of the one before it, gaps too."""
    tables = compile_splits((r"[0-9]+x?", r"\s+(?!\S)|[a-z]+ ?"))
    hf = tokenizers.pre_tokenizers.Sequence([Split(Regex(p), "isolated") for p in (r"[0-9]+x?", r"\s+(?!\S)|[a-z]+ ?")])
    rnd = random.Random(6)
    for _ in range(2000):
        text = "".join(rnd.choice("ab x12  \n!") for _ in range(rnd.randint(1, 14)))
        assert split_text(tables, text) == [p for p, _ in hf.pre_tokenize_str(text)], repr(text)


@pytest.mark.parametrize(
    "pattern",
    ["", "a*", "(a|)", "a??", "a*+", "a{3,1}", "a{1,9999}", "a{x}", "a{", "(a", "a)", "[a", "[]", "[b-a]", "[a[b]", "[a&&]",
     "[&&[b]]", "(?i:[a&&[b]])", "[a&&[b]", "[[:punct:]]", "[a-[b]]", r"[a-\w]",
     "^a", "*a", r"\p{Klingon}", r"\p{}", r"\p", r"\pL", r"\bx", r"\1", r"\x1", r"\x{110000}", r"\x{}", r"\xe9", r"\u12", "a\\", "(?!ab)c",
     "(?<=a)b", "(?<!a)b", "(?>ab|a)c", "(?P<n>a)", "(?x: a)", "(?<1>a)", "(?ia", "(ab)++", "(?:a?)*b", "(?:a*){2}b", "a+**", "a{2}{3}{4}",
     "(?i:é)", "(?i:[é])", "(?i:ss)", "(?!a)+b", "(" * 40 + "a" + ")" * 40, "[" * 40 + "a" + "]" * 40, r"[^\s\S]"],
)  # fmt: skip
def test_what_is_outside_the_subset_is_refused(pattern: str) -> None:
    with pytest.raises(InputError) as e:
        compile_splits((pattern,))
    assert e.value.code == "G76"


@pytest.mark.parametrize("pattern", ["((a{200}){200}){200}b", "(a|b)*a(a|b){14}", "|".join("x" * 200 + str(i) for i in range(200))])
def test_blow_up_is_refused(pattern: str) -> None:
    with pytest.raises(InputError) as e:
        compile_splits((pattern,))
    assert e.value.code == "G79"


@pytest.mark.parametrize("pattern", [r"a+b", r"\s+(?=x)", r"(a|b)*c", r" ?(?:a+b)+"])
def test_a_search_that_would_read_a_run_again_and_again_is_refused(pattern: str) -> None:
    with pytest.raises(InputError, match="in vain"):
        compile_splits((pattern,))


def test_the_other_spelling_of_white_space_at_the_end() -> None:
    """DeepSeek's ``\\s+$`` is searched for by a pattern that also matches what lies before it, in one piece."""
    tables, hf = compile_splits((r"\s+$",)), Split(Regex(r"\s+$"), "isolated")
    rnd = random.Random(7)
    for _ in range(3000):
        text = "".join(rnd.choice("ab \t\u3000\x85") for _ in range(rnd.randint(1, 9)))  # no line end: an earlier split takes those
        assert split_text(tables, text) == [p for p, _ in hf.pre_tokenize_str(text)], repr(text)


def test_tables_are_in_bounds() -> None:
    for entry in PRETOKENIZERS.values():
        tables = compile_splits(entry.splits)
        assert int(tables.stage1.max()) * 256 < len(tables.stage2)
        assert int(tables.stage2.max()) < tables.n_classes
        for rows in tables.dfas:
            if len(rows) == 1:  # marks
                assert int(rows.max()) < 8
                continue
            assert int(rows.max()) >> 1 < len(rows) <= MAX_STATES
            assert not (rows[:, -1] >> 1).any() and not rows[0].any()


def test_an_unknown_name_is_refused() -> None:
    bad: Any
    for bad in ("", "default", "GPT-2", None, 3, "x" * 500):
        with pytest.raises(InputError) as e:
            pretokenizer(bad)
        assert e.value.code == "G76"


def test_the_name_of_patterns() -> None:
    for name in distinct_pretokenizers():
        entry = PRETOKENIZERS[name]
        same = {"bailingmoe": "qwen2"}.get(name, name)  # written in another way, and the same
        assert name_of(entry.splits, entry.ignore_merges) == same
        assert name_of(patterns_of(json_of(name)), entry.ignore_merges) == same
    other = r"(?:'[sS\u017f]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\n\r\p{N}\p{L}]?\p{L}+|\p{N}\p{N}?\p{N}?"
    assert name_of([other + r"| ?[^\s\p{L}\p{N}]+[\n\r]*|\s*[\r\n]+|\s+(?!\S)|\s+"], True) == "llama-bpe", "another spelling of the same"
    for wrong in ([r"\p{L}+|\s+"], [], [r"[\r\n]", r"\s?\p{L}+"]):
        with pytest.raises(InputError) as e:
            name_of(wrong)
        assert e.value.code == "G76"
    for bad in ({"type": "Metaspace"}, {"type": "Split", "behavior": "Removed", "pattern": {"Regex": "a"}}, {}, {"type": "Digits"}):
        with pytest.raises(InputError):
            patterns_of(bad)


def json_of(name: str) -> dict[str, Any]:
    """The ``pre_tokenizer`` object as a ``tokenizer.json`` has it."""
    whole = tokenizers.Tokenizer(tokenizers.models.BPE())
    whole.pre_tokenizer = hf_pre_tokenizer(name)
    return dict(json.loads(whole.to_str())["pre_tokenizer"])


@pytest.mark.parametrize(
    "patterns",
    [
        (r"\d{1,3}(?=(?:\d{3})*\b)",), (r"\d{1,3}(?=(\d{3})*(?!\d))", r"\s+(?!\S)|\s|\w+"), (r"[0-9]{1,3}(?=(?:[0-9]{3})*\b)",),
        (r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))", r"[^a]{4}"), (r"\p{N}+", r"(?=(\d{3})+(?!\d))"), (r"(?=(?:\d{3})+(?!\d))",),
        ("[ab]", r"\d{1,3}(?=(?:\d{3})*\b)", r"[a-z]\d"), ("[ab]+x?", r"(?=(?:\d{3})+(?!\d))"),
    ],
)  # fmt: skip
def test_groups_of_three_from_the_right(patterns: tuple[str, ...]) -> None:
    tables = compile_splits(patterns)
    hf = tokenizers.pre_tokenizers.Sequence([Split(Regex(p), "isolated") for p in patterns])
    rnd = random.Random(8)
    for _ in range(4000):
        text = "".join(rnd.choice("1234567890 1½\u0663ab_.éx") for _ in range(rnd.randint(1, 18)))
        assert split_text(tables, text) == [p for p, _ in hf.pre_tokenize_str(text)], repr(text)


def test_groups_of_three_once_only() -> None:
    with pytest.raises(InputError, match="more than one split"):
        compile_splits((r"\d{1,3}(?=(?:\d{3})*\b)", r"(?=(?:\d{3})+(?!\d))"))
    for pattern in (r"\d{1,3}(?=(?:\p{N}{3})*\b)", r"\d{1,3}(?=(?:\d{3})*$)", r"(?=(\d{4})+(?!\d))"):
        with pytest.raises(InputError) as e:
            compile_splits((pattern,))
        assert e.value.code == "G76"
