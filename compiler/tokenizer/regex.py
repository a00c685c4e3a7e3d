"""The regular expressions that pre-tokenizers are written in, parsed to a small syntax tree.

The subset: literals, escapes, ``\\p{X}`` ``\\s`` ``\\d`` ``\\w`` ``\\h`` and their opposites, classes, also in one another and with ``&&``,
``.``, groups (``(...)`` is read as ``(?:...)``), the options ``i`` and ``m``, alternation, ``? * + {m,n}`` greedy or lazy, of one
character possessive too, and lookahead of one character or the end: ``(?=X)`` ``(?!X)`` ``$`` ``\\z``.
Meaning is Oniguruma's, which HF ``tokenizers`` uses. Anything else is refused: a guess would split text differently.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from infc.errors import InputError
from infc.tokenizer.charset import CODE_POINTS, CharSet, properties, property_named, union

_MAX_REPEAT = 256
_MAX_DEPTH = 32
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "a": "\a", "e": "\x1b", "0": "\0"}
_SETS = {"s": "White_Space", "d": "Nd", "w": "Word", "h": "XDigit"}  # escapes of many characters; the capital is the opposite
# [:punct:] and [:word:] are other sets than their properties.
_POSIX = {
    "alpha": "Alpha", "alnum": "Alnum", "upper": "Upper", "lower": "Lower", "digit": "Nd", "space": "White_Space", "xdigit": "XDigit",
}  # fmt: skip
# Letters outside ASCII that fold to an ASCII letter (Unicode CaseFolding.txt, status C): long s and the Kelvin sign.
_FOLDS = {"s": "\u017f", "k": "\u212a"}
# Sequences that also fold from one character (sharp s, ligatures; CaseFolding.txt, status F): not supported.
_MULTI_FOLDS = ("ss", "ff", "fi", "fl", "st")


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a set."""

    set: CharSet


