"""Whatever bytes a file holds, it is accepted or refused with an InputError: no other exception, no hang, no large allocation."""

from __future__ import annotations

import resource
import signal
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infc.errors import InputError
from tests.models.raw_gguf import ARRAY, STRING, Raw, raw_array, raw_string, valid
from tests.models.refused import load

_HEADROOM = 512 << 20  # address space a test may add: far more than a tiny file needs, far less than a spoilt count asks for
_PATIENCE = 20  # seconds until an example counts as hanging

# The same examples each time: a failure on one machine is a failure on all.
_SETTINGS = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
    max_examples=300,
)
_NUMBERS = st.sampled_from([0, 1, 2, 7, 8, 31, 32, 2**31 - 1, 2**31, 2**32 - 1, 2**61, 2**63 - 1, 2**63, 2**64 - 1])


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Turn a large allocation into MemoryError and a hang into TimeoutError."""

    def hang(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError("the reader hangs")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    old = resource.getrlimit(resource.RLIMIT_AS)
    previous = signal.signal(signal.SIGALRM, hang)
    resource.setrlimit(resource.RLIMIT_AS, (used + _HEADROOM, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


@cache
def base() -> tuple[bytes, int]:
    """The valid file and the length of its metadata."""
    return valid().encode(), len(valid().metadata())


def outcome(folder: Path, data: bytes) -> None:
    path = folder / "m.gguf"
    path.write_bytes(data)
    signal.alarm(_PATIENCE)
    try:
        load(path)
    except InputError as e:
        line = "infc: " + str(e)
        assert line.isprintable() and len(line.encode()) <= 300
    finally:
        signal.alarm(0)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A few edits of the valid file's bytes, most of them in the metadata."""
    data, meta = base()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, meta if draw(st.booleans()) else len(data)))
        kind = draw(st.sampled_from(["byte", "word", "long", "cut", "delete", "insert", "copy"]))
        if kind == "byte":
            data = data[:at] + draw(st.binary(min_size=1, max_size=4)) + data[at + 1 :]
        elif kind == "word":
            data = data[:at] + struct.pack("<I", draw(_NUMBERS) & (2**32 - 1)) + data[at + 4 :]
        elif kind == "long":
            data = data[:at] + struct.pack("<Q", draw(_NUMBERS)) + data[at + 8 :]
        elif kind == "cut":
            data = data[:at]
        else:
            end = at + draw(st.integers(1, 64))
            piece = {
                "delete": b"",
                "insert": draw(st.binary(max_size=16)) + data[at:end],
                "copy": data[at:end] * 2,
            }
            data = data[:at] + piece[kind] + data[end:]
    return data


@_SETTINGS
@given(data=mutations())
def test_mutated_bytes(tmp_path: Path, data: bytes) -> None:
    outcome(tmp_path, data)


@st.composite
def values(draw: st.DrawFn) -> tuple[int, bytes]:
    """Any value the format can express, and some it cannot."""
    kind = draw(st.integers(0, 13))
    if kind == STRING:
        return kind, raw_string(draw(st.text(max_size=8) | st.sampled_from(["llama", "gpt2", "smollm"])))
    if kind == ARRAY:
        element = draw(st.integers(0, 13))
        count = draw(st.integers(0, 5) | _NUMBERS)
        return raw_array(element, count, draw(st.binary(max_size=48)))
    size = {0: 1, 1: 1, 2: 2, 3: 2, 7: 1, 10: 8, 11: 8, 12: 8}.get(kind, 4)
    if draw(st.booleans()):
        return kind, struct.pack("<Q", draw(_NUMBERS))[:size]
    return kind, draw(st.binary(min_size=size, max_size=size))


@st.composite
def spoilt_structure(draw: st.DrawFn) -> Raw:
    """A file that parses further than a random edit does: keys get other values, tensors other fields."""
    raw = valid()
    for _ in range(draw(st.integers(0, 2))):
        key, _ = draw(st.sampled_from(raw.kv))
        raw.set(key.decode(), draw(values()))
    for _ in range(draw(st.integers(0, 2))):
        t = draw(st.sampled_from(raw.tensors))
        what = draw(st.sampled_from(["name", "ne", "type", "data", "offset", "drop"]))
        if what == "name":
            t.name = draw(st.binary(max_size=70) | st.sampled_from([o.name for o in raw.tensors]))
        elif what == "ne":
            t.ne = draw(st.lists(st.sampled_from([1, 16, 32, 64, 260]) | _NUMBERS, max_size=5))
        elif what == "type":
            t.type = draw(st.integers(-1, 45))
        elif what == "data":
            t.data = draw(st.binary(max_size=8)) + t.data[draw(st.integers(0, 8)) :]
        elif what == "offset":
            t.offset = draw(_NUMBERS)
        elif len(raw.tensors) > 1:
            raw.tensors.remove(t)
    return raw


@_SETTINGS
@given(raw=spoilt_structure())
def test_mutated_structure(tmp_path: Path, raw: Raw) -> None:
    outcome(tmp_path, raw.encode())


def test_the_unchanged_file_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(base()[0])
    assert load(path) == []
