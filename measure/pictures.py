"""Draws measurements as SVG: timeline of a token, cycles and energy by layer, rooflines, scaling laws.

Matplotlib draws the pictures (extra ``report``). Text in an SVG stays text, nothing is loaded from the net, and equal
data give equal bytes. The colours are from Okabe and Ito. People with any colour vision can distinguish them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lutern.hw.protocol import LANE_COUNTERS, RECORD_COUNTERS
from lutern.measure.phases import MEANINGS, Token
from lutern.measure.scaling import NAMES, best_of, last_bits, laws_of
from lutern.model_ref.errors import LuternError
from lutern.model_ref.extras import install_command
from lutern.train.gpus import training_flops
from lutern.train.scaling import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {
    "beats": "#0072B2",
    "barrier": "#D55E00",
    "codes": "#E69F00",
    "trits": "#CC79A7",
    "sums": "#999999",
    "words": "#009E73",
    "memory": "#D55E00",
    "operations": "#E3E3E3",
    "gains": "#C7D9E6",
    "trit_fifo": "#8FB8D4",
}
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
FONT_SIZE = 10
PNG_DPI = 110


def require_matplotlib() -> Any:
    """Return the package matplotlib; raises ``LuternError`` with the command that installs it."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise LuternError(
            f"the package matplotlib, which draws, is not installed; run: {install_command('report')}"
        ) from None
    return matplotlib


def _figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def to_svg(figure: Figure, name: str) -> str:
    """Return the picture as an SVG element; ``name`` makes its ids different from the ids of other pictures on
    the page."""
    matplotlib = require_matplotlib()
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "svg.id": name,
        "font.size": FONT_SIZE,
        "font.family": "sans-serif",
    }
    text = io.StringIO()
    with matplotlib.rc_context(settings):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    body = text.getvalue()[text.getvalue().index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[\w.]+_\d+">', "<g>", body)  # nothing refers to these ids
    return re.sub(r'<svg ([^>]*?)width="[\d.]+pt" height="[\d.]+pt"', r"<svg \1", body, count=1)


def to_png(figure: Figure) -> bytes:
    """Return the picture as the bytes of a PNG file."""
    matplotlib = require_matplotlib()
    content = io.BytesIO()
    with matplotlib.rc_context({"font.size": FONT_SIZE}):
        figure.savefig(content, format="png", dpi=PNG_DPI, metadata={"Software": None}, facecolor="white")
    return content.getvalue()


def _plain(axes: Any, *, grid: str = "") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(axis=grid, color="#e4e4e4", linewidth=0.8)
        axes.set_axisbelow(True)


def timeline(token: Token) -> Figure:
    """Return the timeline of a token: work of lanes and record stream in each phase (area: cycles), and the layers."""
    figure, (lanes, stream) = _figure(10, 5.4, 2, sharex=True)
    edges = np.concatenate([[0], np.cumsum([phase.cycles for phase in token.phases])])
    for axes, names, title, below in ((lanes, LANE_COUNTERS, "lanes", 0.02), (stream, RECORD_COUNTERS, "stream", 0.2)):
        bottom = np.zeros(len(token.phases))
        for name in names:
            counts = np.array([phase.counts[name] for phase in token.phases], float)
            if counts.any():
                share = 100 * counts / np.diff(edges).clip(1)
                axes.bar(
                    edges[:-1],
                    share,
                    np.diff(edges),
                    bottom,
                    align="edge",
                    color=COLOURS[name],
                    label=MEANINGS[name],
                    edgecolor="white",
                    linewidth=0.4,
                )
                bottom += share
        axes.set(ylabel=f"{title}, % of cycles", ylim=(0, 100), xlim=(0, edges[-1]))
        axes.legend(loc="upper left", bbox_to_anchor=(0.0, -below), ncols=4, frameon=False, fontsize=FONT_SIZE - 1)
        _plain(axes)
    start, part = 0, token.phases[0].part
    for index, phase in enumerate([*token.phases, None]):
        if phase is None or phase.part != part:
            end = edges[index]
            if part.startswith("layer") or end - edges[start] > 0.06 * edges[-1]:
                lanes.annotate(part, ((edges[start] + end) / 2, 101), ha="center", va="bottom", annotation_clip=False)
            for axes in (lanes, stream):
                axes.axvline(end, color="black", linewidth=0.8)
            if phase is not None:
                start, part = index, phase.part
    if len(token.phases) <= 32:
        widths = np.diff(edges)
        for index, phase in enumerate(token.phases):
            if widths[index] > 0.018 * edges[-1]:
                lanes.annotate(
                    phase.name.removesuffix("_proj"),
                    (edges[index] + widths[index] / 2, 3),
                    rotation=90,
                    ha="center",
                    va="bottom",
                    color="white",
                    fontsize=FONT_SIZE - 1,
                )
    stream.set_xlabel("cycles from choice to choice")
    stream.xaxis.set_major_formatter("{x:,.0f}")
    return figure


def layers(token: Token) -> Figure:
    """Return bars of cycles for each layer, stacked by the work of the lanes."""
    parts = token.parts
    figure, axes = _figure(8, 1.6 + 0.36 * len(parts))
    left = np.zeros(len(parts))
    for name in LANE_COUNTERS:
        counts = np.array([counts[name] for counts in parts.values()], float)
        if counts.any():
            axes.barh(list(parts), counts, left=left, color=COLOURS[name], label=MEANINGS[name])
            left += counts
    for place, total in enumerate(left):
        axes.annotate(f" {total:,.0f}", (total, place), va="center")
    axes.invert_yaxis()
    axes.set(xlabel="cycles", xlim=(0, left.max() * 1.12))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    _plain(axes, grid="x")
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=FONT_SIZE - 1)
    return figure


