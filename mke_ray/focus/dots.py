"""Paired differences as dots with their intervals, and a number beside each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mke_ray.report import style

WIDE_IN = 8.8


@dataclass(frozen=True, slots=True)
class Dot:
    """One row.

    Args:
        name: What it is.
        colour: Its colour.
        over: A paired difference, see ``mke_ray.focus.spreads``.
        beside: What stands at the right end of the row.
        is_hollow: Whether the dot is a ring.
    """

    name: str
    colour: str
    over: Mapping[str, Any]
    beside: str = ""
    is_hollow: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """Ends of the interval in points; the mean of a single draw."""
        low, high = self.over["ci95"] or (self.over["mean"], self.over["mean"])
        return 100 * low, 100 * high


def draw_dots(
    axes: Axes, dots: Sequence[Dot], *, title: str, beside: str, scale: Sequence[Dot] = ()
) -> None:
    """Draw rows of dots, the first at the top.

    Args:
        axes: Where.
        dots: The rows.
        title: Title of the panel.
        beside: What the numbers beside the rows are.
        scale: Rows of all panels with one scale; those of this one where there are none.
    """
    axes.axvline(0, color=style.INK, lw=1, ls=(0, (4, 3)), zorder=1)
    for row, dot in enumerate(dots):
        x, face = 100 * dot.over["mean"], "none" if dot.is_hollow else dot.colour
        axes.plot(dot.ends, (row, row), color=dot.colour, lw=2.2, solid_capstyle="round")
        axes.plot(x, row, "o", ms=7, mfc=style.PAPER, mec="none", zorder=3)
        axes.plot(x, row, "o", ms=7, mfc=face, mec=dot.colour, mew=1.6, zorder=4)
        _write_beside(axes, row, dot.beside, va="center")
    _write_beside(axes, -0.62, beside, va="bottom")
    axes.set_title(title, weight="bold")
    ends = [dot.ends for dot in scale or dots]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    wide = high - low or 1.0
    axes.set_xlim(low - 0.1 * wide, high + 0.1 * wide)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_ylim(len(dots) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)


def name_rows(axes: Axes, dots: Sequence[Dot]) -> None:
    """Write the names of the rows at the left of a panel, each in its colour."""
    axes.set_yticks(range(len(dots)), [dot.name for dot in dots])
    for label, dot in zip(axes.get_yticklabels(), dots, strict=True):
        label.set_color(dot.colour)


def _write_beside(axes: Axes, row: float, text: str, *, va: str) -> None:
    """Write behind the right end of a row, where no grid is."""
    axes.annotate(
        text,
        (1.0, row),
        xycoords=axes.get_yaxis_transform(),
        xytext=(4, 0),
        textcoords="offset points",
        va=va,
        fontsize=9,
        color=style.MUTED,
        annotation_clip=False,
    )
