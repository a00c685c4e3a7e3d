"""What becomes of each character before WordPiece, as tables: BERT's normalizer and pre-tokenizer in one step.

Steps, in HF's order: what is no text is dropped and white space becomes a space; Chinese characters stand alone; a character is
decomposed (NFD) and its accents are dropped; its letters become small; punctuation stands alone. All but the decomposition's order of
combining characters is settled per character, and of that order only what concerns characters that stay is left to the C code.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np

from infc.tokenizer.charset import CODE_POINTS, CharSet

_BLOCK = 256  # code points a block of the second stage holds; infc_characters.h has the same numbers
DROP, LETTER, ALONE, SPACE, FENCE, HANGUL, FIRST_SEQUENCE = range(7)
_HANGUL_FIRST, _HANGUL_LAST = 0xAC00, 0xD7A3


@dataclass(frozen=True, slots=True)
class Characters:
    """The sets and maps of ``characters.txt``."""

    sets: dict[str, CharSet]
    order: dict[int, int]  # combining class, renumbered, of characters that stay when accents go
    decomposed: dict[int, tuple[int, ...]]
    lowered: dict[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class CharacterTables:
    """What ``infc_characters.h`` reads: ``stage2[stage1[c >> 8] * 256 + (c & 255)]`` is one of DROP to HANGUL, or FIRST_SEQUENCE + a
    sequence: ``items[offsets[i] : offsets[i + 1]]``, of items ``kind | order << 3, bytes of UTF-8, those bytes``."""

    stage1: np.ndarray  # uint16 (0x1100,)
    stage2: np.ndarray  # uint16
    offsets: np.ndarray  # uint32 (n_sequences + 1,)
    items: bytes


@lru_cache(maxsize=1)
def characters() -> Characters:
    lines = resources.files(__package__).joinpath("characters.txt").read_text("ascii").splitlines()
    rows = {line.partition(" ")[0]: line.split()[1:] for line in lines if not line.startswith("#")}

    def mapping(name: str) -> dict[int, tuple[int, ...]]:
        parts = (cell.partition(":") for cell in rows.pop(name))
        return {int(c, 16): tuple(int(x, 16) for x in becomes.split(".")) for c, _, becomes in parts}

    decomposed, lowered = mapping("Decomposed"), mapping("Lowered")
    sets = {}
    for name, ranges in rows.items():
        ends = [tuple(int(x, 16) for x in r.split("-")) for r in ranges]
        sets[name] = CharSet.of(*((e[0], e[-1]) for e in ends))
    order: dict[int, int] = {}
    for name in [n for n in sets if n.startswith("Order")]:
        order |= dict.fromkeys(_members(sets.pop(name)), int(name.removeprefix("Order")))
    return Characters(sets, order, decomposed, lowered)


def _members(s: CharSet) -> Iterable[int]:
    ends = [*s.toggles, *([CODE_POINTS] if len(s.toggles) % 2 else [])]
    return (c for a, b in zip(ends[::2], ends[1::2], strict=True) for c in range(a, b))


@lru_cache(maxsize=4)
def character_tables(lowercase: bool, strip_accents: bool) -> CharacterTables:
    """Tables of BERT's normalizer with these two choices; the others are as every BERT has them (clean text, split Chinese)."""
    c = characters()
    sets = c.sets
    plain = np.full(CODE_POINTS, LETTER, np.uint16)
    for name, kind in (("Punctuation", ALONE), ("Chinese", ALONE), ("Dropped", DROP), ("Space", SPACE)):
        plain[list(_members(sets[name]))] = kind
    changed: set[int] = set(c.lowered) if lowercase else set()
    if strip_accents:
        plain[_HANGUL_FIRST : _HANGUL_LAST + 1] = HANGUL
        changed |= {*c.decomposed, *c.order, *_members(sets["Accent"])}
    numbers: dict[bytes, int] = {}
    for code in changed:
        if plain[code] in (DROP, SPACE):
            continue
        spelled = c.decomposed.get(code, (code,)) if strip_accents else (code,)
        if strip_accents and spelled == (code,) and code in sets["Accent"]:
            plain[code] = FENCE if code in sets["Fence"] else DROP
            continue
        items = b""
        for part in spelled:
            if strip_accents and part in sets["Accent"]:
                items += bytes([FENCE, 0]) if part in sets["Fence"] else b""
                continue
            for letter in c.lowered.get(part, (part,)) if lowercase else (part,):
                alone = code in sets["Chinese"] or letter in sets["Punctuation"]
                raw = chr(letter).encode()
                items += bytes([(ALONE if alone else LETTER) | (c.order.get(letter, 0) << 3 if strip_accents else 0), len(raw)]) + raw
        plain[code] = FIRST_SEQUENCE + numbers.setdefault(items, len(numbers))
    blocks: dict[bytes, int] = {}
    stage1 = [blocks.setdefault(row.tobytes(), len(blocks)) for row in plain.reshape(-1, _BLOCK)]
    offsets = np.cumsum([0, *map(len, numbers)]).astype(np.uint32)
    return CharacterTables(np.array(stage1, np.uint16), np.frombuffer(b"".join(blocks), np.uint16), offsets, b"".join(numbers))
