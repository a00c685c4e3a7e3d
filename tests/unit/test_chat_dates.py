"""Dates in chat templates: the program writes those of the day, as jinja2 and strftime would."""

from __future__ import annotations

import datetime
import random
import re
import struct
import time
from typing import Any

import pytest

from infc import dates
from infc.errors import InputError
from infc.options import CompileOptions
from infc.tokenizer import compile_tokenizer, reduce_chat
from infc.tokenizer.chat import START
from infc.tokenizer.chat_render import Conversation, render_all
from tests.models.tiny import CHATML
from tests.unit.tokenizer_support import EFILE, EINPUT, CTokenizer, P, hf_tokenizer, synthetic_kv

_FORMATS = [
    "%d %b %Y", "%Y-%m-%d", "%B %d, %Y", "%A, %B %-d, %Y", "%a %d/%m/%y", "day %j of %Y (%-j)", "100%% %-d.%-m.%-y", "", "no date",
]  # fmt: skip
_DAYS = [datetime.date(*d) for d in ((2024, 7, 26), (2024, 2, 29), (1999, 12, 31), (2000, 1, 1), (1, 1, 1), (9999, 12, 31), (2026, 11, 29))]
_NAMES = {"bos_token": "", "eos_token": ""}


def _written(built: Any, form: str, day: datetime.date) -> str | None:
    ffi, lib = built
    raw = form.encode()
    out, ok = ffi.new("uint8_t[]", 5 * len(raw) + 1), ffi.new("int *")
    n = lib.infc_date_format((day.year, day.month, day.day), raw, len(raw), out, ok)
    assert n <= 5 * len(raw)
    return bytes(ffi.buffer(out, n)).decode() if ok[0] else None


def test_formats_are_strftimes(built: Any) -> None:
    """Python's own, where it writes a year below 1000 with four digits as its documentation says."""
    rnd = random.Random(1)
    days = _DAYS + [datetime.date.fromordinal(rnd.randint(1, datetime.date.max.toordinal())) for _ in range(2000)]
    for day in days:
        for form in _FORMATS:
            text = dates.format_day(form, day)
            assert dates.is_format(form) and _written(built, form, day) == text
            if day.year >= 1000:
                assert text == day.strftime(form), (form, day)


@pytest.mark.parametrize("form", ["%H:%M", "%", "%-", "%-B", "%-Y", "%-%", "%x", "%5d", "%_d", "%é", "%Y%", "%O%d"])
def test_what_is_no_format_of_a_day(form: str, built: Any) -> None:
    assert not dates.is_format(form) and _written(built, form, _DAYS[0]) is None


