"""The figures of the synthetic study: what sharing gives, and which channels to keep."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mke_ray.focus.dots import WIDE_IN, Dot, draw_dots, name_rows
from mke_ray.focus.gaussian import (
    ALPHA,
    CHANNELS,
    GAMMA,
    GENERAL,
    NO_KD,
    RANDOM,
    RANKED,
    REGULAR,
    SPECIFIC,
    TEACHER,
)
from mke_ray.focus.gaussian_summary import ARM_WORDS
from mke_ray.report import style
from mke_ray.report.style import Picture, house_style, new_figure, to_picture

ARM_COLOURS = {
    GENERAL: style.BLUE,
    RANKED: style.BLUE,
    REGULAR: style.INK,
    RANDOM: style.SLATE,
    SPECIFIC: style.RED,
    NO_KD: style.ORANGE,
}
_ROWS = (GENERAL, RANKED, REGULAR, NO_KD, RANDOM, SPECIFIC)
_LEAST_APART = 0.12  # of the width; numbers of nearer dots stand on different sides of the line
_AXIS_WORDS = {
    GAMMA: "gamma: share of the decisive features that both have",
    ALPHA: "alpha: share that the teacher alone has",
}


def gaussian_pictures(summary: Mapping[str, Any]) -> list[Picture]:
    """Return the figures that there are numbers for."""
    drawn = [_channels_picture(summary[CHANNELS])] if summary[CHANNELS] else []
    shown = [name for name in (GAMMA, ALPHA) if len(summary[name]) > 1]
    return [*drawn, *([_sharing_picture(summary, shown)] if shown else [])]


def _channels_picture(settings: Sequence[Mapping[str, Any]]) -> Picture:
    """Draw the student by which channels its teacher has, against a teacher of all channels."""
    with house_style():
        figure = new_figure(3.0, WIDE_IN)
        figure.set_layout_engine("constrained", wspace=0.06)
        panels = figure.subplots(1, len(settings), sharey=True, squeeze=False)[0]
        rows = [_dots(setting) for setting in settings]
        every = [dot for dots in rows for dot in dots]
        for axes, dots, setting in zip(panels, rows, settings, strict=True):
            title = f"gamma = {setting['at']:.2f}"
            draw_dots(axes, dots, title=title, beside="teacher", scale=every)
        name_rows(panels[0], rows[0])
        figure.supxlabel("student, points over one of a teacher of all channels", fontsize=10)
    return to_picture(
        figure,
        name="channels",
        title="Which channels should the teacher keep?",
        alt="; ".join(
            f"gamma {one['at']:.2f}: "
            + ", ".join(
                f"{ARM_WORDS[name]} {100 * one['arms'][name]['over_regular']['mean']:+z.1f}"
                for name in _ROWS
            )
            for one in settings
        ),
        note="Mean over seeds with its 95% interval, paired with the student of a teacher of all "
        "channels (the line at 0). At the right of each panel the accuracy of the teacher "
        "itself: the best teacher is not the best to learn from.",
    )


def _dots(setting: Mapping[str, Any]) -> list[Dot]:
    """Return a row per arm of a setting."""
    return [
        Dot(
            ARM_WORDS[name],
            ARM_COLOURS[name],
            one["over_regular"],
            "" if one["teacher"] is None else f"{100 * one['teacher']['mean']:.0f}%",
            is_hollow=name == RANKED,
        )
        for name, one in ((name, setting["arms"][name]) for name in _ROWS)
    ]


def _sharing_picture(summary: Mapping[str, Any], shown: Sequence[str]) -> Picture:
    """Draw the gain by distillation, and the accuracy of teacher and students below it."""
    with house_style():
        figure = new_figure(4.6, WIDE_IN)
        panels = figure.subplots(
            2, len(shown), sharex="col", sharey="row", squeeze=False, height_ratios=(3, 2)
        )
        for column, name in enumerate(shown):
            _draw_gain(panels[0, column], summary[name])
            _draw_accuracy(panels[1, column], summary[name])
            panels[1, column].set_xlabel(_AXIS_WORDS[name])
        panels[0, 0].set_ylabel("gain by distillation, points")
        panels[1, 0].set_ylabel("accuracy")
        handles, labels = panels[1, 0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9.5
        )
    return to_picture(
        figure,
        name="sharing",
        title="When does distillation between modalities help?",
        alt="; ".join(
            f"{name}: " + ", ".join(f"{s['at']:.2f} {100 * s['gain']['mean']:+z.1f}" for s in some)
            for name, some in ((name, summary[name]) for name in shown)
        ),
        note="Above: the distilled student over one of the labels alone, mean over seeds with its "
        "95% interval. Below: how good teacher and students are. What is shared decides, not how "
        "good the teacher is.",
    )


def _draw_gain(axes: Axes, settings: Sequence[Mapping[str, Any]]) -> None:
    """Draw the gain by distillation over what is shared."""
    at = [one["at"] for one in settings]
    mean = np.asarray([100 * one["gain"]["mean"] for one in settings])
    ends = [one["gain"]["ci95"] or [one["gain"]["mean"]] * 2 for one in settings]
    low, high = 100 * np.asarray(ends).T
    axes.axhline(0, color=style.INK, lw=1, ls=(0, (4, 3)), zorder=1)
    axes.fill_between(at, low, high, color=style.BLUE, alpha=0.15, lw=0)
    axes.plot(at, mean, "-o", color=style.BLUE, lw=2, ms=5)
    _write_gains(axes, at, mean)
    axes.margins(x=0.08, y=0.14)
    axes.grid(axis="y")
    axes.tick_params(length=0)


def _write_gains(axes: Axes, at: Sequence[float], gains: Sequence[float] | np.ndarray) -> None:
    """Write gains at their dots, away from the line at 0, and from a near neighbour's number."""
    least = _LEAST_APART * (max(at) - min(at))
    side, last = 0, -np.inf
    for x, gain in zip(at, gains, strict=True):
        wanted = 1 if gain >= 0 else -1
        side, last = -side if side and x - last < least else wanted, x
        axes.annotate(
            f"{gain:+.1f}".replace("-0.0", "0.0").replace("-", "\N{MINUS SIGN}"),
            (x, gain),
            xytext=(0, 6 * side),
            textcoords="offset points",
            ha="center",
            va="bottom" if side > 0 else "top",
            fontsize=9,
            color=style.BLUE,
        )


def _draw_accuracy(axes: Axes, settings: Sequence[Mapping[str, Any]]) -> None:
    """Draw the accuracy of teacher and students."""
    at = [one["at"] for one in settings]
    looks = (
        (TEACHER, "teacher", style.INK, (0, (4, 1.6))),
        (REGULAR, "distilled student", style.BLUE, "-"),
        (NO_KD, "student without distillation", style.ORANGE, (0, (1.2, 1.2))),
    )
    for name, words, colour, line in looks:
        values = [one[name]["mean"] for one in settings]
        axes.plot(at, values, marker=".", color=colour, ls=line, lw=1.8, label=words)
    style.percent_axis(axes, "y")
    axes.grid(axis="y")
    axes.tick_params(length=0)
