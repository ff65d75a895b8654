"""How far confidence can be believed, what refinement did to the labels, and noise: figures."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from mke_ray.evaluation.calibration import Calibration
from mke_ray.evaluation.contribution import Contribution
from mke_ray.evaluation.results import ConfidenceBin
from mke_ray.report import style
from mke_ray.report.content import RefinementRound
from mke_ray.report.style import Picture, arm_colour, house_style, new_figure

_WITNESS_COLOURS = (style.BLUE, style.GREEN, style.PURPLE, style.AMBER)
_NOISE_COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE)
_NOISE_MARKS = ("o", "s", "^", "D")
_LEAST_AREA, _MOST_AREA = 14, 150


def reliability_picture(found: Mapping[str, Calibration]) -> Picture | None:
    """Draw accuracy by confidence, before and after the temperature.

    Args:
        found: Calibration by who is asked, ``teacher`` or an arm.

    Returns:
        None where there is none.
    """
    if not found:
        return None
    with house_style():
        figure = new_figure(3.35, 5.6 if len(found) > 1 else 3.6)
        panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        lowest = min(one.low for c in found.values() for one in c.bins_before + c.bins_after)
        for axes, (who, one) in zip(panels, found.items(), strict=True):
            _draw_reliability(axes, one, colour=arm_colour(who), lowest=lowest)
            axes.set_title("Teacher" if who == "teacher" else "Student")
        panels[0].set_ylabel("share right")
    parts = [
        f"{'teacher' if who == 'teacher' else 'student'} {c.before:.1%} off"
        + (f", {c.after:.1%} at temperature {c.temperature:.2f}" if c.temperature != 1 else "")
        for who, c in found.items()
    ]
    return style.to_picture(
        figure,
        name="reliability",
        title="Can its confidence be believed?",
        alt="Share right by confidence on the test set: " + "; ".join(parts),
        note="Rings: as the network says. Dots: divided by the temperature that was fitted on the "
        "select part of the probe, where one was. On the line, confidence is what it claims; below "
        "it, the network is too sure. The larger, the more answers.",
    )


def refinement_picture(rounds: Sequence[RefinementRound]) -> Picture | None:
    """Draw how much the teacher and each witness counted by round, and what that was worth.

    Returns:
        None of fewer than two rounds, which the table says as well.
    """
    if len(rounds) < 2:
        return None
    number = np.arange(1, len(rounds) + 1)
    voices = {"teacher": [one.teacher for one in rounds]}
    voices |= {f"witness of {n}": [one.witnesses[n] for one in rounds] for n in rounds[0].witnesses}
    likelihoods = [one.log_likelihood for one in rounds]
    known = [one for one in likelihoods if one is not None]
    with house_style():
        figure = new_figure(2.5 if not known else 3.9)
        panels = figure.subplots(2 if known else 1, 1, sharex=True, squeeze=False)[:, 0]
        colours = (style.INK, *_WITNESS_COLOURS)
        for place, (name, values) in enumerate(voices.items()):
            colour = colours[place % len(colours)]
            panels[0].plot(number, values, "o-", color=colour, lw=1.8, ms=5 + 2 * (place == 0))
            _name_end(panels[0], number[-1], values[-1], name, colour, shift=place)
        panels[0].set_title("Exponent: how much each counts")
        panels[0].set_ylim(0, 1.12 * max(max(values) for values in voices.values()) or 1)
        if known:
            panels[1].plot(number, [one or np.nan for one in likelihoods], "o-", color=style.BLUE)
            panels[1].margins(y=0.12)
            panels[1].set_title("Log-likelihood of the true labels of the select part")
        _mark_used(list(panels), rounds)
        panels[-1].set_xlabel("round of witnesses")
        panels[-1].set_xticks(number)
    return style.to_picture(
        figure,
        name="refinement",
        title="Who was listened to?",
        alt="; ".join(
            f"round {n}: teacher {one.teacher:g}, "
            + ", ".join(f"witness of {name} {value:g}" for name, value in one.witnesses.items())
            for n, one in enumerate(rounds, start=1)
        ),
        note="The shaded round is the one whose labels the student learnt. Higher likelihood is "
        "better.",
    )


def noise_picture(found: Contribution, *, teacher: float, metric: str) -> Picture | None:
    """Draw the student as one modality gets noisier, and where that modality is gone.

    Args:
        found: What was measured.
        teacher: The teacher's metric on test, without noise.
        metric: Name of the metric, for the axis.

    Returns:
        None where nothing was put under noise.
    """
    if not found.noisy:
        return None
    levels = sorted({one.level for one in found.noisy})
    ticks = ["none", *(f"{one:g}" for one in levels), "gone"]
    with house_style():
        figure = new_figure(3.3)
        axes = figure.subplots()
        axes.axhline(teacher, color=style.MUTED, lw=1.2, ls=(0, (4, 3)))
        names = list(dict.fromkeys(one.modality for one in found.noisy))
        ends = [*(found.without(name).value for name in names), teacher]
        places = style.spread_labels(ends, gap=0.055 * _span(found, teacher))
        for place, name in enumerate(names):
            colour = _NOISE_COLOURS[place % len(_NOISE_COLOURS)]
            _draw_noise(axes, found, name, colour, _NOISE_MARKS[place % len(_NOISE_MARKS)])
            _name_end(axes, len(ticks) - 1, places[place], name, colour)
        _name_end(axes, len(ticks) - 1, places[-1], "teacher", style.MUTED)
        axes.set_xticks(range(len(ticks)), ticks)
        axes.set_xlim(-0.25, len(ticks) - 0.93)  # no line reaches into the names
        axes.set_xlabel("noise on that modality, in standard deviations of the signal")
        axes.set_ylabel(metric)
        axes.grid(axis="y")
        style.percent_axis(axes, "y")
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
    return style.to_picture(
        figure,
        name="noise",
        title="What if a modality gets worse?",
        alt="; ".join(
            f"{name}: "
            + ", ".join(
                f"noise {one.level:g} {one.result.value:.1%}"
                for one in found.noisy
                if one.modality == name
            )
            + f", gone {found.without(name).value:.1%}"
            for name in names
        ),
        note="The student on the test set with Gaussian noise on one modality, the others as they "
        "are; bars are 95% intervals. At 1 there is as much noise as signal (the spread of the "
        "values of a sample, or of each feature over samples). The dashed line is the teacher "
        "without noise.",
    )


def _draw_reliability(axes: Axes, one: Calibration, *, colour: str, lowest: float) -> None:
    """Draw one diagram."""
    axes.plot([0, 1], [0, 1], color=style.MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
    most = max(b.num for b in one.bins_before)
    _dots(axes, one.bins_before, most, facecolors="none", edgecolors=colour, linewidths=1.3)
    if one.temperature != 1:
        _dots(axes, one.bins_after, most, facecolors=colour, edgecolors=colour, linewidths=1.3)
    axes.set_xlim(max(lowest - 0.05, -0.02), 1.03)
    axes.set_ylim(-0.03, 1.05)
    axes.grid()
    axes.set_xlabel("confidence")
    axes.tick_params(length=0)
    style.percent_axis(axes, "x")
    style.percent_axis(axes, "y")


def _dots(axes: Axes, bins: Sequence[ConfidenceBin], most: int, **drawn: object) -> None:
    """Draw bins as dots as large as they are full, with a line through them."""
    x, y = [one.confidence for one in bins], [one.accuracy for one in bins]
    area = [_LEAST_AREA + (_MOST_AREA - _LEAST_AREA) * one.num / most for one in bins]
    axes.plot(x, y, color=drawn["edgecolors"], lw=1, zorder=2)  # pyright: ignore[reportArgumentType]
    axes.scatter(x, y, s=area, zorder=3, **drawn)  # pyright: ignore[reportArgumentType]


def _draw_noise(axes: Axes, found: Contribution, name: str, colour: str, mark: str) -> None:
    """Draw one modality: whole, under rising noise, gone."""
    rows = [found.whole, *(one.result for one in found.noisy if one.modality == name)]
    rows.append(found.without(name))
    x, y = range(len(rows)), [one.value for one in rows]
    axes.plot(x, y, color=colour, lw=1.8, marker=mark, ms=5.5, zorder=3)
    for place, one in enumerate(rows):
        if one.ci95 is not None:
            axes.plot([place, place], list(one.ci95), color=colour, lw=1.2, alpha=0.5, zorder=2)


def _span(found: Contribution, teacher: float) -> float:
    """Return how far the values of a figure are apart."""
    values = [teacher, found.whole.value, *(one.value for one in found.parts)]
    values += [one.result.value for one in found.noisy]
    return max(max(values) - min(values), 0.02)


def _name_end(axes: Axes, x: float, y: float, name: str, colour: str, *, shift: int = 0) -> None:
    """Write a name behind the end of a line; equal ends stand below each other."""
    axes.annotate(
        name.replace("_", " "),
        (x, y),
        xytext=(8, -12 * shift),
        textcoords="offset points",
        color=colour,
        va="center",
        fontsize=9.5,
        annotation_clip=False,
    )


def _mark_used(panels: Sequence[Axes], rounds: Sequence[RefinementRound]) -> None:
    """Shade the round that counts."""
    for axes in panels:
        for number, one in enumerate(rounds, start=1):
            if one.is_used:
                axes.axvspan(number - 0.3, number + 0.3, color=style.GRID, alpha=0.6, lw=0)
        axes.grid(axis="y")
        axes.tick_params(length=0)
