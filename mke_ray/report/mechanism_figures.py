"""The figures that explain a gain: what noise averages, and what gains depend on."""

# W draws of the data, X places on an axis.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mke_ray.report import style
from mke_ray.report.mechanism_reach import WIDE_IN, draw_band
from mke_ray.report.style import Picture, arm_colour, arm_line, arm_short, house_style, new_figure

_PANELS = ("num_unlabeled", "num_labelled", "alpha", "kind")
_AXIS_WORDS = {
    "num_unlabeled": "unlabeled samples",
    "num_labelled": "labelled samples of the teacher",
    "alpha": "strength of the input noise, alpha",
    "kind": "labels at the same alpha",
}


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """A curve over the draws of the data.

    Args:
        name: What it is of: an arm, or a space of modalities.
        at_X: Places on the axis.
        values_WX: Value of every draw at every place, NaN where there is none.
        variant: What tells it from another curve of the same name, shown behind it.
    """

    name: str
    at_X: np.ndarray
    values_WX: np.ndarray
    variant: str = ""


@dataclass(frozen=True, slots=True)
class Guess:
    """What averaging over the noise predicts of one student, and what it did.

    Args:
        arm: Its arm.
        kind: Labels that it learned, hard or soft.
        corrected: Predicted and observed share of the wrong labels.
        corrupted: Predicted and observed share of the right labels.
    """

    arm: str
    kind: str
    corrected: tuple[float, float]
    corrupted: tuple[float, float]


def guesses_picture(guesses: Sequence[Guess]) -> Picture:
    """Draw what averaging labels over the noise predicts against what students did."""
    panels = (("corrected", "of the teacher's wrong labels"), ("corrupted", "of its right ones"))
    with house_style():
        figure = new_figure(4.1, WIDE_IN)
        for axes, (name, words) in zip(figure.subplots(1, 2), panels, strict=True):
            _draw_guesses(axes, guesses, name)
            axes.set_title(f"{name.capitalize()}, {words}")
            axes.set_xlabel("predicted by the average over the noise")
        figure.axes[0].set_ylabel("observed in the student")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9.5
        )
    return style.to_picture(
        figure,
        name="prediction",
        title="Does averaging over neighbours predict the student?",
        alt=f"{len(guesses)} students, predicted against observed shares: "
        + "; ".join(f"{name}, {_fit_words(guesses, name)}" for name, _ in panels),
        note="Every mark is a student of one draw, strength of noise and kind of labels, on the "
        "unlabeled set. The prediction has nothing fitted to it and knows no student: it is the "
        "average of the teacher's labels over the noise. On the line it is exact.",
    )


def gains_picture(curves: Mapping[str, Sequence[Band]]) -> Picture:
    """Draw the gain over the teacher against what may change it.

    Args:
        curves: Bands by ``num_unlabeled``, ``num_labelled``, ``alpha`` (the noise) and ``kind`` (of
            labels, places 0 and 1); panels of which there are none are left out.
    """
    shown = [name for name in _PANELS if curves.get(name)]
    num_rows = -(-len(shown) // 2)
    with house_style():
        figure = new_figure(0.35 + 2.75 * num_rows, WIDE_IN)
        panels = figure.subplots(num_rows, 2, squeeze=False).ravel()
        for axes, name in zip(panels, shown, strict=False):
            _draw_gains(axes, curves[name], is_log=name.startswith("num_"))
            axes.set_xlabel(_AXIS_WORDS[name])
            if name == "kind":
                axes.set_xticks([0, 1], ["hard", "soft"])
                axes.set_xlim(-0.4, 1.4)
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        for axes in panels[::2]:
            axes.set_ylabel("gain over the teacher, points")
        _legend_once(figure)
    return style.to_picture(
        figure,
        name="gains",
        title="What does the gain depend on?",
        alt="; ".join(_band_words(name, band) for name in shown for band in curves[name]),
        note="On the test set, mean and one standard deviation over draws of the data; the teacher "
        "is the line at 0.",
    )


def _draw_guesses(axes: Axes, guesses: Sequence[Guess], name: str) -> None:
    """Draw predicted against observed shares."""
    axes.plot([0, 1], [0, 1], color=style.MUTED, lw=1, ls=(0, (2, 2)), zorder=1)
    groups = sorted({(one.arm, one.kind) for one in guesses})
    for arm, kind in groups:
        pairs = [getattr(one, name) for one in guesses if (one.arm, one.kind) == (arm, kind)]
        x, y = np.asarray(pairs, dtype=float).T
        face = arm_colour(arm) if kind == "hard" else "none"
        axes.plot(
            x,
            y,
            "o" if kind == "hard" else "D",
            ms=5,
            mfc=face,
            mec=arm_colour(arm),
            alpha=0.75,
            label=f"{arm_short(arm)}, {kind} labels",
            zorder=3,
        )
    high = max((max(getattr(one, name)) for one in guesses), default=0.0)
    low = -0.03 * max(high, 0.05)
    axes.set_xlim(low, max(high * 1.06, 0.05))
    axes.set_ylim(low, max(high * 1.06, 0.05))
    axes.text(
        0.97, 0.04, _fit_words(guesses, name), transform=axes.transAxes, ha="right", fontsize=9.5
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    for name_of_axis in ("x", "y"):
        style.percent_axis(axes, name_of_axis)
    axes.set_aspect("equal", adjustable="box")
    axes.grid()
    axes.tick_params(length=0)


def _fit_words(guesses: Sequence[Guess], name: str) -> str:
    """Say how far the prediction is off."""
    pairs_N2 = np.asarray([getattr(one, name) for one in guesses], dtype=float).reshape(-1, 2)
    if not len(pairs_N2):
        return "none"
    off_N = 100 * np.abs(pairs_N2[:, 0] - pairs_N2[:, 1])
    return f"off by {np.median(off_N):.1f} points (mean {off_N.mean():.1f})"


def _draw_gains(axes: Axes, bands: Sequence[Band], *, is_log: bool) -> None:
    """Draw the gains of one panel."""
    axes.axhline(0, color=style.INK, lw=1, ls=(0, (4, 3)), zorder=1)
    for band in bands:
        colour = arm_colour(band.name)
        line = (0, (1.2, 1.2)) if band.variant == "soft" else arm_line(band.name)
        label = arm_short(band.name) + (", soft labels" if band.variant == "soft" else "")
        for draw_X in band.values_WX:
            axes.plot(band.at_X, 100 * draw_X, color=colour, lw=0.5, ls=line, alpha=0.3)
        draw_band(
            axes,
            band.at_X,
            100 * band.values_WX,
            color=colour,
            ls=line,
            lw=1.8,
            marker="o",
            ms=4,
            label=label,
        )
    if is_log:
        style.log_axis(axes)
    axes.grid(axis="y")
    axes.tick_params(length=0)


def _legend_once(figure: Figure) -> None:
    """Name every curve of a figure once, below it."""
    named: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    figure.legend(
        named.values(),
        named.keys(),
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=9.5,
    )


def _band_words(panel: str, band: Band) -> str:
    """Say a curve of gains in words."""
    mean_X = 100 * np.nanmean(band.values_WX, axis=0)
    said = ", ".join(f"{at:g}: {gain:+.1f}" for at, gain in zip(band.at_X, mean_X, strict=True))
    name = f"{arm_short(band.name)} {band.variant}".strip()
    return f"{name} by {_AXIS_WORDS[panel]} {said}"
