"""The picture of ``scale.py``: CPU time and memory of every stage over its size, log-log."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator

from mke_ray.report.style import (
    BLUE,
    BROWN,
    GREEN,
    GRID,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    RED,
    SLATE,
    house_style,
    new_figure,
    spread_labels,
    to_picture,
)

_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, SLATE, BROWN)
_LEFT_OUT = ("fill",)
_PANELS = (("rows", "manifest rows"), ("units", "units of a store"))
_LEAST_MB = 1.0
_LABEL_GAP = 0.075  # of the height of an axes


def growth_picture(kept: Mapping[str, Any]) -> bytes:
    """Return a PNG of the curves that were measured.

    Args:
        kept: What ``scale.py`` keeps.
    """
    panels = [(kept[name], title) for name, title in _PANELS if name in kept]
    with house_style():
        figure = new_figure(3.1 * len(panels), width_in=9.2)
        figure.get_layout_engine().set(hspace=0.08)  # type: ignore[union-attr]
        all_axes = figure.subplots(len(panels), 2, squeeze=False)
        for row, (found, title) in zip(all_axes, panels, strict=True):
            _draw(row[0], found, "cpu_s", f"CPU seconds, {title}")
            _draw(row[1], found, "grown_mb", f"MiB beyond the start, {title}")
        picture = to_picture(figure, name="scale", title="Growth", alt="CPU time and memory")
    return picture.png


def _draw(axes: Axes, found: Mapping[str, Any], name: str, title: str) -> None:
    """Draw the curves of one quantity, each named at its end, and a line of what is linear."""
    sizes = found["sizes"]
    curves = {
        stage: [max(one[name], _LEAST_MB if name == "grown_mb" else 1e-3) for one in curve]
        for stage, curve in found["curves"].items()
        if stage not in _LEFT_OUT
    }
    for colour, values in zip(_COLOURS, curves.values(), strict=False):
        axes.plot(sizes, values, color=colour, marker="o", markersize=3.5, linewidth=1.6)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    least, most = min(map(min, curves.values())), max(map(max, curves.values()))
    bottom, top = least / 2, max(most * 2, least * sizes[-1] / sizes[0])
    axes.set_ylim(bottom, top)
    slope = [1.3 * bottom * size / sizes[0] for size in sizes]
    axes.plot(sizes, slope, color=MUTED, linestyle=":", linewidth=1.2)
    if name == "cpu_s":  # where nothing is below it
        offset = {"xytext": (4, -4), "textcoords": "offset points", "va": "top"}
        axes.annotate("twice for twice", (sizes[1], slope[1]), color=MUTED, fontsize=8, **offset)
    axes.set_xticks(sizes, [_short(size) for size in sizes])
    axes.minorticks_off()
    if top < 100 * bottom:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="y", color=GRID)
    axes.set_title(title)
    _name(axes, curves)


def _name(axes: Axes, curves: Mapping[str, list[float]]) -> None:
    """Write the name of every curve at its end, none over another."""
    axes.figure.canvas.draw()
    ends = [(0.0, values[-1]) for values in curves.values()]
    heights = [axes.transAxes.inverted().transform(axes.transData.transform(e))[1] for e in ends]
    places = spread_labels(heights, _LABEL_GAP)
    for colour, stage, place in zip(_COLOURS, curves, places, strict=False):
        axes.annotate(
            stage,
            (1.0, place),
            xycoords="axes fraction",
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=colour if colour != SLATE else INK,
            fontsize=8.5,
            annotation_clip=False,
        )


def _short(size: int) -> str:
    """Return a number in few letters."""
    if size >= 1_000_000:
        return f"{size / 1e6:g}M"
    return f"{size / 1e3:g}k"