@dataclass(frozen=True)
class Bar:
    """The cost of a part of a token; ``low`` and ``high`` are the interval of an estimate."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


def energy(bars: Sequence[Bar], label: str) -> Figure:
    """Return a bar for each layer, with its interval if it has one."""
    figure, axes = _figure(8, 1.0 + 0.36 * len(bars))
    names, values = [bar.name for bar in bars], np.array([bar.value for bar in bars])
    axes.barh(names, values, color=COLOURS["beats"])
    if bars and bars[0].low is not None:
        spread = np.array([[bar.value - (bar.low or 0), (bar.high or 0) - bar.value] for bar in bars]).T
        axes.errorbar(values, names, xerr=spread, fmt="none", ecolor="black", capsize=3)
    axes.invert_yaxis()
    axes.set(xlabel=label)
    axes.xaxis.set_major_formatter("{x:,.3g}")
    _plain(axes, grid="x")
    return figure


@dataclass(frozen=True)
class Roof:
    """A machine: the trits/byte and trits/s that it reached, and the bounds of its lanes and its memory."""

    name: str
    trits_per_byte: float
    trits_per_second: float
    lanes_per_second: float
    bytes_per_second: float


def roofline(roofs: Sequence[Roof]) -> Figure:
    """Return a plot of trits/s over trits/byte, with the point of each machine below the roof of this machine."""
    figure, axes = _figure(8, 4.4 + 0.2 * len(roofs))
    knees = [roof.lanes_per_second / roof.bytes_per_second for roof in roofs]
    low = min([roof.trits_per_byte for roof in roofs] + knees) / 4
    high = max([roof.trits_per_byte for roof in roofs] + knees) * 4
    x = np.geomspace(low, high, 200)
    colours: dict[tuple[float, float], str] = {}
    for roof in roofs:
        bounds = roof.lanes_per_second, roof.bytes_per_second
        if bounds not in colours:
            colours[bounds] = SERIES[len(colours) % len(SERIES)]
            axes.plot(x, np.minimum(bounds[0], x * bounds[1]), color=colours[bounds], linewidth=1.2)
        bound = min(bounds[0], roof.trits_per_byte * bounds[1])
        axes.plot(
            roof.trits_per_byte,
            roof.trits_per_second,
            "o",
            color=colours[bounds],
            label=f"{roof.name}: {roof.trits_per_second / bound:.0%} of its bound",
        )
    axes.set(xscale="log", yscale="log", xlim=(low, high), xlabel="trits of work a byte read", ylabel="trits a second")
    _plain(axes, grid="both")
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=FONT_SIZE - 1)
    return figure


def scaling(results: Sequence[Result]) -> Figure:
    """Return two plots: loss over weights, with the laws, and loss over compute. Each kind of network has a colour.

    A point is a run at the last step that all runs have reached; the line of a run continues to its own last step."""
    figure, (over_weights, over_compute) = _figure(10, 4.2, 1, 2, sharey=True)
    laws = laws_of(results)
    for colour, (kind, best) in zip(SERIES, best_of(results).items(), strict=False):
        weights = [one.weights for one in best]
        law, ends = laws[kind], np.geomspace(weights[0], weights[-1], 50)
        over_weights.plot(ends, [law.at(x) for x in ends], color=colour, linewidth=1.0, linestyle="--")
        label = f"{NAMES[kind]}: exponent {law.exponent:.3f} ({law.low:.3f} to {law.high:.3f})"
        over_weights.plot(weights, [last_bits(one) for one in best], "o", color=colour, label=label)
        for one in best:
            step_flops = one.batch_tokens * training_flops(one.weights)
            chosen = (one.kind, one.size, one.learning_rate)
            whole = next(run.record for run in results if (run.kind, run.size, run.learning_rate) == chosen)
            flops = [row["step"] * step_flops for row in whole]
            over_compute.plot(flops, [row["validation_bits"] for row in whole], color=colour, linewidth=1.0)
            over_compute.plot(one.record[-1]["step"] * step_flops, last_bits(one), "o", color=colour)
    over_weights.set(xscale="log", yscale="log", xlabel="weights of matrices", ylabel="bits a character, validation")
    over_compute.set(xscale="log", xlabel="operations of training, 6 a weight and token")
    for axes in (over_weights, over_compute):
        _plain(axes, grid="both")
    over_weights.yaxis.set_major_formatter("{x:.3g}")
    over_weights.yaxis.set_minor_formatter("{x:.3g}")
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=FONT_SIZE - 1)
    return figure


def _log_ticks(axis: Any, unit: str = "") -> None:
    """Label 1, 2 and 5 of each decade of a logarithmic axis: with a prefix of the ``unit`` or, without a unit, as whole
    numbers."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(EngFormatter(unit) if unit else StrMethodFormatter("{x:,.0f}"))


