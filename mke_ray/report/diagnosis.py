"""Where the student gains: its figures, and what metrics.json says of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mke_ray.evaluation.diagnosis import ConfidenceFlow, Diagnosis
from mke_ray.evaluation.results import Flow
from mke_ray.report import style
from mke_ray.report.style import Picture, arm_colour, arm_line, house_style, new_figure

MOST_CLASSES = 24  # shown; of more, those with the largest changes

_MAX_NAME = 22
_LABEL_GAP = 0.09  # of the height of an axis: no line of text covers the next


def diagnosis_dict(found: Diagnosis | None, classes: Sequence[str]) -> dict[str, Any] | None:
    """Return a diagnosis as plain data, None where there is none."""
    if found is None:
        return None
    return {
        "by_class": {
            name: _plain(flow) for name, flow in zip(classes, found.by_class, strict=True)
        },
        "by_confidence": [
            {"low": one.low, "high": one.high, **_plain(one.flow)} for one in found.by_confidence
        ],
    }


def diagnosis_pictures(
    found: Diagnosis | None, classes: Sequence[str], *, arm: str
) -> dict[str, Picture]:
    """Draw a diagnosis.

    Args:
        found: The diagnosis; None draws nothing.
        classes: Names of the classes.
        arm: The student's arm.
    """
    if found is None:
        return {}
    return {
        "by_confidence": confidence_picture(found.by_confidence, arm=arm),
        "by_class": class_picture(found.by_class, classes),
    }


def confidence_picture(bins: Sequence[ConfidenceFlow], *, arm: str) -> Picture:
    """Draw how often teacher and student are right, by the confidence of the teacher."""
    middle = np.asarray([(one.low + one.high) / 2 for one in bins])
    teacher = np.asarray([one.flow.num_right / one.flow.num for one in bins])
    student = np.asarray([_num_right_now(one.flow) / one.flow.num for one in bins])
    share = np.asarray([one.flow.num for one in bins]) / sum(one.flow.num for one in bins)
    with house_style():
        figure = new_figure(3.4)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        for values, name, label in ((teacher, "teacher", "Teacher"), (student, arm, "Student")):
            above.plot(
                middle, values, color=arm_colour(name), ls=arm_line(name), lw=2, marker="o", ms=5
            )
            above.text(
                middle[-1] + 0.02, values[-1], label, color=arm_colour(name), weight="bold",
                va="center",
            )  # fmt: skip
        above.set_ylabel("share right")
        above.set_ylim(min(teacher.min(), student.min(), 0.9) - 0.08, 1.04)
        _part_labels(above, student[-1], teacher[-1])
        below.bar(middle, share, width=0.085, color=style.SLATE)
        below.set_ylabel("answers")
        below.set_xlabel("confidence of the teacher")
        below.set_xlim(max(bins[0].low - 0.02, 0.0), 1.14)
        for axes in (above, below):
            style.percent_axis(axes, "y")
            axes.grid(axis="y")
        below.set_xticks([tick for tick in below.get_xticks() if tick <= 1.0])  # names stand behind
        style.percent_axis(below, "x")
    return style.to_picture(
        figure,
        name="by_confidence",
        title="Where is the gain: where the teacher was unsure, or everywhere?",
        alt="; ".join(
            f"teacher {one.low:.0%} to {one.high:.0%} sure: right {right:.0%}, student {now:.0%}"
            for one, right, now in zip(bins, teacher, student, strict=True)
        ),
        note="Test set. Below: how many of the answers the teacher gave with that confidence.",
    )


def class_picture(flows: Sequence[Flow], classes: Sequence[str]) -> Picture:
    """Draw what was corrected and corrupted of every class, the largest net gain first."""
    shown = _shown_classes(flows)
    corrected = [flows[one].num_corrected / flows[one].num for one in shown]
    corrupted = [flows[one].num_corrupted / flows[one].num for one in shown]
    span = max(max(corrected, default=0) + max(corrupted, default=0), 0.01)
    with house_style():
        figure = new_figure(0.9 + 0.3 * len(shown))
        axes = figure.subplots()
        rows = range(len(shown))
        axes.barh(rows, corrected, height=0.62, color=style.BLUE)
        axes.barh(rows, [-one for one in corrupted], height=0.62, color=style.ORANGE)
        axes.vlines(0, -0.6, len(shown) - 0.4, color=style.INK, lw=1)
        for row, (plus, minus) in enumerate(zip(corrected, corrupted, strict=True)):
            net = f"{100 * (plus - minus):+.0f}"
            axes.text(plus + 0.02 * span, row, net, color=style.INK, va="center", size=9.5)
        axes.set_yticks(list(rows), [_short(classes[one]) for one in shown])
        axes.tick_params(axis="y", length=0, labelcolor=style.INK)
        axes.text(0.01 * span, -1.1, "corrected →", color=style.BLUE, weight="bold", va="center")
        axes.text(
            -0.01 * span, -1.1, "← corrupted", color=style.ORANGE, weight="bold", va="center",
            ha="right",
        )  # fmt: skip
        most = max(corrupted, default=0)
        axes.set_xlim(-max(most, 0.3 * span) - 0.06 * span, max(corrected, default=0) + 0.16 * span)
        axes.set_ylim(len(shown) - 0.4, -1.6)
        axes.xaxis.set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
    left_out = len(flows) - len(shown)
    more = f" {left_out} classes that changed less are left out." if left_out else ""
    return style.to_picture(
        figure,
        name="by_class",
        title="Which classes gain?",
        alt="; ".join(
            f"{classes[one]}: {plus:.0%} of its answers corrected, {minus:.0%} corrupted"
            for one, plus, minus in zip(shown, corrected, corrupted, strict=True)
        ),
        note="Test set: share of the answers of a class that the teacher had wrong and the student "
        f"right, and the other way round. The number is the gain in points.{more}",
    )


def _plain(flow: Flow) -> dict[str, float]:
    """Return a flow as plain data."""
    return {
        "num": flow.num,
        "teacher": flow.num_right / flow.num if flow.num else float("nan"),
        "student": _num_right_now(flow) / flow.num if flow.num else float("nan"),
        "corrected": flow.num_corrected,
        "corrupted": flow.num_corrupted,
    }


def _num_right_now(flow: Flow) -> float:
    """Return how many answers of the student are right."""
    return flow.num_right + flow.num_corrected - flow.num_corrupted


def _shown_classes(flows: Sequence[Flow]) -> list[int]:
    """Return the classes to show, the largest net gain first."""
    known = [number for number, one in enumerate(flows) if one.num]
    net = {
        one: (flows[one].num_corrected - flows[one].num_corrupted) / flows[one].num for one in known
    }
    largest = sorted(known, key=lambda one: -abs(net[one]))[:MOST_CLASSES]
    return sorted(largest, key=lambda one: -net[one])


def _short(name: str) -> str:
    """Return a name of bounded length."""
    return name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"


def _part_labels(axes: Axes, student: float, teacher: float) -> None:
    """Move two labels at the right apart where they would cover each other."""
    gap, texts = _LABEL_GAP * float(np.ptp(axes.get_ylim())), axes.texts
    if abs(student - teacher) >= gap:
        return
    centre, sign = (student + teacher) / 2, 1 if student >= teacher else -1
    texts[0].set_y(centre - sign * gap / 2)
    texts[1].set_y(centre + sign * gap / 2)