def test_days_are_those_of_the_calendar(built: Any) -> None:
    ffi, lib = built
    out = ffi.new("infc_date *")
    texts = [f"{y:04}-{m:02}-{d:02}" for y in (0, 1, 1900, 2000, 2023, 2024, 9999) for m in range(14) for d in range(33)]
    texts += ["", "2024", "2024-7-26", "2024-07-26 ", " 2024-07-26", "2024/07/26", "20240726", "2024-W07-2", "-024-07-26"]
    texts += ["\uff12024-07-26", "2024-07-2x"]
    for text in texts:
        try:
            day = dates.parse_date(text)
        except InputError as e:
            assert e.code == "opt" and lib.infc_date_parse(text.encode(), out) == EINPUT, text
        else:
            assert lib.infc_date_parse(text.encode(), out) == 0 and (out.year, out.month, out.day) == (day.year, day.month, day.day)
    assert lib.infc_date_parse(ffi.NULL, out) == EINPUT
    with pytest.raises(InputError, match="no date"):
        CompileOptions.create(date="yesterday")


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"])
def test_today_is_that_of_the_place(zone: str, built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for _ in range(2):  # midnight may fall between the two
            day = datetime.date.today()
            today = built[1].infc_date_today()
            if (today.year, today.month, today.day) == (day.year, day.month, day.day):
                return
        raise AssertionError((today.year, today.month, today.day))
    finally:
        monkeypatch.undo()
        time.tzset()


# In the manner of templates in use: with a default for when there is no date, in a default system text, twice, and as Llama's variable.
_TEMPLATES = {
    "plain": "{{ '<|im_start|>system\nToday is ' + strftime_now('%A, %d %b %Y') + '.<|im_end|>' }}" + CHATML,
    "looked for": (
        "{% if strftime_now is defined %}{% set d = strftime_now('%Y-%m-%d') %}{% else %}{% set d = 'never' %}{% endif %}{{ d }}" + CHATML
    ),
    "default system": (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nIt is {{ strftime_now('%B %d, %Y') }}, {{ strftime_now('%j') }}."
        "<|im_end|>{% endif %}" + CHATML
    ),
    "date_string": (
        "{% if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}{{ 'Today Date: ' + date_string }}" + CHATML
    ),
    "at the end": CHATML + "{% if add_generation_prompt %}{{ strftime_now('%d') }} {% endif %}",
}  # fmt: skip


def _kv(template: str) -> dict[str, Any]:
    return synthetic_kv("llama-bpe") | {"tokenizer.chat_template": template}


@pytest.mark.parametrize("name", _TEMPLATES)
def test_the_day_it_is(name: str, built: Any) -> None:
    """The reduction, filled with a day, is what jinja2 renders on that day; and the C code's tokens are those of that text."""
    kv = _kv(_TEMPLATES[name])
    found = reduce_chat(kv, "", "")
    assert "takes that of the day" in found.note
    c = CTokenizer(built, compile_tokenizer(kv, len(kv[P + "tokens"])), found.encode())
    hf = hf_tokenizer(kv)
    assert c.chat_status == 0
    turns = (("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi"), ("user", "What day is it? %d"))
    for messages in (turns, turns[1:], turns[1:2]):
        for day in _DAYS[:4]:
            said = found.render(Conversation(messages, True))
            assert said is not None
            text = dates.fill(said, day)
            names = _NAMES | ({"date_string": day.strftime("%d %b %Y")} if name == "date_string" else {})
            assert render_all(_TEMPLATES[name], names, [Conversation(messages, True)], str(day)) == [text]
            ids = c.chat([(r, t.encode()) for r, t in messages], True, (day.year, day.month, day.day))
            assert ids == hf.encode(text).ids


@pytest.mark.parametrize("name", _TEMPLATES)
def test_one_date_for_ever(name: str) -> None:
    found = reduce_chat(_kv(_TEMPLATES[name]), "", "", date="2031-01-02")
    assert found.note.endswith("always writes 2031-01-02")
    assert not any(map(dates.formats, found.glue.values())) and any("2031" in t or "02" in t for t in found.glue.values())
    assert b"\xff" not in found.encode()[8 + 6 * 4 + 160 :]


@pytest.mark.parametrize(
    "date",
    ["strftime_now('%Y-%m-%d')[:4]", "strftime_now('%d') | int + 1", "strftime_now('%H:%M')", "strftime_now('%b') | upper", "'\ue000'"],
)
def test_what_is_more_than_writing_a_date(date: str) -> None:
    """The date is fixed, and the note says so."""
    found = reduce_chat(_kv("{{ " + date + " }}{% set unused = strftime_now('%Y') %}" + CHATML), "", "")
    assert found and found.note.endswith("always writes 2024-07-26")


def test_a_date_that_is_asked_for_and_not_written() -> None:
    found = reduce_chat(_kv("{% set d = strftime_now('%Y-%m-%d') %}" + CHATML), "", "")
    assert found and not found.note and found.glue == reduce_chat(_kv(CHATML), "", "").glue


def test_damaged_marks_are_refused(built: Any) -> None:
    kv = _kv("{{ strftime_now('%Y-%m-%d') }}" + CHATML)
    section, chat = compile_tokenizer(kv, len(kv[P + "tokens"])), reduce_chat(kv, "", "").encode()
    marks = [m.start() for m in re.finditer(b"\xff%Y", chat)]
    assert marks
    assert CTokenizer(built, section, chat).chat_status == 0
    for at, byte in ((marks[0] + 2, b"H"), (marks[0] + 5, b"H"), (marks[0] + 1 + len("%Y-%m-%d"), b"x")):
        damaged = bytearray(chat)
        damaged[at : at + 1] = byte
        assert CTokenizer(built, section, bytes(damaged)).chat_status == EFILE, at
    old = chat[:8] + struct.pack("<I", 2) + chat[12:]
    assert CTokenizer(built, section, old).chat_status == EFILE
    assert (START, "user") in reduce_chat(kv, "", "").glue
