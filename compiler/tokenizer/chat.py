"""Partial evaluation of a chat template: from a program to the fixed text between one message and the next.

A template is reduced to a table: ``glue[before][after]`` is what stands between the content of a message of role ``before``
(or the start) and that of a message of role ``after`` (or the end, or the end with the prompt for an answer). That covers BOS,
default system prompts, system text folded into the first user turn, and every plain role prefix and suffix. The table is read
off renderings of short conversations with marker words for contents, and then must predict, character for character,
renderings it was not made from. A transition that the template refuses, or that the table cannot predict, is left out, and the
program refuses such a conversation; if a transition that every chat needs is among them, the template cannot be reduced. A date is a
mark in the text, which the program fills with the day it is.

Words that a template looks for in contents become rules of a role: ``</think>`` cuts what a model thought from an earlier answer,
where the template does that; a content with another such word is refused, not rendered wrongly.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from infc import dates
from infc.errors import InputError
from infc.limits import Limits
from infc.tokenizer.chat_render import DATE, MARKS, Conversation, Refused, render_all

ROLES = ("system", "user", "assistant")
START, END, GENERATE = "start", "end", "generate"
BEFORE = (*ROLES, START)
AFTER = (*ROLES, END, GENERATE)
STRIP_LEFT, STRIP_RIGHT, NOT_EMPTY, STRIP_NEWLINES = 1, 2, 4, 8
REFUSE = 16  # of a rule: a content with the word; without it, the content begins after the word's last occurrence

MAGIC = b"INFCCHT1"
_VERSION = 3
_ABSENT = 0xFFFFFFFF
_KEY = "tokenizer.chat_template"

# What is learnt together, from the first rendering that shows it and else only what is known. A conversation needs the first
# two; the others are taken where the template allows them and is regular.
_NEEDED = (
    ((START, "user"), ("user", GENERATE)),
    (("user", "assistant"), ("assistant", "user")),
)
_OPTIONAL = (
    ((START, "system"), ("system", "user")),
    (("user", END),), (("assistant", END),), (("assistant", GENERATE),), (("system", END),), (("system", GENERATE),),
    ((START, "assistant"),), (("user", "user"),), (("assistant", "assistant"),), (("system", "assistant"),),
    (("system", "system"),), (("user", "system"),), (("assistant", "system"),),
)  # fmt: skip
_MAX_LITERALS = 256
_MAX_RULES = 24
_DAYS = ("1999-12-03", "2032-02-29")  # the marks must stand for these
_PAD_LEFT, _PAD_RIGHT = "\n \n", "\n "

Transition = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ChatReduction:
    """A reduced template, or the ``reason`` why there is none.

    ``glue``: text by transition (before, after), absent where the template has none. ``strip``: flags by role (STRIP_LEFT,
    STRIP_RIGHT: white space at that end of a content is removed; STRIP_NEWLINES: line ends at its left; NOT_EMPTY: an empty content
    is not supported). ``rules``: (role, word) -> REFUSE, or the strip flags of what is left after a cut. ``note``: what a reader
    should know of the reduction, as the date it writes.
    """

    glue: Mapping[Transition, str] = field(default_factory=dict)
    strip: Mapping[str, int] = field(default_factory=dict)
    rules: Mapping[tuple[str, str], int] = field(default_factory=dict)
    reason: str = ""
    note: str = ""

    def __bool__(self) -> bool:
        return not self.reason

    def render(self, c: Conversation) -> str | None:
        """What the table says, dates as marks (``dates.fill``); None for a conversation it does not cover. ``infc_chat.c`` does the same
        on bytes."""
        out = []
        before = START
        for role, content in c.messages:
            written = self.content(role, content)
            if (before, role) not in self.glue or written is None:
                return None
            out += [self.glue[before, role], written]
            before = role
        last = (before, GENERATE if c.generate else END)
        return "".join([*out, self.glue[last]]) if last in self.glue else None

    def content(self, role: str, content: str) -> str | None:
        """What is written of a content; None if it is not supported."""
        flags = self.strip.get(role, 0)
        for (whose, word), rule in self.rules.items():
            if whose == role and not rule & REFUSE and word in content:
                content, flags = content.rpartition(word)[2], flags & NOT_EMPTY | rule
        if any(whose == role and rule & REFUSE and word in content for (whose, word), rule in self.rules.items()):
            return None
        content = content.lstrip() if flags & STRIP_LEFT else content.lstrip("\n") if flags & STRIP_NEWLINES else content
        content = content.rstrip() if flags & STRIP_RIGHT else content
        return None if not content and flags & NOT_EMPTY else content

    def encode(self) -> bytes:
        """The CHAT section: ``magic[8] | u32 version | u32 size | u32 strip[3] | u32 n_rules | (u32 offset, u32 size)[4][5] |
        (u32 role, u32 flags, u32 offset, u32 size)[n_rules] | text``. A date in the text is its format between two bytes 0xFF.

        Rows are BEFORE, columns AFTER; an absent transition has offset 2^32 - 1. Rules that cut come first. Empty if there is no
        reduction.
        """
        if not self:
            return b""
        text = b""
        cells = b""
        base = 8 + 6 * 4 + 8 * len(BEFORE) * len(AFTER) + 16 * len(self.rules)
        for cell in product(BEFORE, AFTER):
            piece = dates.encoded(self.glue[cell]) if cell in self.glue else b""
            cells += struct.pack("<II", base + len(text) if cell in self.glue else _ABSENT, len(piece))
            text += piece
        for (role, word), rule in sorted(self.rules.items(), key=lambda item: item[1] & REFUSE):
            piece = word.encode("utf-8")
            cells += struct.pack("<4I", ROLES.index(role), rule, base + len(text), len(piece))
            text += piece
        strip = [self.strip.get(role, 0) for role in ROLES]
        return struct.pack("<8s6I", MAGIC, _VERSION, base + len(text), *strip, len(self.rules)) + cells + text


def reduce_chat(
    kv: Mapping[str, Any],
    bos_text: str | None = None,
    eos_text: str | None = None,
    limits: Limits | None = None,
    date: str | None = None,
) -> ChatReduction:
    """The reduction of the file's chat template; one with a ``reason`` if there is no template or it has no reduction.

    ``bos_text``, ``eos_text``: what ``bos_token`` and ``eos_token`` stand for, by default the texts of the file's tokens. ``date``
    (YYYY-MM-DD): what a template that writes the date writes every day; None: the day it is, and DATE where that cannot be. The note says
    which. Takes bounded time and memory whatever the template does. InputError G87 if the template is larger than the limit.
    """
    template = kv.get(_KEY)
    limits = limits or Limits()
    if not isinstance(template, str) or not template.strip():
        return ChatReduction(reason="the model has no chat template")
    if len(template.encode("utf-8", "surrogatepass")) > limits.template_bytes:
        raise InputError("G87", f"the chat template is {limits.over('template_bytes')}", f"key: {_KEY}")
    names = {
        "bos_token": _token_text(kv, "bos") if bos_text is None else bos_text,
        "eos_token": _token_text(kv, "eos") if eos_text is None else eos_text,
    }
    asked = [name for name in ("strftime_now", "date_string") if name in template]
    if not asked:
        return _reduced(template, names, DATE)
    if date is None:
        found = _with_marks(template, names)
        if found and not any(map(dates.formats, found.glue.values())):
            return found  # asks, and writes none
        if found:
            return replace(found, note="the chat template writes the date: the program takes that of the day (or of its --date)")
    fixed = str(dates.parse_date(date or DATE))
    found = _reduced(template, names, fixed)
    return replace(found, note=f"the chat template writes the date: the program always writes {fixed}" if found else "")


def _names(template: str, names: Mapping[str, str], date: str) -> dict[str, str]:
    """The variables of a template, with Llama's ``date_string`` if it looks for that."""
    if "date_string" not in template:
        return dict(names)
    form = dates.DATE_STRING
    said = f"{dates.OPEN}{form}{dates.CLOSE}" if date == MARKS else dates.format_day(form, dates.parse_date(date))
    return {**names, "date_string": said}


