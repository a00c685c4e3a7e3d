"""Regular expressions to tables: priority NFA, determinised with leftmost-first meaning, minimised.

A DFA state is an ordered list of NFA threads, best first. Whether a match ends at a position is decided one character
later, on reading the next class (or the end of the text): so a lookahead of one character is a condition on that class,
and a thread that matches cuts off all threads behind it, as a backtracking matcher would never have reached them.
A transition therefore is a pair (next state, "a match ended before this character"), and no state is marked.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from infc.errors import InputError
from infc.tokenizer.charset import CharSet
from infc.tokenizer.regex import Chars, Choice, Concat, Look, Node, Repeat

_MAX_NODES = 20_000
MAX_STATES = 1_024
DEAD, START = 0, 1


@dataclass(frozen=True, slots=True)
class Dfa:
    """``rows[state][class]`` = (next state, matched before); the last column is the end of the text. 0 dead, 1 start."""

    rows: tuple[tuple[tuple[int, bool], ...], ...]


@dataclass(frozen=True, slots=True)
class _Char:
    classes: frozenset[int]
    after: int


@dataclass(frozen=True, slots=True)
class _Condition:
    classes: frozenset[int]
    at_end: bool
    after: int


@dataclass(frozen=True, slots=True)
class _Fork:
    after: tuple[int, ...]  # best first


@dataclass(slots=True)
class _Nfa:
    """Nodes by number; None is the match. ``members``: the classes of each set."""

    members: dict[CharSet, frozenset[int]]
    nodes: list[_Char | _Condition | _Fork | None] = field(default_factory=list)

    def add(self, node: _Char | _Condition | _Fork | None) -> int:
        if len(self.nodes) >= _MAX_NODES:
            raise InputError("G79", "pre-tokenizer pattern has too many parts", f"limit: {_MAX_NODES}")
        self.nodes.append(node)
        return len(self.nodes) - 1

    def build(self, node: Node, after: int) -> int:
        """The entry of ``node`` when ``after`` follows it."""
        if isinstance(node, Chars):
            return self.add(_Char(self.members[node.set], after))
        if isinstance(node, Look):
            return self.add(_Condition(self.members[node.set], node.at_end, after))
        if isinstance(node, Concat):
            for item in reversed(node.items):
                after = self.build(item, after)
            return after
        if isinstance(node, Choice):
            return self.add(_Fork(tuple(self.build(item, after) for item in node.items)))
        entry = after
        if node.high is None:
            entry = self.add(None)
            self.nodes[entry] = self.once_more(node, entry, after)
        for _ in range((node.high or node.low) - node.low):
            entry = self.add(self.once_more(node, entry, after))
        for _ in range(node.low):
            entry = self.build(node.item, entry)
        return entry

    def once_more(self, node: Repeat, entry: int, after: int) -> _Fork:
        """The item again and then ``entry``, or on to ``after``."""
        again = self.build(node.item, entry)
        return _Fork((after, again) if node.lazy else (again, after))


def char_sets(node: Node) -> list[CharSet]:
    """The sets a tree tests characters against."""
    if isinstance(node, Chars | Look):
        return [node.set]
    items = node.items if isinstance(node, Concat | Choice) else (node.item,)
    return [s for item in items for s in char_sets(item)]


def determinize(node: Node, n_classes: int, members: dict[CharSet, frozenset[int]]) -> Dfa:
    """The DFA of ``node`` over ``n_classes`` classes, where ``members`` gives each set as classes. Minimal."""
    nfa = _Nfa(members)
    entry = nfa.build(node, nfa.add(None))
    end = n_classes

    def step(threads: tuple[int, ...], symbol: int) -> tuple[tuple[int, ...], bool]:
        """Threads alive after ``symbol``, and whether a match ended before it."""
        seen: set[int] = set()
        alive: dict[int, None] = {}
        stack = list(reversed(threads))
        while stack:
            number = stack.pop()
            if number in seen:
                continue
            seen.add(number)
            at = nfa.nodes[number]
            if at is None:
                return tuple(alive), True
            if isinstance(at, _Fork):
                stack.extend(reversed(at.after))
            elif isinstance(at, _Condition):
                if at.at_end if symbol == end else symbol in at.classes:
                    stack.append(at.after)
            elif symbol != end and symbol in at.classes:
                alive.setdefault(at.after)
        return tuple(alive), False

    # The start is kept apart from an equal list of threads met later: only there is an empty match an error.
    numbers: dict[tuple[int, ...] | None, int] = {(): DEAD, None: START}
    order: list[tuple[int, ...]] = [(), (entry,)]
    rows: list[list[tuple[int, bool]]] = []
    while len(rows) < len(order):
        row = []
        for symbol in range(n_classes + 1):
            threads, matched = step(order[len(rows)], symbol)
            if matched and len(rows) == START:
                raise InputError("G76", "pre-tokenizer pattern not supported: it matches the empty string")
            if threads not in numbers:
                if len(order) >= MAX_STATES:
                    raise InputError("G79", "pre-tokenizer pattern needs too many states", f"limit: {MAX_STATES}")
                numbers[threads] = len(order)
                order.append(threads)
            row.append((numbers[threads], matched))
        rows.append(row)
    return minimize(rows)


def minimize(rows: list[list[tuple[int, bool]]]) -> Dfa:
    """Merge states that no text tells apart (Moore's refinement); dead and start keep their numbers."""
    group = [0] * len(rows)
    count = 1
    while True:
        keys: dict[tuple[object, ...], int] = {}
        refined = [keys.setdefault((group[s], *((group[t], m) for t, m in row)), len(keys)) for s, row in enumerate(rows)]
        if len(keys) == count:
            break
        group, count = refined, len(keys)
    if group[DEAD] == group[START]:
        raise InputError("G76", "pre-tokenizer pattern not supported: it matches nothing")
    numbers = {group[DEAD]: DEAD, group[START]: START}
    for g in group:
        numbers.setdefault(g, len(numbers))
    first = {numbers[g]: s for s, g in reversed(list(enumerate(group)))}
    return Dfa(tuple(tuple((numbers[group[t]], m) for t, m in rows[first[n]]) for n in range(len(numbers))))


def cut_before(dfa: Dfa, single: frozenset[int]) -> Dfa:
    """Fold an earlier split, one that makes each character of the classes ``single`` a piece of its own, into ``dfa``.

    Such a character ends the text for the later split, and is a whole piece when it comes first.
    """
    accept = len(dfa.rows)
    rows = [list(row) for row in dfa.rows]
    for state, row in enumerate(rows):
        for c in single:
            row[c] = (accept, False) if state == START else row[-1]
    rows.append([(DEAD, True)] * len(rows[0]))
    return minimize(rows)


def reads_again(dfa: Dfa) -> bool:
    """Whether a search may take quadratic time: a run of any length is read, no match comes of it, and the next try reads it too."""
    silent: list[set[int]] = [{t for t, matched in row if not matched} for row in dfa.rows]
    fails = {DEAD}  # states from which the walk may end without a match
    while grown := {s for s, to in enumerate(silent) if s not in fails and to & fails}:
        fails |= grown
    reached, stack = {START}, [START]
    while stack:
        for t in silent[stack.pop()] & fails - reached:
            reached.add(t)
            stack.append(t)
    left = reached - {DEAD}
    while ends := {s for s in left if not silent[s] & left}:  # peel off what lies on no cycle
        left -= ends
    return bool(left)
