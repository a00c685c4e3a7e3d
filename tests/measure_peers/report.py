"""The arithmetic over the turns, and the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from tests.measure_peers.rows import BEST, GROUPS, LLAMA_AMX, LLAMA_AVX512, PEERS, READ, Group, Ratio, Special, Speed, Want
from tests.measure_peers.sides import Samples

Turn = Mapping[str, Samples]  # by contestant
Turns = Mapping[str, Sequence[Turn]]  # by the name of a group


@dataclass(frozen=True)
class Spread:
    """Over the turns."""

    median: float
    low: float
    high: float
    turns: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """``values``: one a turn, at least one."""
        return cls(median(values), min(values), max(values), len(values))

    def cell(self, digits: int) -> str:
        """Median, and the range in brackets where there is more than one turn."""
        low, high = f"{self.low:,.{digits}f}", f"{self.high:,.{digits}f}"
        return f"{self.median:,.{digits}f}" + (f" ({low}-{high})" if self.turns > 1 else "")


@dataclass(frozen=True)
class Beside:
    """A peer's speed, and ours over it (medians). ``how``: the switches that made it the faster one."""

    speed: Spread
    ratio: float
    how: str


@dataclass(frozen=True)
class Verdict:
    """What is wanted, what was reached, and whether it is enough; None: not measured."""

    want: str
    got: float | None
    met: bool | None


@dataclass(frozen=True)
class Line:
    """One test of one target. ``read``, ``math``: % of the limits that the same turns measured."""

    group: str
    model: str
    test: str
    threads: int
    isa: str
    ours: Spread
    beside: dict[str, Beside]
    read: Spread
    math: Spread
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Figure:
    """A figure that is no speed: ``note`` has what it is made of."""

    group: str
    title: str
    isa: str
    unit: str
    value: Spread
    note: str
    verdict: Verdict | None


def series(turns: Sequence[Turn], contestant: str, test: str, figure: str = "value") -> list[float]:
    """One number a turn, of the turns in which the contestant ran the test."""
    return [t[contestant][test][figure] for t in turns if test in t.get(contestant, {})]


def _labels(turns: Sequence[Turn], first: str) -> list[str]:
    """The contestants of some turn whose label starts with the word ``first``, in order."""
    return list(dict.fromkeys(label for t in turns for label in t if label.split(" ")[0] == first))


def _beside(turns: Sequence[Turn], test: str, ours: Spread, column: str) -> Beside | None:
    """The fastest of a column's contestants, by median."""
    found = [(Spread.of(values), label) for label in _labels(turns, column) if (values := series(turns, label, test))]
    if not found:
        return None
    speed, label = max(found, key=lambda f: f[0].median)
    return Beside(speed, ours.median / speed.median, label[len(column) + 1 :])


def judge(want: Want, read: float, beside: Mapping[str, Beside]) -> Verdict:
    """``read``: % of the bandwidth."""
    if want.of == READ:
        got: float | None = read
    elif want.of == BEST:  # the smallest ratio is that to the fastest
        got = min((beside[c].ratio for c in (LLAMA_AMX, LLAMA_AVX512) if c in beside), default=None)
    else:
        got = beside[want.of].ratio if want.of in beside else None
    return Verdict(str(want), got, None if got is None else got >= want.least)


def lines_of(group: Speed, turns: Sequence[Turn]) -> list[Line]:
    """A line for each test and each target that ran."""
    found = []
    for test, wants in group.wants.items():
        for label in _labels(turns, "infc"):
            isa = label.split(" ")[1]
            ours = Spread.of(series(turns, label, test))
            read, math = (Spread.of(series(turns, label, test, figure)) for figure in ("read_pct", "math_pct"))
            beside = {c: b for c in PEERS if (b := _beside(turns, test, ours, c)) is not None}
            verdicts = tuple(judge(w, read.median, beside) for w in wants.get(isa, ()))
            found.append(Line(group.name, group.model, test, group.tests.threads[0], isa, ours, beside, read, math, verdicts))
    return found


