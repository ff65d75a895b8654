"""The figures of distillation on features: whose labels, which channels, and how unequal these."""

# W draws of the data, D channels.

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mke_ray.focus.channels import num_kept_of
from mke_ray.focus.distilling import (
    ALL,
    GENERAL,
    NO_KD,
    RANDOM,
    SPECIFIC,
)
from mke_ray.focus.distilling_summary import ARM_WORDS
from mke_ray.focus.dots import WIDE_IN, Dot, draw_dots, name_rows
from mke_ray.focus.draw import TEACHERS
from mke_ray.focus.keys import CROSSMODAL, MULTIMODAL, UNIMODAL
from mke_ray.report import style
from mke_ray.report.style import Picture, house_style, new_figure, to_picture

ARM_COLOURS = {
    NO_KD: style.INK,
    UNIMODAL: style.ORANGE,
    CROSSMODAL: style.PURPLE,
    MULTIMODAL: style.GREEN,
    ALL: style.INK,
    GENERAL: style.BLUE,
    RANDOM: style.SLATE,
    SPECIFIC: style.RED,
}
_CHOICE_ROWS = (GENERAL, ALL, RANDOM, SPECIFIC)


def distilling_pictures(
    summary: Mapping[str, Any], records: Sequence[Mapping[str, Any]], *, kept: float
) -> list[Picture]:
    """Return the figures.

    Args:
        summary: See ``mke_ray.focus.distilling_summary``.
        records: What was found of every draw.
        kept: Share of the channels that the chosen teachers keep.
    """
    return [_arms_picture(summary), _saliency_picture(records, kept)]


def _arms_picture(summary: Mapping[str, Any]) -> Picture:
    """Draw what students gained by whose labels they learned."""
    arms = summary["arms"]
    panels = (
        ("Whose labels", (NO_KD, *TEACHERS), "over_no_kd", "points over no distillation"),
        ("Which channels", _CHOICE_ROWS, "over_all_channels", "points over all channels"),
    )
    with house_style():
        figure = new_figure(2.7, WIDE_IN)
        for axes, (title, names, key, words) in zip(figure.subplots(1, 2), panels, strict=True):
            dots = [
                Dot(ARM_WORDS[name], ARM_COLOURS[name], arms[name][key], _teacher(arms[name]))
                for name in names
            ]
            draw_dots(axes, dots, title=title, beside="teacher")
            name_rows(axes, dots)
            axes.set_xlabel(f"student, {words}")
    return to_picture(
        figure,
        name="arms",
        title="Whose labels, and which channels, help the student?",
        alt="; ".join(
            f"{ARM_WORDS[name]} {100 * arms[name][key]['mean']:+z.1f} {words}"
            for _, names, key, words in panels
            for name in names
        ),
        note="Mean over draws of the data with its 95% interval, paired. At the right of each "
        "panel the accuracy of the teacher itself. Chosen teachers keep equally many channels, and "
        "their later layers were trained on these.",
    )


def _teacher(arm: Mapping[str, Any]) -> str:
    """Return the accuracy of a teacher, nothing where there is none."""
    return "" if arm["teacher"] is None else f"{100 * arm['teacher']['mean']:.0f}%"


def _saliency_picture(records: Sequence[Mapping[str, Any]], kept: float) -> Picture:
    """Draw how unequal the channels are, sorted."""
    sorted_WD = np.sort(np.asarray([one["saliency"] for one in records], dtype=float))[:, ::-1]
    num = sorted_WD.shape[1]
    with house_style():
        figure = new_figure(2.6)
        axes = figure.subplots()
        for draw_D in sorted_WD:
            axes.plot(range(1, num + 1), draw_D, color=style.BLUE, lw=0.6, alpha=0.35)
        axes.plot(range(1, num + 1), sorted_WD.mean(axis=0), color=style.BLUE, lw=2)
        cut = num_kept_of(num, kept) + 0.5
        axes.axvline(cut, color=style.INK, lw=1, ls=(0, (4, 3)))
        for x, words, ha in ((cut - 1, "kept as general", "right"), (cut + 1, "left out", "left")):
            axes.annotate(words, (x, 0.94), ha=ha, va="top", fontsize=9, color=style.MUTED)
        axes.set_xlabel("channels of the teacher, the most modality-general first")
        axes.set_ylabel("saliency")
        axes.set_ylim(-0.02, 1.04)
        axes.grid(axis="y")
        axes.tick_params(length=0)
    return to_picture(
        figure,
        name="saliency",
        title="How much do channels differ?",
        alt=f"saliency of {num} channels, sorted, of {len(records)} draws; the median channel has "
        f"{float(np.median(sorted_WD)):.2f}",
        note="Algorithm 1: how far the teacher moves away from the student when a channel is "
        "permuted, between the least (0) and the largest (1) of a draw. Thin: single draws.",
    )