def _reduced(template: str, names: Mapping[str, str], date: str) -> ChatReduction:
    """The reduction with the date of ``render_all``."""
    literals = _literals(template)
    conversations = [*_short(), *_long(literals)]
    renders = render_all(template, _names(template, names, date), conversations, date)
    if isinstance(renders, Refused):
        return ChatReduction(reason=f"the chat template cannot be reduced: {renders.reason}")
    found = _reduce(dict(zip(conversations, renders, strict=True)), literals)
    if isinstance(found, Refused):
        return ChatReduction(reason=f"the chat template cannot be reduced: {found.reason}")
    if any("\ud800" <= c <= "\udfff" for text in found.glue.values() for c in text):
        return ChatReduction(reason="the chat template cannot be reduced: it writes text that is not Unicode")
    return found


def _with_marks(template: str, names: Mapping[str, str]) -> ChatReduction:
    """The reduction with marks for dates, if the template does nothing with a date but write it, in a format that the program has."""
    if any(c in template for c in dates.OPEN + dates.CLOSE):
        return ChatReduction(reason="it writes private characters")
    found = _reduced(template, names, MARKS)
    if not found:
        return found
    if not all(map(dates.is_format, [f for text in found.glue.values() for f in dates.formats(text)])):
        return ChatReduction(reason="it writes a date in a format of its own")
    conversations = _short()
    for day in _DAYS:
        renders = render_all(template, _names(template, names, day), conversations, day)
        if isinstance(renders, Refused):
            return ChatReduction(reason=renders.reason)
        for c, text in zip(conversations, renders, strict=True):
            said = found.render(c)
            if said is not None and dates.fill(said, dates.parse_date(day)) != text:
                return ChatReduction(reason="it does more with a date than write it")
    return found


