"""Stop strings over a stream, without a model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from infc.binding.library import interface
from infc.binding.text import Token, until_stop


def tokens(*texts: str) -> list[Token]:
    return [Token(i, t, 0.0) for i, t in enumerate(texts)]


@given(st.lists(st.text("ab", max_size=3)), st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3))
def test_the_text_ends_before_the_first_stop(texts: list[str], stops: list[str]) -> None:
    whole = "".join(texts)
    found = [whole.find(s) for s in stops if s in whole]
    # A stop can only be seen once its last character is there; of those complete by then the earliest beginning counts.
    got = "".join(t.text for t in until_stop(tokens(*texts), tuple(stops)))
    if not found:
        assert got == whole
        return
    seen = ""
    for t in texts:
        seen += t
        ends = [seen.find(s) for s in stops if s in seen]
        if ends:
            assert got == seen[: min(ends)]
            return


def test_text_that_may_become_a_stop_is_held_back() -> None:
    stream = until_stop(iter(tokens("a", "b", "x")), ("bc",))
    assert [t.text for t in stream] == ["a", "b", "x"]
    seen: list[str] = []

    def source():  # type: ignore[no-untyped-def]
        for t in tokens("a", "b", "c"):
            seen.append(t.text)
            yield t

    stream = until_stop(source(), ("bc",))
    assert next(stream).text == "a"
    assert seen == ["a"]
    assert list(stream) == []


def test_the_end_token_passes() -> None:
    end = Token(7, "", -1.0, True)
    assert list(until_stop([*tokens("ab"), end], ("abc",)))[-1] == end


def test_every_function_of_the_header_is_declared() -> None:
    """cffi has each INFC_API function of infc.h: the binding sees the whole interface."""
    import re
    from importlib import resources

    header = resources.files("infc.runtime_c").joinpath("infc.h").read_text("utf-8")
    names = set(re.findall(r"^INFC_API [^(]*?(infc_\w+)\(", header, re.M))
    declared = set(interface().list_types()[0]) | set(interface()._parser._declarations)
    assert len(names) > 20
    assert {f"function {n}" for n in names} <= declared
