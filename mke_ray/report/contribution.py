"""What each modality is worth to the student: as plain data, as a sentence and as a figure."""

from typing import Any

from matplotlib.axes import Axes

from mke_ray.evaluation.contribution import Contribution, SeenResult
from mke_ray.report import style
from mke_ray.report.style import Picture, arm_title, house_style, new_figure

_NO_GAPS = "It never missed a modality in training, so that one that is hidden is new to it."


def contribution_numbers(found: Contribution | None) -> dict[str, Any] | None:
    """Return ``contribution`` of ``metrics.json``, None where nothing was hidden.

    Of each modality there is what the student reaches without it and with it alone, and what is
    ``lost`` by hiding it.
    """
    if found is None:
        return None
    return {
        "arm": found.arm,
        "value": found.whole.value,
        "ci95": _ends(found.whole.ci95),
        "trained_with_gaps": found.knows_gaps,
        "modalities": {
            name: {
                "without": found.without(name).value,
                "without_ci95": _ends(found.without(name).ci95),
                "lost": -found.without(name).change,
                "lost_ci95": _lost_ends(found.without(name)),
                "alone": found.alone(name).value,
                "alone_ci95": _ends(found.alone(name).ci95),
            }
            for name in found.modalities
        },
    }


def contribution_line(found: Contribution | None) -> str:
    """Return what each modality is worth, "" where nothing was hidden."""
    if found is None:
        return ""
    parts = []
    for name in found.modalities:
        hidden = found.without(name)
        parts.append(f"without {name} {hidden.value:.1%} ({100 * hidden.change:+.1f} points)")
    said = f"With all modalities the student reaches {found.whole.value:.1%}, {', '.join(parts)}"
    if len(found.modalities) > 2:
        alone = [f"{name} {found.alone(name).value:.1%}" for name in found.modalities]
        said += f"; with one alone: {', '.join(alone)}"
    return f"{said}." + ("" if found.knows_gaps else f" {_NO_GAPS}")


def contribution_picture(found: Contribution, *, teacher: float, metric: str) -> Picture:
    """Draw the student with all modalities and with fewer, the teacher as a line.

    Args:
        found: What was measured.
        teacher: The teacher's metric on test.
        metric: Name of the metric, for the axis.
    """
    rows = [found.whole, *found.parts]
    with house_style():
        figure = new_figure(0.95 + 0.46 * len(rows))
        axes = figure.subplots()
        style.named_line(axes, teacher, "teacher")
        for row, one in enumerate(rows):
            _draw_row(axes, row, one, whole=found.whole)
        axes.set_yticks(range(len(rows)), [shown_title(one, found) for one in rows])
        axes.set_ylim(len(rows) - 0.5, -0.7)
        _room(axes, rows, teacher)
        axes.set_xlabel(f"{metric} on the test set, with 95% intervals")
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        axes.tick_params(axis="y", labelcolor=style.INK)
        axes.get_yticklabels()[0].set(color=style.BLUE, fontweight="bold")
        style.percent_axis(axes, "x")
    note = (
        f"{arm_title(found.arm)}, the network that the gate judged: with every modality, and with "
        "some hidden from it. At the right: its value, and the change in points that hiding "
        "brings. The dashed line is the teacher."
    )
    return style.to_picture(
        figure,
        name="contribution",
        title="What is each modality worth?",
        alt=f"{metric} on the test set: "
        + "; ".join(f"{shown_title(one, found)} {one.value:.1%}" for one in rows),
        note=note if found.knows_gaps else f"{note} {_NO_GAPS}",
    )


def shown_title(one: SeenResult, found: Contribution) -> str:
    """Return what a student was shown, for a person."""
    names = [_spoken(name) for name in one.modalities]
    if len(names) == len(found.modalities):
        title = "all modalities" if len(names) > 2 else " and ".join(names)
    elif len(names) == 1:
        title = f"{names[0]} alone"
    else:
        hidden = next(name for name in found.modalities if name not in one.modalities)
        title = f"without {_spoken(hidden)}"
    return title[:1].upper() + title[1:]


def _spoken(modality: str) -> str:
    """Return the name of a modality for a person."""
    return "RGB" if modality == "rgb" else modality.replace("_", " ")


def _draw_row(axes: Axes, row: int, one: SeenResult, *, whole: SeenResult) -> None:
    """Draw one student: interval, value, and the line from the student that sees all."""
    is_whole = one is whole
    colour = style.BLUE if is_whole else style.ORANGE
    if not is_whole:
        both = [one.value, whole.value]
        axes.plot(both, [row, row], color=style.GRID, lw=5, solid_capstyle="butt", zorder=1)
    low, high = one.ci95 or (one.value, one.value)
    axes.plot([low, high], [row, row], color=colour, lw=2.4, solid_capstyle="round", zorder=2)
    axes.plot([one.value], [row], "o", ms=8.5 if is_whole else 7, color=colour, zorder=4)
    _write(axes, row, f"{one.value:.1%}", right_pt=46)
    if not is_whole:
        _write(axes, row, f"{100 * one.change:+.1f}", right_pt=88, color=colour)


def _write(axes: Axes, row: float, text: str, *, right_pt: float, color: str = style.INK) -> None:
    """Write in a column beside the axes that ends so many points to their right."""
    axes.annotate(
        text,
        (1.0, row),
        xycoords=("axes fraction", "data"),
        xytext=(right_pt, 0),
        textcoords="offset points",
        ha="right",
        va="center_baseline",
        color=color,
        annotation_clip=False,
    )


def _room(axes: Axes, rows: list[SeenResult], teacher: float) -> None:
    """Leave a little room on both sides of what is drawn."""
    ends = [one.ci95 or (one.value, one.value) for one in rows]
    low, high = min(teacher, *(end[0] for end in ends)), max(teacher, *(end[1] for end in ends))
    span = max(high - low, 0.02)
    axes.set_xlim(low - 0.06 * span, high + 0.06 * span)


def _ends(ends: tuple[float, float] | None) -> list[float] | None:
    """Return an interval as plain data."""
    return None if ends is None else list(ends)


def _lost_ends(hidden: SeenResult) -> list[float] | None:
    """Return the interval of what is lost, the change the other way round."""
    if hidden.change_ci95 is None:
        return None
    low, high = hidden.change_ci95
    return [-high, -low]