def _token_text(kv: Mapping[str, Any], name: str) -> str:
    tokens, token = kv.get("tokenizer.ggml.tokens"), kv.get(f"tokenizer.ggml.{name}_token_id")
    return str(tokens[int(token)]) if tokens is not None and token is not None and 0 <= int(token) < len(tokens) else ""


# ---- conversations to render -----------------------------------------------------------------------------------------------


def _marked(roles: tuple[str, ...], generate: bool) -> Conversation:
    """Contents that occur in no template and differ in every message."""
    return Conversation(tuple((role, f"Xq{i}{role}Zj") for i, role in enumerate(roles)), generate)


def _padded(role: str, left: str = _PAD_LEFT, right: str = _PAD_RIGHT) -> Conversation:
    """The marked conversation that shows ``role`` first, with white space around its content."""
    roles = {"system": ("system", "user"), "user": ("user",), "assistant": ("user", "assistant", "user")}[role]
    plain = _marked(roles, generate=True)
    return Conversation(tuple((r, left + c + right if r == role else c) for r, c in plain.messages), True)


def _short() -> list[Conversation]:
    """Every order of roles up to four messages, with and without the prompt for an answer; and padded ones."""
    orders = [roles for n in (1, 2, 3, 4) for roles in product(ROLES, repeat=n)]
    marked = [_marked(roles, generate) for roles in orders for generate in (False, True)]
    return [*marked, *(_padded(role) for role in ROLES)]


def _literals(template: str) -> list[str]:
    """Quoted strings of the template: what it may look for in a content."""
    quoted = re.findall(r"'((?:[^'\\]|\\.){1,64})'|\"((?:[^\"\\]|\\.){1,64})\"", template)
    words = dict.fromkeys(a or b for a, b in quoted)
    plain = [w.replace("\\n", "\n").replace("\\t", "\t").replace("\\'", "'").replace('\\"', '"') for w in words]
    return plain[:_MAX_LITERALS]


