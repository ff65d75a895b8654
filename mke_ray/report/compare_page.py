"""The page of a comparison of runs, its figures, compare.json, and the table on the terminal."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mke_ray.report import style
from mke_ray.report.comparing import DRAWS, Comparison, Difference
from mke_ray.report.content import metric_word
from mke_ray.report.page import first_upper
from mke_ray.report.study_page import study_page, write_study
from mke_ray.report.style import Picture, arm_title, house_style, new_figure
from mke_ray.report.terminal import VERDICT_WORDS, percent, percent_range, points_range
from mke_ray.storage import Root

JSON_NAME = "compare.json"

_COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE, style.RED, style.SLATE)
_MARKS = ("o", "s", "^", "D", "v", "P")
_MAX_VALUE = 60


def write_comparison(folder: Root, found: Comparison) -> str:
    """Write compare.json, figures, and index.html last.

    Args:
        folder: Folder of the comparison.
        found: What was found.

    Returns:
        Path or URI of the page.
    """
    pictures = comparison_pictures(found)
    page = study_page(
        "mke_ray.report",
        "compare.html.j2",
        filters={
            "arm_title": arm_title,
            "percent": percent,
            "percent_range": percent_range,
            "points_range": points_range,
            "setting": _setting,
        },
        found=found,
        said=comparison_words(found),
        intervals=interval_words(found),
        shared=shared_words(found),
        metric=first_upper(metric_word(found.metric)),
        pictures=pictures,
        verdicts=VERDICT_WORDS,
        is_draws=found.kind == DRAWS,
    )
    plain = comparison_dict(found)
    return write_study(folder, name=JSON_NAME, plain=plain, pictures=pictures, page=page)


def comparison_dict(found: Comparison) -> dict[str, Any]:
    """Return a comparison as plain data."""
    return {
        "kind": found.kind,
        "metric": found.metric,
        "said": comparison_words(found),
        "num_common": found.num_common,
        "num_groups": found.num_groups,
        "shared": found.shared,
        "runs": [
            {
                "name": name,
                "root": one.uri,
                "seed": one.content.seed,
                "data_seed": one.content.drawn.get("data_seed"),
                "verdict": one.content.decision.verdict,
                "judged": one.content.shipped,
                "arms": {
                    arm: {
                        "value": result.value,
                        "ci95": result.ci95,
                        "gain": result.gain,
                        "gain_ci95": result.gain_ci95,
                    }
                    for arm, result in one.content.evaluation.arms.items()
                },
            }
            for name, one in zip(found.names, found.runs, strict=True)
        ],
        "differences": [
            {**asdict(one), "run": found.names[one.run], "against": found.names[0]}
            for one in found.differences
        ],
        "spreads": [asdict(one) for one in found.spreads],
        "settings": {key: list(values) for key, values in found.settings.items()},
    }


def comparison_words(found: Comparison) -> str:
    """Return what comes out, in one sentence."""
    shipped = found.runs[0].content.shipped
    if found.kind == DRAWS:
        one = next((one for one in found.spreads if one.arm == shipped), None)
        if one is None:
            return f"{len(found.runs)} draws of the data; they have no student in common."
        ends, rest = one.gain_ci95, "; this says nothing of other samples"
        interval = f" (95% interval of the mean {points_range(ends)})" if ends else ""
        return (
            f"Over {one.num} draws of the data{shared_words(found)} {arm_title(shipped)} gains "
            f"{100 * one.gain:+.1f} points over its teacher{interval}, and is better in "
            f"{one.above:.0%} of them{rest if found.shares_samples else ''}."
        )
    mine = [one for one in found.differences if one.arm == shipped]
    if not mine:
        return f"The runs have no student in common on {found.num_common:,} test samples."
    best = max(mine, key=lambda one: one.difference)
    name = found.names[best.run]
    if len(mine) == 1:
        said = f"{name} against {found.names[0]}"
    else:
        said = f"The best of the others, {name}, against {found.names[0]}"
    return f"{said}: {arm_title(shipped)} {_difference_words(best, interval_words(found))}."


def shared_words(found: Comparison) -> str:
    """Return how far draws have the same test samples, nothing where each has its own."""
    if not found.shares_samples:
        return ""
    if all(len(one.scores) == found.num_common for one in found.runs):
        return f" on the same {found.num_common:,} test samples"
    return f", of whose test samples up to {found.shared:.0%} are the same in two of them,"


def interval_words(found: Comparison) -> str:
    """Return what the intervals of the differences are, in the singular where there is one."""
    num = len(found.runs) - 1
    return "95% interval" if num == 1 else f"simultaneous 95% intervals over {num} comparisons"


def comparison_pictures(found: Comparison) -> list[Picture]:
    """Return the figures of a comparison."""
    drawn = [_arms_picture(found)]
    if found.differences:
        drawn.append(_differences_picture(found))
    return drawn


def comparison_terminal(found: Comparison) -> Group:
    """Return what the terminal shows."""
    table = Table(box=None, pad_edge=False)
    table.add_column("arm", no_wrap=True)
    for name in found.names:
        table.add_column(name, justify="right")
    for arm in found.arms:
        cells = [_cell(one.content.evaluation.arms.get(arm)) for one in found.runs]
        table.add_row(arm_title(arm), *cells)
    lines = [
        f"{found.names[one.run]} against {found.names[0]}, {arm_title(one.arm)}: "
        f"{100 * one.difference:+.1f} points ({points_range(one.ci95)})"
        for one in found.differences
    ]
    return Group(table, *map(Text, [comparison_words(found), *lines]))


def _cell(result: Any) -> str:
    """Return an arm of a run for the terminal."""
    return "-" if result is None else f"{result.value:.1%} ({percent_range(result.ci95)})"


def _difference_words(one: Difference, intervals: str) -> str:
    """Return a difference and whether it is certain, by intervals of this name."""
    said = f"{100 * one.difference:+.1f} points on the same test samples"
    if one.ci95 is None:
        return said
    low, high = one.ci95
    sure = "better" if low > 0 else "worse" if high < 0 else "which may be chance"
    return f"{said} ({intervals}: {points_range(one.ci95)}), {sure}"


def _arms_picture(found: Comparison) -> Picture:
    """Draw every arm of every run with its interval."""
    arms, num = found.arms, len(found.runs)
    with house_style():
        figure = new_figure(1.3 + len(arms) * (0.22 + 0.17 * num) + 0.2 * (num // 3))
        axes = figure.subplots()
        marks = []
        for number, one in enumerate(found.runs):
            rows, results = _placed(one.content.evaluation.arms, arms, number, num)
            marks.append(_draw_run(axes, rows, results, number))
        _finish(axes, [arm_title(arm) for arm in arms], marks, found.names)
        axes.set_xlabel(f"{first_upper(metric_word(found.metric))} on the run's test set")
        style.percent_axis(axes, "x")
    return style.to_picture(
        figure,
        name="compared_arms",
        title="How good is each arm of each run?",
        alt="; ".join(
            f"{name}: "
            + ", ".join(f"{arm_title(a)} {r.value:.1%}" for a, r in _results(one).items())
            for name, one in zip(found.names, found.runs, strict=True)
        ),
        note="Lines are 95% intervals over groups of test samples. Whether two runs differ is told "
        "by paired differences, not by whether these overlap.",
    )


def _differences_picture(found: Comparison) -> Picture:
    """Draw every run against the first, arm by arm."""
    arms = list(dict.fromkeys(one.arm for one in found.differences))
    num = len(found.runs) - 1
    with house_style():
        figure = new_figure(1.3 + len(arms) * (0.22 + 0.17 * num) + 0.2 * (num // 3))
        axes = figure.subplots()
        axes.axvline(0, color=style.INK, lw=1)
        marks = []
        for number in range(num):
            mine = {one.arm: one for one in found.differences if one.run == number + 1}
            rows, results = _placed(mine, arms, number, num)
            marks.append(_draw_run(axes, rows, results, number + 1))
        _finish(axes, [arm_title(arm) for arm in arms], marks, found.names[1:])
        axes.set_xlabel(f"difference to {found.names[0]} on the same test samples")
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:+.3g}" if value else "0")
    return style.to_picture(
        figure,
        name="compared_differences",
        title=f"How far is each run from {found.names[0]}?",
        alt="; ".join(
            f"{found.names[one.run]} {arm_title(one.arm)} {100 * one.difference:+.1f} points "
            f"({points_range(one.ci95)})"
            for one in found.differences
        ),
        note=f"In points, paired sample by sample on {found.num_common:,} test samples of "
        f"{found.num_groups:,} groups, with {interval_words(found)} by group. "
        "Right of the line is better.",
    )


def _results(run: Any) -> dict[str, Any]:
    """Return the arms of a run."""
    return dict(run.content.evaluation.arms)


def _placed(
    results: Any, arms: Sequence[str], number: int, num: int
) -> tuple[list[float], list[Any]]:
    """Return the heights of a run's dots, and what they show."""
    shift = (number - (num - 1) / 2) * min(0.2, 0.72 / num)
    there = [(row + shift, results[arm]) for row, arm in enumerate(arms) if arm in results]
    return [row for row, _ in there], [one for _, one in there]


