"""Progress on stderr: what waits, what is said, what a hostile note cannot do."""

from __future__ import annotations

import pytest

from infc.cli.progress import Bars, Plain, Progress

Capture = pytest.CaptureFixture[str]


def test_lines_wait_until_the_model_is_accepted(capsys: Capture) -> None:
    plain = Plain()
    plain.stage("read")
    plain.note("odd")
    plain.stage("tokenizer")
    assert capsys.readouterr().err == ""
    plain.stage("emit")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["note:", "read", "tokenizer"]
    plain.note("later")
    assert capsys.readouterr().err == "infc: note: later\n"
    plain.close(False)
    assert capsys.readouterr().err.startswith("infc: emit ")


@pytest.mark.parametrize(("failed", "lines"), [(True, 0), (False, 2)])
def test_a_refusal_says_nothing_before_its_error(failed: bool, lines: int, capsys: Capture) -> None:
    plain = Plain()
    plain.note("odd")
    plain.stage("read")
    plain.close(failed)
    assert len(capsys.readouterr().err.splitlines()) == lines


@pytest.mark.parametrize("kind", [Plain, Bars])
def test_notes_cannot_drive_a_terminal(kind: type[Plain | Bars], capsys: Capture) -> None:
    reporter = kind()
    reporter.stage("emit")
    reporter.note("a\x1b[31mred\n[bold]")
    reporter.close(False)
    err = capsys.readouterr().err
    assert "\x1b[31m" not in err
    assert "\\x1b[31mred\\x0a[bold]" in err


def test_off_a_terminal_it_is_plain() -> None:
    with Progress() as progress:
        assert isinstance(progress.reporter, Plain)
