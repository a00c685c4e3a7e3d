"""The regular expressions that pre-tokenizers are written in, parsed to a small syntax tree.

The subset: literals, escapes, ``\\p{X}`` ``\\P{X}`` ``\\s`` ``\\S`` ``\\d`` ``\\D``, classes, ``[x&&[y]]``, ``.``, groups (``(...)`` is
read as ``(?:...)``), ``(?i:...)``, alternation, greedy ``? * + {m,n}``, and lookahead of one character ``(?=X)`` ``(?!X)``.
Meaning is Oniguruma's, which HF ``tokenizers`` uses. Anything else is refused: a guess would split text differently.
"""

from __future__ import annotations

from dataclasses import dataclass

from infc.errors import InputError
from infc.tokenizer.charset import CharSet, properties, union

_MAX_REPEAT = 256
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0"}
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
    """``low`` to ``high`` times (None: no end), as often as possible."""

    item: Node
    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Look:
    """The next character is in ``set``, or, if ``at_end``, there is none."""

    set: CharSet
    at_end: bool


Node = Chars | Concat | Choice | Repeat | Look


def parse(pattern: str) -> Node:
    """The syntax tree of ``pattern``; InputError G76 names the construct and where it stands."""
    parser = _Parser(pattern)
    node = parser.choice(fold=False, depth=0)
    if parser.at < len(pattern):
        raise parser.refuse("unbalanced )")
    return node


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

    def choice(self, fold: bool, depth: int) -> Node:
        if depth > 32:
            raise self.refuse("groups nested too deep")
        items = [self.concat(fold, depth)]
        while self.take("|"):
            items.append(self.concat(fold, depth))
        return items[0] if len(items) == 1 else Choice(tuple(items))

    def concat(self, fold: bool, depth: int) -> Node:
        items: list[Node] = []
        run = ""  # literal letters so far, to catch a sequence that folds from one character
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            run = run + self.pattern[self.at].lower() if fold else ""
            if run.endswith(_MULTI_FOLDS):
                raise self.refuse(f"{run[-2:]} without regard to case")
            items.append(self.repeat(self.atom(fold, depth)))
        return items[0] if len(items) == 1 else Concat(tuple(items))

    def repeat(self, item: Node) -> Node:
        bounds: tuple[int, int | None]
        if self.take("?"):
            bounds = (0, 1)
        elif self.take("*"):
            bounds = (0, None)
        elif self.take("+"):
            bounds = (1, None)
        elif self.take("{"):
            body = self.pattern[self.at : self.pattern.find("}", self.at)]
            self.at += len(body) + 1
            low, comma, high = body.partition(",")
            if not (low or "0").isdecimal() or not (high or "0").isdecimal() or not (low or high):
                raise self.refuse("a counted repetition of another form than {m}, {m,}, {,n}, {m,n}")
            least = int(low or "0")
            bounds = (least, (int(high) if high else None) if comma else least)
        else:
            return item
        if isinstance(item, Look):
            raise self.refuse("a repeated lookahead")
        if max(bounds[0], bounds[1] or 0) > _MAX_REPEAT or (bounds[1] is not None and bounds[1] < bounds[0]):
            raise self.refuse("repetition count")
        if any(self.peek(c) for c in "?*+{"):
            raise self.refuse("lazy, possessive or double repetition")
        return Repeat(item, *bounds)

    def atom(self, fold: bool, depth: int) -> Node:
        if self.take("("):
            return self.group(fold, depth)
        if self.take("["):
            return Chars(self.char_class(fold))
        if self.take("."):
            return Chars(~CharSet.chars("\n"))
        if self.take("$"):  # Ruby syntax: the end of a line
            return Look(CharSet.chars("\n"), at_end=True)
        if self.peek("^") or any(self.peek(c) for c in "?*+{"):
            raise self.refuse(f"{self.pattern[self.at]} here")
        s = self.escape() if self.take("\\") else CharSet.chars(self.next())
        if fold and s.toggles[0] > 127:
            raise self.refuse("a letter outside ASCII without regard to case")
        return Chars(_fold(s) if fold else s)

    def group(self, fold: bool, depth: int) -> Node:
        look: bool | None = None
        if self.take("?i:"):
            fold = True
        elif self.take("?=") or self.peek("?!"):
            look = not self.take("?!")
        elif not self.take("?:") and self.peek("?"):
            raise self.refuse("a group of another kind than (?: (?i: (?= (?!")
        body = self.choice(fold, depth + 1)
        if not self.take(")"):
            raise self.refuse("unbalanced (")
        if look is None:
            return body
        items = body.items if isinstance(body, Choice) else (body,)
        sets = [i.set for i in items if isinstance(i, Chars)]
        if len(sets) != len(items):
            raise self.refuse("lookahead over more than one character")
        seen = union(sets)
        return Look(seen, at_end=False) if look else Look(~seen, at_end=True)

    def escape(self) -> CharSet:
        c = self.next()
        if c in "pP":
            return self.property(negated=c == "P")
        if c in "sS":
            space = properties()["White_Space"]
            return space if c == "s" else ~space
        if c in "dD":
            digit = properties()["Nd"]
            return digit if c == "d" else ~digit
        if c in _ESCAPES:
            return CharSet.chars(_ESCAPES[c])
        if c in "xu":
            digits = self.pattern[self.at : self.at + (2 if c == "x" else 4)]
            if len(digits) != (2 if c == "x" else 4) or any(d not in "0123456789abcdefABCDEF" for d in digits):
                raise self.refuse(f"\\{c} without its hexadecimal digits")
            self.at += len(digits)
            return CharSet.chars(chr(int(digits, 16)))
        if c.isalnum():
            raise self.refuse(f"\\{c}")
        return CharSet.chars(c)

    def property(self, negated: bool) -> CharSet:
        name = ""
        if self.take("{"):
            end = self.pattern.find("}", self.at)
            name = self.pattern[self.at : end] if end >= 0 else ""
            self.at += len(name) + 1
        if name not in properties():
            raise self.refuse(f"property {name or 'without a name'}")
        return ~properties()[name] if negated else properties()[name]

    def both(self, sets: list[CharSet], negated: bool, fold: bool) -> CharSet:
        """The end of ``[...&&[...]]``, from behind the second bracket: what is in both."""
        if fold or not sets:
            raise self.refuse("&& without regard to case, or of nothing")
        whole = union(sets) & self.char_class(fold)
        if not self.take("]"):
            raise self.refuse("more than one class behind &&")
        return ~whole if negated else whole

    def char_class(self, fold: bool) -> CharSet:
        negated = self.take("^")
        sets: list[CharSet] = []
        while not self.take("]"):
            if self.take("&&["):
                return self.both(sets, negated, fold)
            if self.peek("[") or self.peek("&&"):
                raise self.refuse("a class inside a class, but for its end: [...&&[...]]")
            single = not self.peek("\\") or self.pattern[self.at + 1 : self.at + 2] not in set("pPsSdD")
            item = self.escape() if self.take("\\") else CharSet.chars(self.next())
            if single and self.peek("-") and not self.peek("-]"):
                self.at += 1
                last = self.escape() if self.take("\\") else CharSet.chars(self.next())
                if len(last.toggles) != 2 or last.toggles[0] < item.toggles[0]:
                    raise self.refuse("a range in a class")
                item = CharSet.of((item.toggles[0], last.toggles[0]))
            sets.append(item)
        if not sets:
            raise self.refuse("an empty class")
        whole = union(sets)
        if fold and any(ord(c) in whole for c in "\u017f\u212a"):
            raise self.refuse("a wide class without regard to case")
        whole = _fold(whole) if fold else whole
        return ~whole if negated else whole