def _figure(group: Special, ratio: Ratio, turns: Sequence[Turn], label: str) -> Figure:
    above = series(turns, label, ratio.test)
    value, note = Spread.of(above), ""
    if ratio.over:
        below = series(turns, label, ratio.over)
        each = [a / b for a, b in zip(above, below, strict=True)]  # of one turn
        value = Spread(median(above) / median(below), min(each), max(each), len(each))
        note = f"{median(above):.4g} / {median(below):.4g}"
    verdict = None
    if ratio.most is not None:
        verdict = Verdict(ratio.want, value.median, value.median <= ratio.most)
    elif ratio.least is not None:
        verdict = Verdict(ratio.want, value.median, value.median >= ratio.least)
    return Figure(group.name, ratio.title, " ".join(label.split(" ")[1:]), ratio.unit, value, note, verdict)


def figures_of(group: Special, turns: Sequence[Turn]) -> list[Figure]:
    """A figure for each ratio and each target that ran."""
    return [_figure(group, ratio, turns, label) for ratio in group.figures for label in _labels(turns, "infc")]


@dataclass(frozen=True)
class Report:
    """All that the turns say."""

    lines: tuple[Line, ...]
    figures: tuple[Figure, ...]

    @classmethod
    def of(cls, turns: Turns, groups: Sequence[Group] = GROUPS) -> Report:
        """Groups without turns are left out."""
        ran = [g for g in groups if turns.get(g.name)]
        lines = tuple(x for g in ran if isinstance(g, Speed) for x in lines_of(g, turns[g.name]))
        return cls(lines, tuple(x for g in ran if isinstance(g, Special) for x in figures_of(g, turns[g.name])))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


_ANSWER = {True: "yes", False: "no", None: "?"}


def _wanted(verdicts: Sequence[Verdict]) -> list[str]:
    """Cells: what is wanted, and one answer each."""
    return ["; ".join(v.want for v in verdicts), "; ".join(_ANSWER[v.met] for v in verdicts)]


def _line(x: Line, columns: Sequence[str]) -> list[str]:
    title = x.test if x.model == "SmolLM2" else f"{x.model}: {x.test}"
    cells = [title, x.isa, str(x.threads), x.ours.cell(0 if x.ours.median >= 100 else 1)]
    for c in columns:
        b = x.beside.get(c)
        how = f", {b.how}" if b is not None and b.how else ""
        cells += ["", ""] if b is None else [b.speed.cell(0 if b.speed.median >= 100 else 1) + how, f"{b.ratio:.2f}"]
    return [*cells, x.read.cell(0), x.math.cell(0), *_wanted(x.verdicts)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(r)} |" if r is not None else "|---" * len(head) + "|" for r in (head, None, *rows)]


def markdown(report: Report) -> str:
    """The tables; a column of a peer that ran nothing is left out."""
    out: list[str] = []
    columns = [c for c in PEERS if any(c in x.beside for x in report.lines)]
    if report.lines:
        head = ["test", "target", "threads", "infc tok/s"]
        head += [cell for c in columns for cell in (f"{PEERS[c]} tok/s", "ratio")]
        head += ["% of bandwidth", "% of the peaks", "wanted", "met"]
        out += [*_table(head, [_line(x, columns) for x in report.lines]), ""]
    if report.figures:
        rows = []
        for f in report.figures:
            value = f"{f.value.cell(2)} {f.unit}" + (f" = {f.note}" if f.note else "")
            rows.append([f.title, f.isa, value, *_wanted((f.verdict,) if f.verdict else ())])
        out += [*_table(["figure", "target", "infc", "wanted", "met"], rows), ""]
    turns = [x.ours.turns for x in report.lines] + [f.value.turns for f in report.figures]
    if turns:
        count = f"{min(turns)}" if min(turns) == max(turns) else f"{min(turns)} to {max(turns)}"
        out.append(f"Medians of {count} interleaved turns, lowest and highest in brackets; shares of limits of the same turns.")
        out.append("?: not measured in these turns.")
    return "\n".join(out)
