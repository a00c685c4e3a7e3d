"""tokenizer.model: SentencePiece's file, a protocol buffer (sentencepiece_model.proto), read field by field and checked on the way.

Only what decides how text is cut is looked at. Bad bytes are InputError S13; what is fine and not supported is S13 or G76.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from infc.errors import InputError
from infc.limits import Limits

MODEL = "tokenizer.model"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_TYPES = {1: "unigram", 2: "BPE", 3: "words", 4: "characters"}  # TrainerSpec.model_type
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # of a piece: numbered as GGUF's token types are

Value = int | bytes


@dataclass(frozen=True, slots=True)
class SentencePiece:
    """``pieces``: (text, score, type) by id. ``ids``: of unk, bos, eos and pad, -1 being none. ``space_prefix``: text gets one.
    ``unigram``: cut by the sum of scores, not merged; then ``charsmap`` is a map of characters or empty, and ``merge`` says whether runs
    of spaces are one."""

    pieces: list[tuple[str, float, int]]
    ids: dict[str, int]
    space_prefix: bool
    unigram: bool
    charsmap: bytes
    merge: bool


def _refuse(what: str) -> InputError:
    return InputError("S13", what, MODEL)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, end)."""
    value = 0
    for i in range(10):
        if at + i >= len(data):
            break
        byte = data[at + i]
        value |= (byte & 127) << (7 * i)
        if byte < 128:
            return value & (1 << 64) - 1, at + i + 1
    raise _refuse(f"not a SentencePiece model: a number at byte {at} does not end")


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """(field number, value) of one message; nested messages and strings are bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value: Value
            value, at = _varint(data, at)
            yield number, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(wire)
        if wire == _BYTES:
            size, at = _varint(data, at)
        if size is None or not number or size > len(data) - at:
            raise _refuse(f"not a SentencePiece model: field {number} of wire type {wire} at byte {at}")
        yield number, data[at : at + size]
        at += size


def _message(value: Value) -> dict[int, Value]:
    """The last value of every field."""
    if not isinstance(value, bytes):
        raise _refuse("not a SentencePiece model: a number where a message belongs")
    return dict(_fields(value))


def _number(found: dict[int, Value], field: int, default: int) -> int:
    """An int32 or a bool."""
    value = found.get(field, default)
    if not isinstance(value, int):
        raise _refuse(f"not a SentencePiece model: field {field} is no number")
    return value - (1 << 64) if value >> 63 else value


def _piece(value: Value, limits: Limits) -> tuple[str, float, int]:
    found = _message(value)
    text, score = found.get(1, b""), found.get(2, bytes(4))
    if not isinstance(text, bytes) or not isinstance(score, bytes) or len(score) != 4:
        raise _refuse("not a SentencePiece model: a piece that is none")
    if len(text) > limits.token_bytes:
        raise _refuse(f"a piece of {len(text)} bytes, {limits.over('token_bytes')}")
    try:
        piece = text.decode("utf-8")
    except UnicodeDecodeError:
        raise _refuse("a piece that is not UTF-8") from None
    kind = _number(found, 3, NORMAL)
    if not NORMAL <= kind <= BYTE:
        raise _refuse(f"piece {piece[:40]!r} is of type {kind}")
    return piece, float(struct.unpack("<f", score)[0]), kind


def read(data: bytes, limits: Limits) -> SentencePiece:
    """Raises InputError S13, G67 or G76."""
    pieces: list[tuple[str, float, int]] = []
    trainer: dict[int, Value] = {}
    normalizer: dict[int, Value] = {}
    for number, value in _fields(data):
        if number == 1:
            pieces.append(_piece(value, limits))
            if len(pieces) > limits.vocab:
                raise InputError("G67", f"{len(pieces)} tokens, {limits.over('vocab')}", MODEL)
        elif number == 2:
            trainer |= _message(value)
        elif number == 3:
            normalizer |= _message(value)
    if not pieces:
        raise InputError("G67", "the vocabulary is empty", MODEL)
    kind = _number(trainer, 3, 1)
    if kind not in (1, 2):
        what = f"a SentencePiece model of {_TYPES.get(kind, f'type {kind}')} is not supported (BPE and unigram are)"
        raise InputError("G76", what, MODEL)
    if _number(trainer, 24, 0):
        raise InputError("G76", "a SentencePiece model that puts spaces behind words is not supported", MODEL)
    if not _number(normalizer, 5, 1):
        raise InputError("G76", "a SentencePiece model that leaves spaces as they are is not supported", MODEL)
    charsmap, merge, fallback = normalizer.get(2, b""), bool(_number(normalizer, 4, 1)), bool(_number(trainer, 35, 0))
    if not isinstance(charsmap, bytes):
        raise _refuse("not a SentencePiece model: a map of characters that is a number")
    if kind == 1:
        _check_unigram(pieces, fallback)
    elif not fallback:
        raise InputError("G76", "a SentencePiece model of BPE without byte fallback is not supported", MODEL)
    elif charsmap or merge:
        raise InputError("G76", "a SentencePiece model of BPE that changes text (its normalizer) is not supported", MODEL)
    defaults = {"unk": (40, 0), "bos": (41, 1), "eos": (42, 2), "pad": (43, -1)}
    ids = {name: _number(trainer, field, default) for name, (field, default) in defaults.items()}
    if kind == 1:  # the one of that type is meant, whatever number stands there
        ids["unk"] = next(i for i, (_, _, y) in enumerate(pieces) if y == UNKNOWN)
    return SentencePiece(pieces, ids, bool(_number(normalizer, 3, 1)), kind == 1, charsmap, merge)


def _check_unigram(pieces: list[tuple[str, float, int]], fallback: bool) -> None:
    """What SentencePiece asks of such a model when it loads one (S13)."""
    kinds = [y for _, _, y in pieces]
    if kinds.count(UNKNOWN) != 1:
        raise _refuse(f"{kinds.count(UNKNOWN)} pieces of a unigram model are the unknown one")
    of_bytes = {t for t, _, y in pieces if y == BYTE}
    if of_bytes != ({f"<0x{b:02X}>" for b in range(256)} if fallback else set()):
        what = f"byte fallback with {len(of_bytes)} tokens of bytes, not 256" if fallback else "tokens of bytes without byte fallback"
        raise _refuse(what)
    if not any(y == NORMAL for y in kinds):
        raise _refuse("no piece of a unigram model is an ordinary one")