def _draw_run(axes: Axes, rows: Sequence[float], results: Sequence[Any], number: int) -> Line2D:
    """Draw the dots of a run and their intervals; return the dots for the legend."""
    colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
    for row, one in zip(rows, results, strict=True):
        if one.ci95 is not None:
            axes.plot(list(one.ci95), [row, row], color=colour, lw=1.8, solid_capstyle="round")
    values = [one.difference if isinstance(one, Difference) else one.value for one in results]
    return axes.plot(values, rows, mark, color=colour, ms=6, ls="none")[0]


def _finish(
    axes: Axes, titles: Sequence[str], marks: Sequence[Line2D], names: Sequence[str]
) -> None:
    """Name the rows, and the runs above them."""
    axes.set_yticks(range(len(titles)), titles)
    axes.set_ylim(len(titles) - 0.5, -0.5)
    for edge in np.arange(0.5, len(titles) - 1):
        axes.axhline(edge, color=style.GRID, lw=0.8)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", labelcolor=style.INK)
    figure = axes.get_figure()
    if figure is not None:
        look = {"loc": "outside upper center", "frameon": False, "fontsize": 9.5}
        legend = figure.legend(marks, [" "] * len(names), ncols=min(len(names), 3), **look)
        for text, name in zip(legend.get_texts(), names, strict=True):
            text.set_text(name)  # a label that begins with _ would be left out


def _setting(value: Any) -> str:
    """Return a value of the configuration of bounded length."""
    text = "-" if value is None else str(value)
    return text if len(text) <= _MAX_VALUE else f"{text[: _MAX_VALUE - 1]}…"
