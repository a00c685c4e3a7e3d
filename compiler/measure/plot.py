"""The roofline (Williams, Waterman and Patterson, 2009): every kernel between the limits of the run that timed it."""

from __future__ import annotations

from collections.abc import Sequence
from math import atan, degrees
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infc.errors import InputError

if TYPE_CHECKING:
    from infc.measure.explain import Explained

_MARKERS = "osD^v"


def require_matplotlib() -> None:
    """Raises InputError that names the extra. Called before minutes of measuring."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError("opt", "--plot needs matplotlib", "install the extra: pip install 'infc[plot]'") from None


def _label(e: Explained) -> str:
    w = e.profile.workload
    depth = f" @ d{w.depth}" if w.depth else ""
    return (f"prompt of {w.rows}" if w.prompt else f"decode, {w.rows} sequence{'s' if w.rows > 1 else ''}") + depth


def _limits(axes: Any, explained: Sequence[Explained], low: float, high: float) -> None:
    """The slope of the read bandwidth and the three ceilings, of the last run; they are of one machine within minutes."""
    x = explained[-1].limits
    for peak, name, style in ((x.int8_gmac_s, "int8", "-"), (x.int16_gmac_s, "int16", "-."), (x.f32_gmac_s, "f32", "--")):
        knee = peak / x.read_gb_s
        axes.plot([low, knee, high], [low * x.read_gb_s, peak, peak], style, color="0.35", linewidth=1.2)
        axes.annotate(f"{name} peak {peak:.0f} GMAC/s", (high, peak), ha="right", va="bottom", fontsize=8)
    along = {"rotation": degrees(atan(x.read_gb_s)), "rotation_mode": "anchor", "transform_rotates_text": True}
    axes.text(low * 1.2, low * 1.25 * x.read_gb_s, f"read {x.read_gb_s:.1f} GB/s", ha="left", va="bottom", fontsize=8, **along)


def draw(path: Path, title: str, explained: Sequence[Explained]) -> None:
    """Write an SVG, the same bytes for the same figures. ``explained``: workloads of one artifact; each has a marker of its own."""
    require_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    # What multiplies nothing, as the embedding's look-up, has no place between logarithmic axes.
    shown = [[k for k in e.kernels if k.seconds > 0 and k.macs > 0 and k.bytes > 0] for e in explained]
    if not any(shown):
        raise InputError("opt", "no kernel multiplies anything: there is nothing to draw", title)
    phases = list(dict.fromkeys(k.phase for kernels in shown for k in kernels))
    colours = {p: f"C{i}" for i, p in enumerate(phases)}
    intensities = [k.macs / k.bytes for kernels in shown for k in kernels]
    low, high = min(*intensities, 1) / 2, max(*intensities, 100) * 2
    with matplotlib.rc_context({"svg.hashsalt": "infc", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(9, 6), layout="constrained")
        axes = figure.add_subplot()
        _limits(axes, explained, low, high)
        for e, kernels, marker in zip(explained, shown, _MARKERS * len(shown), strict=False):
            for k in kernels:
                label = f"{_label(e)}: {k.phase}, {k.limit_pct:.0f} % of {k.bound}"
                look: dict[str, Any] = {"color": colours[k.phase], "linestyle": "none", "marker": marker}
                axes.plot(k.macs / k.bytes, k.macs * 1e-9 / k.seconds, label=label, gid=f"{k.phase}/{k.kernel}", **look)
        axes.set(xscale="log", yscale="log", xlabel="multiply-accumulates per byte", ylabel="GMAC/s", title=title, xlim=(low, high))
        axes.grid(True, which="major", color="0.9")
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        try:
            figure.savefig(path, format="svg", metadata={"Date": None, "Creator": "infc"})
        except OSError as e:
            raise InputError("opt", f"cannot write the drawing: {(e.strerror or str(e)).lower()}", str(path)) from None