def _long(literals: list[str]) -> list[Conversation]:
    """Held-out conversations: many turns, and contents that a template may treat in its own way."""
    contents = [
        *(f"{a}{word}{b}" for word in ("one", "two words\nand lines") for a, b in ((" \n", ""), ("", "\n\t "), ("\n ", " "))),
        "{{ braces }} {% raw %} {# c #}", "h\u00e9 \u4e16\u754c \U0001f642 \u00a0x", "<b>&amp;'\"\\</b>", "0", "None", "x" * 2000,
        *(f"aa{w}bb" for w in literals), *literals,
    ]  # fmt: skip
    turns = ("user", "assistant") * 3 + ("user",)
    out = [_marked((*head, *turns[:n]), n % 2 == 1) for head in ((), ("system",)) for n in range(1, 8)]
    for content in contents:
        for head in ((), ("system",)):
            roles = (*head, "user", "assistant", "user")
            out.append(Conversation(tuple((role, content) for role in roles), generate=True))
        out += [Conversation((("user", content), ("assistant", content)), False)]
    turn = ("system", "user", "assistant", "user")
    out += [Conversation(tuple((r, _PLAIN) for r in turn[from_:]), True) for from_ in (0, 1)]
    for word in dict.fromkeys((*literals, _THOUGHT)):  # one role at a time
        for role in ROLES:
            for content in dict.fromkeys((f"aa{word}bb", f"\n {word}\n b \n", f"aa{word}\n\nbb", f"a{word}b{word}c", word)):
                out += [Conversation(tuple((r, content if r == role else _PLAIN) for r in turn[from_:]), True) for from_ in (0, 1)]
    for role in ROLES:  # empty, one role at a time
        roles = ("system", "user", "assistant", "user") if role == "system" else ("user", "assistant", "user")
        for empty in ("", " \n"):
            out.append(Conversation(tuple((r, empty if r == role else f"some {r} text") for r in roles), True))
    return list(dict.fromkeys(out))


_PLAIN = "Plain."
_THOUGHT = "<think>\nI see.\n</think>\n\nYes."

# ---- reading the table off the renderings ----------------------------------------------------------------------------------

_Renders = Mapping[Conversation, str | Refused]


def _transitions(c: Conversation) -> list[Transition]:
    roles = [START, *(role for role, _ in c.messages), GENERATE if c.generate else END]
    return list(zip(roles, roles[1:], strict=False))


def _split(c: Conversation, text: str) -> list[str] | None:
    """The text around each content, or None if the contents do not stand there once each and in order."""
    pieces = []
    for _, content in c.messages:
        before, found, text = text.partition(content)
        if not found or content in text:
            return None
        pieces.append(before)
    return [*pieces, text]


def _reduce(renders: _Renders, literals: list[str]) -> ChatReduction | Refused:
    marked = [c for c in renders if c == _marked(tuple(role for role, _ in c.messages), c.generate)]
    table = ChatReduction(strip={role: _strip(role, renders) for role in ROLES})
    for group in (*_NEEDED, *_OPTIONAL):
        wider = _learn(table, group, marked, renders, literals)
        if isinstance(wider, ChatReduction):
            table = wider
        elif group in _NEEDED:
            return wider
    return table


def _learn(
    table: ChatReduction, group: tuple[Transition, ...], marked: list[Conversation], renders: _Renders, literals: list[str]
) -> ChatReduction | Refused:
    """``table`` with the transitions of ``group``, if every rendering that it then covers agrees."""
    known = {*table.glue, *group}
    for c in marked:
        if not set(group) <= set(_transitions(c)) <= known:
            continue
        text = renders[c]
        if isinstance(text, Refused):
            return text
        pieces = _split(c, text)
        if pieces is None:
            return Refused("a message is left out, repeated or moved")
        glue = {**dict(zip(_transitions(c), pieces, strict=True)), **table.glue}
        return _verified(replace(table, glue=glue), renders, literals)
    return Refused("no conversation shows it")