@dataclass(frozen=True)
class Searched:
    """A machine of a search: ``low`` to ``high`` is its joules per token, ``routed`` its routed LUTs and tokens/s."""

    name: str
    kind: str
    tokens_per_second: float
    luts: float
    block_rams: int
    low: float
    high: float
    on_front: bool
    routed: tuple[float, float] | None = None


def pareto(machines: Sequence[Searched], limits: tuple[int, int]) -> Figure:
    """Return plots of the tokens/s of machines over LUT, block RAMs and joules per token. The front is coloured.

    ``limits`` are the LUTs and block RAMs of the chip."""
    figure, panels = _figure(10, 4.4, 1, 3, sharey=True)
    rest = [one for one in machines if not one.on_front]
    front = [one for one in machines if one.on_front]
    for axes, value in zip(
        panels, (lambda one: one.luts, lambda one: one.block_rams, lambda one: one.high), strict=True
    ):
        rates = [one.tokens_per_second for one in rest]
        axes.plot([value(one) for one in rest], rates, ".", color="#bbbbbb", label="not on the front")
        for colour, kind in zip(SERIES, dict.fromkeys(one.kind for one in front), strict=False):
            chosen = [one for one in front if one.kind == kind]
            rates = [one.tokens_per_second for one in chosen]
            axes.plot([value(one) for one in chosen], rates, "o", color=colour, label=f"front, {kind}", markersize=5)
            if axes is panels[2]:
                axes.hlines(
                    rates, [one.low for one in chosen], [one.high for one in chosen], color=colour, linewidth=0.8
                )
        _plain(axes, grid="both")
    for one in front:
        if one.routed:
            panels[0].annotate("", one.routed, (one.luts, one.tokens_per_second), arrowprops={"arrowstyle": "-"})
    routed = [one.routed for one in front if one.routed]
    panels[0].plot([luts for luts, _ in routed], [rate for _, rate in routed], "kx", label="placed and routed")
    for axes, limit in zip(panels, limits, strict=False):
        if limit <= 2 * max((one.luts if axes is panels[0] else one.block_rams for one in machines), default=0):
            axes.axvline(limit, color="black", linewidth=0.8, linestyle=":")
    panels[0].set(xlabel="LUT", ylabel="tokens a second, all streams", yscale="log")
    panels[1].set(xlabel="block RAMs")
    panels[2].set(xlabel="energy a token, low to high", xscale="log")
    _log_ticks(panels[0].yaxis)
    _log_ticks(panels[2].xaxis, unit="J")
    panels[0].xaxis.set_major_formatter("{x:,.0f}")
    panels[0].locator_params(axis="x", nbins=4)  # few ticks, so that labels of five digits have room
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=4, frameon=False, fontsize=FONT_SIZE - 1)
    return figure