@dataclass(frozen=True, slots=True)
class Concat:
    """Items one after another; none: the empty string."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """The first item that leads to a match."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """``low`` to ``high`` times (None: no end), as often as possible, or if ``lazy`` as seldom."""

    item: Node
    low: int
    high: int | None
    lazy: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """The next character is in ``set``, or, if ``at_end``, there is none."""

    set: CharSet
    at_end: bool


Node = Chars | Concat | Choice | Repeat | Look


def parse(pattern: str) -> Node:
    """The syntax tree of ``pattern``; InputError G76 names the construct and where it stands."""
    parser = _Parser(pattern)
    node = parser.choice(_Options(), depth=0)
    if parser.at < len(pattern):
        raise parser.refuse("unbalanced )")
    return node


@dataclass(frozen=True, slots=True)
class _Options:
    """``fold``: no regard to case. ``lines``: ``.`` is any character, a line end too."""

    fold: bool = False
    lines: bool = False


def _one_character(node: Node) -> CharSet | None:
    """The set of a node that is one character of a set, whichever way it is written."""
    if isinstance(node, Chars):
        return node.set
    sets = [_one_character(i) for i in node.items] if isinstance(node, Choice) else []
    return union(s for s in sets if s is not None) if sets and None not in sets else None


def may_be_empty(node: Node) -> bool:
    """Whether some text is matched without a character."""
    if isinstance(node, Concat):
        return all(may_be_empty(i) for i in node.items)
    if isinstance(node, Choice):
        return any(may_be_empty(i) for i in node.items)
    if isinstance(node, Repeat):
        return node.low == 0 or may_be_empty(node.item)
    return isinstance(node, Look)


def _folds_otherwise(s: CharSet) -> bool:
    """Whether ``s`` has characters outside ASCII that have another case: what they fold to is not known here."""
    wide = s & CharSet((128,))
    return bool(wide and wide & _cased())


@lru_cache(maxsize=1)
def _cased() -> CharSet:
    """Characters outside ASCII with another case. Takes a second."""
    points = [i for i, c in enumerate(map(chr, range(CODE_POINTS))) if i > 127 and {c} != {c.lower(), c.upper(), c.casefold()}]
    return CharSet.of(*((c, c) for c in points), (0x0345, 0x0345))


def _fold(s: CharSet) -> CharSet:
    """``s`` with the other case of each of its ASCII letters."""
    letters = [c for c in map(chr, range(128)) if c.isalpha() and (ord(c) in s or ord(c.swapcase()) in s)]
    folds = [_FOLDS[c.lower()] for c in letters if c.lower() in _FOLDS]
    return union((s, CharSet.chars("".join(letters + folds))))


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    def refuse(self, what: str) -> InputError:
        return InputError("G76", f"pre-tokenizer pattern not supported: {what}", f"pattern offset: {self.at}")

    def peek(self, text: str) -> bool:
        return self.pattern.startswith(text, self.at)

    def take(self, text: str) -> bool:
        found = self.peek(text)
        self.at += len(text) * found
        return found

    def next(self) -> str:
        if self.at >= len(self.pattern):
            raise self.refuse("it ends too soon")
        self.at += 1
        return self.pattern[self.at - 1]

    def until(self, end: str) -> str | None:
        """What comes before ``end``, and past both; None where there is no end."""
        stop = self.pattern.find(end, self.at)
        if stop < 0:
            return None
        begin, self.at = self.at, stop + len(end)
        return self.pattern[begin:stop]

    def choice(self, how: _Options, depth: int) -> Node:
        if depth > _MAX_DEPTH:
            raise self.refuse("groups nested too deep")
        items = [self.concat(how, depth)]
        while self.take("|"):
            items.append(self.concat(how, depth))
        return items[0] if len(items) == 1 else Choice(tuple(items))

    def concat(self, how: _Options, depth: int) -> Node:
        items: list[Node] = []
        run = ""  # literal letters so far, to catch a sequence that folds from one character
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            if self.peek("(?") and (rest := self.options(how, ")")) is not None:
                items.append(self.choice(rest, depth + 1))  # they hold up to the end of the group
                break
            run = run + self.pattern[self.at].lower() if how.fold else ""
            if run.endswith(_MULTI_FOLDS):
                raise self.refuse(f"{run[-2:]} without regard to case")
            items.append(self.repeat(self.atom(how, depth)))
        return items[0] if len(items) == 1 else Concat(tuple(items))

    def repeat(self, item: Node) -> Node:
        """``item`` with what is behind it. Of a range ``{m,n}`` a ``?`` makes it lazy, a ``+`` repeats it once more, as in Ruby."""
        counted = self.peek("{")
        times = self.times()
        if times is None:
            return item
        if isinstance(item, Look):
            raise self.refuse("a repeated lookahead")
        found: Node = Repeat(item, *times)
        if not counted and self.take("+"):
            found = self.once(Repeat(item, *times))
        elif (not counted or times[0] != times[1]) and self.take("?"):
            found = Repeat(item, *times, lazy=True)
        elif counted and (again := self.times()) is not None:
            found = Repeat(found, *again)
        if any(self.peek(c) for c in "?*+{"):
            raise self.refuse("a repetition of a repetition")
        self.check_repeated(found)
        return found

    def check_repeated(self, node: Node) -> None:
        """Oniguruma leaves a repetition as soon as a round of it was empty, at a price for what comes later in the item."""
        while isinstance(node, Repeat):
            if node.high != 1 and may_be_empty(node.item):
                raise self.refuse("a repetition of what may be empty")
            node = node.item

    def times(self) -> tuple[int, int | None] | None:
        """The lowest and highest count that stand here; None if nothing does."""
        for sign, bounds in (("?", (0, 1)), ("*", (0, None)), ("+", (1, None))):
            if self.take(sign):
                return bounds
        if not self.take("{"):
            return None
        low, comma, high = (self.until("}") or "x").partition(",")
        if not (low or "0").isdecimal() or not (high or "0").isdecimal() or not (low or high):
            raise self.refuse("a counted repetition of another form than {m}, {m,}, {,n}, {m,n}")
        least = int(low or "0")
        most = (int(high) if high else None) if comma else least
        if max(least, most or 0) > _MAX_REPEAT or (most is not None and most < least):
            raise self.refuse("repetition count")
        return least, most

    def once(self, r: Repeat) -> Node:
        """``r`` without a way back: of one character as many as there are. Of more it would be no regular expression."""
        chars = _one_character(r.item)
        if chars is None or r.lazy:
            raise self.refuse("a possessive repetition of more than one character")
        item, stop = Chars(chars), Look(~chars, at_end=True)
        if r.high is None:
            return Concat((Repeat(item, r.low, None), stop))
        most = Repeat(item, r.high, r.high)
        return most if r.low == r.high else Choice((most, Concat((Repeat(item, r.low, r.high - 1), stop))))

    def atom(self, how: _Options, depth: int) -> Node:
        if self.take("("):
            return self.group(how, depth)
        if self.take("["):
            return Chars(self.char_class(how, depth))
        if self.take("."):
            return Chars(~CharSet() if how.lines else ~CharSet.chars("\n"))
        if self.take("$"):  # Ruby syntax: the end of a line
            return Look(CharSet.chars("\n"), at_end=True)
        if self.take("\\z"):
            return Look(CharSet(), at_end=True)
        if self.peek("^") or any(self.peek(c) for c in "?*+{"):
            raise self.refuse(f"{self.pattern[self.at]} here")
        single = not self.is_set()  # Oniguruma folds a set only within a class
        s = self.escape() if self.take("\\") else CharSet.chars(self.next())
        if how.fold and single and _folds_otherwise(s):
            raise self.refuse("a letter outside ASCII without regard to case")
        return Chars(_fold(s) if how.fold and single else s)

    def group(self, how: _Options, depth: int) -> Node:
        """From behind the bracket."""
        if self.take("?=") or self.peek("?!"):
            return self.look(not self.take("?!"), how, depth)
        if self.take("?>"):
            body = self.closed(how, depth)
            return body if _one_character(body) is not None else self.once(body if isinstance(body, Repeat) else Repeat(body, 1, 1))
        if self.take("?:") or not self.peek("?"):
            return self.closed(how, depth)
        name = re.compile(r"\?<[A-Za-z_]\w*>").match(self.pattern, self.at)  # a name changes nothing
        self.at = name.end() if name else self.at - 1
        found = how if name else self.options(how, ":")
        if found is None:
            raise self.refuse("a group of another kind than (?: (?i: (?m: (?= (?! (?> (?<name>")
        return self.closed(found, depth)

    def closed(self, how: _Options, depth: int) -> Node:
        body = self.choice(how, depth + 1)
        if not self.take(")"):
            raise self.refuse("unbalanced (")
        return body

    def options(self, how: _Options, end: str) -> _Options | None:
        """``(?im-im`` and ``end``, and past it; None where something else stands."""
        found = re.compile(r"\(\?([im]*)(?:-([im]*))?" + re.escape(end)).match(self.pattern, self.at)
        if found is None:
            return None
        self.at = found.end()
        on, off = found[1], found[2] or ""
        return _Options((how.fold or "i" in on) and "i" not in off, (how.lines or "m" in on) and "m" not in off)

    def look(self, positive: bool, how: _Options, depth: int) -> Node:
        body = self.closed(how, depth)
        items = body.items if isinstance(body, Choice) else (body,)
        sets = [i.set for i in items if isinstance(i, Chars | Look)]
        if len(sets) != len(items):
            raise self.refuse("lookahead over more than one character")
        seen, at_end = union(sets), any(isinstance(i, Look) and i.at_end for i in items)
        return Look(seen, at_end) if positive else Look(~seen, not at_end)

    def is_set(self) -> bool:
        """Whether an escape of many characters stands here."""
        return self.peek("\\") and self.pattern[self.at + 1 : self.at + 2].lower() in {"p", *_SETS}

    def escape(self) -> CharSet:
        """From behind the backslash."""
        c = self.next()
        if c in "pP":
            return self.property(negated=c == "P")
        if c.lower() in _SETS:
            found = properties()[_SETS[c.lower()]]
            return found if c.islower() else ~found
        if c in _ESCAPES:
            return CharSet.chars(_ESCAPES[c])
        if c in "xu":
            return CharSet.chars(self.code_point(c))
        if c.isalnum():
            raise self.refuse(f"\\{c}")
        return CharSet.chars(c)

    def code_point(self, kind: str) -> str:
        """``\\xHH``, ``\\x{H...}``, ``\\uHHHH``, from behind the letter."""
        n = 2 if kind == "x" else 4
        if kind == "x" and self.take("{"):
            digits = self.until("}") or ""
        else:
            digits = self.pattern[self.at : self.at + n]
            self.at += n
            digits = digits if len(digits) == n else ""
        if not 0 < len(digits) <= 8 or any(d not in "0123456789abcdefABCDEF" for d in digits) or int(digits, 16) >= CODE_POINTS:
            raise self.refuse(f"\\{kind} without the hexadecimal digits of a character")
        if n == 2 and len(digits) == 2 and int(digits, 16) > 127 and self.pattern[self.at - 1] != "}":
            raise self.refuse("\\x of a byte that is no character")
        return chr(int(digits, 16))

    def property(self, negated: bool) -> CharSet:
        name = ""
        if self.take("{"):
            negated ^= self.take("^")
            name = self.until("}") or ""
        found = property_named(name)
        if found is None:
            raise self.refuse(f"property {name[:40] or 'without a name'}")
        return ~found if negated else found

    def char_class(self, how: _Options, depth: int) -> CharSet:
        """From behind the bracket."""
        if depth > _MAX_DEPTH:
            raise self.refuse("classes nested too deep")
        negated = self.take("^")
        parts: list[list[CharSet]] = [[]]
        while not self.take("]"):
            if self.take("&&"):
                parts.append([])
            elif self.take("[:"):
                negative, name = self.take("^"), self.until(":]") or ""
                if name not in _POSIX:
                    raise self.refuse(f"class [:{name[:40]}:]")
                parts[-1].append(~properties()[_POSIX[name]] if negative else properties()[_POSIX[name]])
            elif self.take("["):
                parts[-1].append(self.char_class(how, depth + 1))
            else:
                parts[-1].append(self.class_item())
        if not all(parts):
            raise self.refuse("an empty class")
        if how.fold and len(parts) > 1:
            raise self.refuse("&& without regard to case")
        whole = ~union(~union(p) for p in parts)
        if how.fold:
            if _folds_otherwise(whole):
                raise self.refuse("a wide class without regard to case")
            whole = _fold(whole)
        return ~whole if negated else whole

    def class_item(self) -> CharSet:
        """A character, a range, or an escape of many."""
        single = not self.is_set()
        item = self.escape() if self.take("\\") else CharSet.chars(self.next())
        if not single or not self.peek("-") or self.peek("-]"):
            return item
        self.at += 1
        if self.is_set() or self.peek("["):
            raise self.refuse("a range in a class")
        last = self.escape() if self.take("\\") else CharSet.chars(self.next())
        if last.toggles[0] < item.toggles[0]:
            raise self.refuse("a range in a class")
        return CharSet.of((item.toggles[0], last.toggles[0]))
