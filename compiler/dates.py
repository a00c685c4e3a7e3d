"""Dates in chat templates: a template that asks for the day gets a mark that names the format, and the program writes the day there.

The formats are strftime's of a day without time, with English names. ``runtime_c/infc_date.c`` writes the same.
"""

from __future__ import annotations

import datetime
import re

from infc.errors import InputError

# A mark: these two around the format. Private characters: no template writes them.
OPEN, CLOSE = "\ue000", "\ue001"
MARK = re.compile(f"{OPEN}([^{OPEN}{CLOSE}]*){CLOSE}")
DATE_STRING = "%d %b %Y"  # what Llama's templates call date_string
_DIRECTIVES = re.compile(r"%(?:-[ymdj]|[YymdjBbAa%])")
_MONTHS = "January February March April May June July August September October November December".split()
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


def parse_date(text: str) -> datetime.date:
    """Of YYYY-MM-DD. InputError "opt" for anything else."""
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            raise ValueError
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise InputError("opt", f"{text[:40]!r} is no date: give YYYY-MM-DD", "--date") from None


def is_format(text: str) -> bool:
    """Whether the program can write this format: ASCII, and no directive but those of a day."""
    return text.isascii() and "\0" not in text and "%" not in _DIRECTIVES.sub("", text)


def formats(text: str) -> list[str]:
    """The formats of the marks in ``text``."""
    return MARK.findall(text)


def fill(text: str, day: datetime.date) -> str:
    """``text`` with the day at its marks."""
    return MARK.sub(lambda mark: format_day(mark[1], day), text)


def format_day(template: str, day: datetime.date) -> str:
    """The day by a format that ``is_format`` takes."""
    month, weekday, number = _MONTHS[day.month - 1], _DAYS[day.weekday()], day.timetuple().tm_yday
    parts = {
        "Y": f"{day.year:04}", "y": f"{day.year % 100:02}", "m": f"{day.month:02}", "d": f"{day.day:02}", "j": f"{number:03}",
        "B": month, "b": month[:3], "A": weekday, "a": weekday[:3], "%": "%",
        "-y": str(day.year % 100), "-m": str(day.month), "-d": str(day.day), "-j": str(number),
    }  # fmt: skip
    return _DIRECTIVES.sub(lambda directive: parts[directive[0][1:]], template)


def encoded(text: str) -> bytes:
    """UTF-8, with a mark as its format between two bytes that UTF-8 does not have."""
    out, at = b"", 0
    for mark in MARK.finditer(text):
        out += text[at : mark.start()].encode() + b"\xff" + mark[1].encode("ascii") + b"\xff"
        at = mark.end()
    return out + text[at:].encode()
