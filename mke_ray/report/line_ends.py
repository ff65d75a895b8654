"""Names of curves at their ends, where they cover neither each other nor other curves."""

# N ends, K heights that a name can have.

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from mke_ray.report import style

_EARLY = 0.9  # of the longest curve
_GAP = 0.095  # between names, of the height of the axes
_CLEAR = 0.5  # between a name and a curve, of the gap
_LETTER = 0.016  # width of one, of that of the axes
_BESIDE = 0.03  # from an end to its name, of the width
_BEHIND = 1.05  # where the column of names begins, of the width
_NUM_HEIGHTS = 96
_NUM_SAMPLES = 24


@dataclass(frozen=True, slots=True)
class LineEnd:
    """Where the curve of an arm ends.

    Args:
        arm: Name of the arm.
        x: Last step.
        y: Value there.
    """

    arm: str
    x: float
    y: float


def name_ends(axes: Axes, ends: Sequence[LineEnd]) -> None:
    """Write the names of the arms in a column at the right, each with a line to its curve.

    A curve that ends early is named at its end: a line across the others would look like a curve.
    """
    low, high = axes.get_ylim()
    last = max(one.x for one in ends)
    gap = (high - low) * _GAP
    late = [one for one in ends if one.x >= _EARLY * last]
    places = style.spread_labels([one.y for one in late], gap=gap)
    early = sorted((one for one in ends if one.x < _EARLY * last), key=lambda one: one.y)
    beside = _early_places(axes, early, column=places, last=last)
    for one, place in zip(early, beside, strict=True):
        _write(axes, one, one.x + _BESIDE * last, place)
    for one, place in zip(late, places, strict=True):
        _write(axes, one, _BEHIND * last, place)
    axes.set_ylim(min(low, *places), max(high, *places))
    axes.set_xlim(0, last)


def nearest_places(
    wanted: Sequence[float], free_NK: NDArray, heights_K: NDArray, gap: float
) -> list[float]:
    """Return free heights for names in their order, as near as can be to where they belong.

    Args:
        wanted: Where the names belong, rising.
        free_NK: Whether a name can have a height.
        heights_K: The heights, rising.
        gap: Least distance between two names.

    Returns:
        The heights; names are only moved apart where there is no room for all.
    """
    if not wanted:
        return []
    costs = [
        np.where(free, np.abs(heights_K - y), np.inf)
        for free, y in zip(free_NK, wanted, strict=True)
    ]
    may_follow_KK = heights_K[None] - heights_K[:, None] >= gap
    total_K, before = costs[0], []
    for cost_K in costs[1:]:
        reached_KK = np.where(may_follow_KK, total_K[:, None], np.inf)
        before.append(reached_KK.argmin(axis=0))
        total_K = cost_K + reached_KK.min(axis=0)
    if not np.isfinite(total_K.min()):
        return style.spread_labels(list(wanted), gap)
    chosen = [int(total_K.argmin())]
    for best_K in reversed(before):
        chosen.append(int(best_K[chosen[-1]]))
    return [float(heights_K[one]) for one in reversed(chosen)]


def _early_places(
    axes: Axes, early: Sequence[LineEnd], *, column: Sequence[float], last: float
) -> list[float]:
    """Return heights for the names of curves that end early, the lowest first."""
    low, high = axes.get_ylim()
    gap = (high - low) * _GAP
    heights_K = np.linspace(low + gap / 2, high - gap / 2, _NUM_HEIGHTS)
    free_NK = np.ones((len(early), _NUM_HEIGHTS), bool)
    for row, one in enumerate(early):
        start = one.x + _BESIDE * last
        end = start + _LETTER * len(style.arm_short(one.arm)) * last
        for y in _heights_between(axes, start, end):
            free_NK[row] &= np.abs(heights_K - y) > _CLEAR * gap
        for y in column if end > _BEHIND * last else ():
            free_NK[row] &= np.abs(heights_K - y) >= gap
    return nearest_places([one.y for one in early], free_NK, heights_K, gap)


def _heights_between(axes: Axes, start: float, end: float) -> Iterator[float]:
    """Return heights at which curves run between two steps."""
    for line in axes.lines:
        x, y = (np.asarray(one, float) for one in line.get_data())
        at = np.linspace(start, end, _NUM_SAMPLES)
        yield from np.interp(at[(at >= x[0]) & (at <= x[-1])], x, y)


def _write(axes: Axes, end: LineEnd, x: float, y: float) -> None:
    """Write the name of a curve with a thin line to its end."""
    colour = style.arm_colour(end.arm)
    axes.annotate(
        style.arm_short(end.arm),
        xy=(end.x, end.y),
        xytext=(x, y),
        color=colour,
        fontsize=9.5,
        va="center",
        annotation_clip=False,
        arrowprops={
            "arrowstyle": "-",
            "relpos": (0, 0.5),
            "color": colour,
            "lw": 0.7,
            "alpha": 0.6,
        },
    )