def _verified(table: ChatReduction, renders: _Renders, literals: list[str]) -> ChatReduction | Refused:
    """``table``, with rules for words that the template looks for, and with roles whose empty contents are irregular marked so; Refused
    if anything else disagrees."""
    strip, rules = dict(table.strip), dict(table.rules)
    table = replace(table, strip=strip, rules=rules)
    while wrong := [c for c, text in renders.items() if table.render(c) not in (None, text)]:
        known = len(rules), sum(strip.values())
        for c in wrong:
            if table.render(c) in (None, renders[c]):
                continue  # by what was found since
            empty = [role for role, content in c.messages if not content.strip() and not strip[role] & NOT_EMPTY]
            rule = _rule(table, c, renders, literals) if len(rules) < _MAX_RULES else None
            if rule is not None:
                rules[rule[0]] = rule[1]
            for role in empty if rule is None else ():
                strip[role] |= NOT_EMPTY
        if known == (len(rules), sum(strip.values())):
            text = renders[wrong[0]]
            return text if isinstance(text, Refused) else Refused(_irregular(wrong[0]))
    return table


def _rule(table: ChatReduction, c: Conversation, renders: _Renders, literals: list[str]) -> tuple[tuple[str, str], int] | None:
    """A rule for a word that stands in the contents of one role of ``c``, whose others are plain: a cut, if the template makes it at the
    word wherever it stands in that role, or else a refusal. None if no word is the cause."""
    plain = Conversation(tuple((r, _PLAIN) for r, _ in c.messages), c.generate)
    roles = {r for r, content in c.messages if content != _PLAIN}
    if len(roles) != 1 or table.render(plain) is None or table.render(plain) != renders.get(plain):
        return None
    (role,) = roles
    theirs = [content for r, content in c.messages if r == role]
    words = sorted((w for w in literals if len(w.strip()) > 2 and any(w in t for t in theirs)), key=len)
    words = [w for w in words if (role, w) not in table.rules]
    for word in reversed(words):
        touched = [o for o in renders if any(r == role and word in t for r, t in o.messages) and not _elsewhere(o, role, word)]
        for flags in (0, STRIP_NEWLINES, STRIP_LEFT, STRIP_LEFT | STRIP_RIGHT):
            cut = replace(table, rules={**table.rules, (role, word): flags})
            if len(touched) > 3 and all(cut.render(o) in (None, renders[o]) for o in touched):
                return (role, word), flags
    return ((role, words[0]), REFUSE) if words else None


def _elsewhere(c: Conversation, role: str, word: str) -> bool:
    return any(r != role and word in t for r, t in c.messages)


def _irregular(c: Conversation) -> str:
    if c == _marked(tuple(role for role, _ in c.messages), c.generate):
        return f"its text depends on more than the roles in their order ({', '.join(r for r, _ in c.messages):.80})"
    return f"it treats some contents in its own way, for instance {max((t for _, t in c.messages), key=len)!r:.60}"


def _strip(role: str, renders: _Renders) -> int:
    """Which ends of the role's contents lose their white space, by what padding did to a rendering."""
    padded = _padded(role)
    plain, wide = renders[_padded(role, "", "")], renders[padded]
    if isinstance(plain, Refused) or isinstance(wide, Refused):
        return 0
    for flags in (0, STRIP_LEFT | STRIP_RIGHT, STRIP_LEFT, STRIP_RIGHT, STRIP_NEWLINES, STRIP_NEWLINES | STRIP_RIGHT):
        left = "" if flags & STRIP_LEFT else _PAD_LEFT.lstrip("\n") if flags & STRIP_NEWLINES else _PAD_LEFT
        right = "" if flags & STRIP_RIGHT else _PAD_RIGHT
        content = next(c for r, c in padded.messages if r == role).strip()
        if wide == plain.replace(content, left + content + right):
            return flags
    return 0  # neither: the renderings will disagree
