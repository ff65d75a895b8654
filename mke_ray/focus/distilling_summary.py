"""Distillation on features joined over draws: spreads, paired differences, sentences, tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mke_ray.focus.distilling import (
    ALL,
    ARMS,
    CHOICES,
    GENERAL,
    NO_KD,
    RANDOM,
    SPECIFIC,
)
from mke_ray.focus.draw import TEACHERS
from mke_ray.focus.keys import CROSSMODAL, MULTIMODAL, UNIMODAL
from mke_ray.focus.page import PageTable, interval, percent, points
from mke_ray.focus.spreads import paired, spread

Record = Mapping[str, Any]

ARM_WORDS = {
    NO_KD: "no distillation",
    UNIMODAL: "unimodal teacher",
    CROSSMODAL: "crossmodal teacher",
    MULTIMODAL: "multimodal teacher",
    ALL: "all channels",
    GENERAL: "most general channels",
    SPECIFIC: "most specific channels",
    RANDOM: "random channels",
}


def summary_of(records: Sequence[Record]) -> dict[str, Any]:
    """Return means, spreads and paired differences over draws as plain data."""
    arms = {}
    for name in ARMS:
        value_W = _values(records, "students", name)
        arms[name] = {
            **spread(value_W),
            "teacher": None if name == NO_KD else spread(_values(records, "teachers", name)),
            "over_no_kd": paired(value_W, _values(records, "students", NO_KD)),
            "over_all_channels": paired(value_W, _values(records, "students", ALL))
            if name in CHOICES
            else None,
            "num_test": records[0]["num_test"],
        }
    return {
        "num_draws": len(records),
        "arms": arms,
        "general_over_specific": _between(records, GENERAL, SPECIFIC),
        "general_over_random": _between(records, GENERAL, RANDOM),
        "unimodal_over_multimodal": _between(records, UNIMODAL, MULTIMODAL),
        "saliency_of_general_half": _general_half(records),
    }


def said_of(summary: Mapping[str, Any], *, student: str) -> list[str]:
    """Return in sentences what was found.

    Args:
        summary: See ``summary_of``.
        student: Modality of the student.
    """
    arms = summary["arms"]
    order = sorted((NO_KD, *TEACHERS), key=lambda name: -arms[name]["mean"])
    ranked = ", ".join(f"{ARM_WORDS[name]} {100 * arms[name]['mean']:.1f}" for name in order)
    best = max(TEACHERS, key=lambda name: arms[name]["teacher"]["mean"])
    helps = order[0]
    first = (
        f"A student of {student} is best with {_of(helps)}: {ranked}% on the test set. The most "
        f"accurate teacher is the {ARM_WORDS[best]} ({100 * arms[best]['teacher']['mean']:.1f}%)."
    )
    general, random = summary["general_over_specific"], summary["general_over_random"]
    second = (
        f"The most general channels give their student {points(general)} points over the most "
        f"specific ones (95% interval {interval(general)}) and {points(random)} over random ones "
        f"({interval(random)})."
    )
    return [first, second, _tells(general)]


def tables_of(summary: Mapping[str, Any]) -> list[PageTable]:
    """Return the tables of the page and the terminal."""
    arms, num = summary["arms"], summary["num_draws"]
    drawn = f"{num} {'draw' if num == 1 else 'draws'} of the data, mean and standard deviation"
    plain = (NO_KD, *TEACHERS)
    return [
        PageTable(
            "Whose labels the student learns",
            f"{drawn}; difference to no distillation in points, paired",
            ["arm", "teacher", "student", "over none", "95% interval"],
            [_row(name, arms[name], "over_no_kd", is_base=name == NO_KD) for name in plain],
        ),
        PageTable(
            "Which channels the teacher keeps",
            f"{drawn}; difference to a teacher of all channels in points, paired",
            ["the teacher has", "teacher", "student", "over all", "95% interval"],
            [_row(name, arms[name], "over_all_channels", is_base=name == ALL) for name in CHOICES],
            strong=[CHOICES.index(GENERAL)],
        ),
    ]


def tiles_of(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return few numbers to be seen first."""
    tiles = [
        (
            ARM_WORDS[name],
            f"{100 * summary['arms'][name]['over_no_kd']['mean']:+z.1f}",
            "points over no distillation",
        )
        for name in TEACHERS
    ]
    general = summary["general_over_specific"]
    return [
        *tiles,
        ("general", f"{100 * general['mean']:+z.1f}", "points over specific channels"),
    ]


def _row(name: str, arm: Mapping[str, Any], key: str, *, is_base: bool) -> list[str]:
    """Return the cells of an arm."""
    teacher = "" if arm["teacher"] is None else percent(arm["teacher"])
    over = ["", ""] if is_base else [points(arm[key]), interval(arm[key])]
    return [ARM_WORDS[name], teacher, percent(arm), *over]


def _values(records: Sequence[Record], whose: str, name: str) -> list[float]:
    """Return an accuracy on the test set of every draw."""
    return [one[whose][name]["test"] for one in records]


def _between(records: Sequence[Record], one: str, other: str) -> dict[str, Any]:
    """Return how far the students of an arm are above those of another."""
    return paired(_values(records, "students", one), _values(records, "students", other))


def _general_half(records: Sequence[Record]) -> float | None:
    """Return the share of all saliency that the more general half of the channels has.

    It is 0.5 where all channels are alike; None where no channel has any.
    """
    shares = []
    for one in records:
        sorted_D = np.sort(np.asarray(one["saliency"], dtype=float))[::-1]
        if sorted_D.sum() > 0:
            shares.append(float(sorted_D[: len(sorted_D) // 2].sum() / sorted_D.sum()))
    return float(np.mean(shares)) if shares else None


def _of(arm: str) -> str:
    """Return how a student was trained, in words."""
    return "no distillation" if arm == NO_KD else f"a {ARM_WORDS[arm]}"


def _tells(general: Mapping[str, Any]) -> str:
    """Return whether the ranking told channels apart."""
    ends = general["ci95"]
    if ends is None:
        return "One draw of the data tells little; give more with data_seeds."
    if ends[0] > 0:
        return "The ranking tells channels apart: the interval is above zero."
    if ends[1] < 0:
        return "The ranking is upside down here: the interval is below zero."
    return "Whether the ranking tells channels apart is not settled: the interval has zero in it."
