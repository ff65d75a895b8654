"""What the sections of a page are, and the rows of their tables."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mke_ray.evaluation.calibration import Calibration
from mke_ray.evaluation.results import TEACHER, Flow
from mke_ray.report.content import ReportContent, SampleCard
from mke_ray.report.style import Picture, arm_title

MOST_MOVES = 12

_SAMPLES = {"corrected": "Corrected", "wrong": "Still wrong", "corrupted": "Corrupted"}
_EVIDENCE = {
    "teacher": "Teacher",
    "witness": "Other modalities alone, as learnt from its labels",
    "joined": "Both joined",
    "trial": "Trial student",
    "gamma": "Gamma: of what is known, both know",
}


def sections_of(content: ReportContent, pictures: Mapping[str, Picture]) -> dict[str, str]:
    """Return the titles of the sections of a page by their anchors, in order."""
    own = {one.name: one.title for one in content.pictures if not one.name.startswith("preflight")}
    short = {"boundaries": "Boundaries", "scenes": "Scenes"}
    has_classes = bool(class_rows(content)) and ("by_class" in pictures or "classes" in own)
    own.pop("classes", None)
    there = {
        "arms": ("Arms", True),
        "further": ("Other figures", bool(content.teacher.further)),
        "answers": ("Answers", "flow" in pictures or "corrected" in pictures),
        "classes": ("Classes", has_classes),
        "confidence": ("Confidence", "by_confidence" in pictures),
        "reliability": ("Reliability", "reliability" in pictures),
        "refinement": ("Labels", bool(content.refinement)),
        "modalities": ("Modalities", content.contribution is not None),
        "preflight": ("Pre-flight", content.preflight is not None),
        **{name: (short.get(name, title), True) for name, title in own.items()},
        **{
            f"samples-{kind}": (title, any(one.kind == kind for one in content.cards))
            for kind, title in _SAMPLES.items()
        },
        "training": ("Training", "curves" in pictures),
        "time": ("Time", True),
        "data": ("Data", True),
        "made": ("Made of", True),
    }
    return {name: title for name, (title, is_there) in there.items() if is_there}


def calibrations(content: ReportContent) -> dict[str, Calibration]:
    """Return how far confidence can be believed, by who is asked: the teacher or an arm."""
    found = {TEACHER: content.calibration, content.shipped: content.student_calibration}
    return {who: one for who, one in found.items() if one is not None and one.bins_before}


def move_rows(content: ReportContent) -> list[dict[str, Any]]:
    """Return the most frequent changes of an answer, with the names of the classes."""
    found = content.evaluation.diagnosis
    if found is None:
        return []
    changed = [one for one in found.moves if one.teacher != one.student]
    return [
        {
            "teacher": content.classes[one.teacher],
            "student": "no answer" if one.student < 0 else content.classes[one.student],
            "num": one.num,
            "num_right_before": one.num_right_before,
            "num_right_after": one.num_right_after,
        }
        for one in changed[:MOST_MOVES]
    ]


def class_caption(content: ReportContent) -> str:
    """Return what the table of classes counts."""
    if content.teacher.class_ious:
        return "Intersection over union on the test set"
    return "Share of the answers on the test set that are right"


def class_rows(content: ReportContent) -> list[dict[str, Any]]:
    """Return teacher and student by class, the largest gain first; none where nobody counted."""
    student, found = content.student, content.evaluation.diagnosis
    if content.teacher.class_ious and student is not None:
        pairs = zip(content.classes, content.teacher.class_ious, student.class_ious, strict=True)
        rows = [_class_row(name, None, before, after) for name, before, after in pairs]
    elif found is not None:
        rows = [
            _class_row(name, one.num, one.num_right / one.num, _share_after(one))
            for name, one in zip(content.classes, found.by_class, strict=True)
            if one.num
        ]
    else:
        return []
    return sorted(rows, key=lambda row: (row["gain"] is None, -(row["gain"] or 0.0)))


def preflight_rows(plain: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return what a pre-flight measured, in words."""
    evidence = {} if plain is None else plain.get("evidence", {})
    rows = []
    for key, title in _EVIDENCE.items():
        one = evidence.get(key)
        if not isinstance(one, Mapping) or "value" not in one:
            continue
        ends = one.get("ci95")
        more = "" if ends is None else f" ({ends[0]:.1%} to {ends[1]:.1%})"
        rows.append((title, f"{one['value']:.1%}{more}"))
    return rows


def preflight_outcome(content: ReportContent) -> str:
    """Return whether the gain is within the interval of the pre-flight, "" where nothing says."""
    ends = None if content.preflight is None else content.preflight.get("interval")
    if ends is None or content.student is None:
        return ""
    expected = f"{100 * ends[0]:+.1f} to {100 * ends[1]:+.1f}"
    if ends[0] <= content.student.gain <= ends[1]:
        return f"within the interval that was expected ({expected})"
    side = "less" if content.student.gain < ends[0] else "more"
    return f"{side} than was expected: the interval ({expected}) was missed"


def unselected_line(content: ReportContent) -> str:
    """Return which arms the select part says nothing of, since they learnt it; "" where none."""
    arms = content.evaluation.arms
    fitted = dict.fromkeys(one.arm for one in content.histories if one.arm in arms)
    learnt = [arm_title(one) for one in fitted if not _is_number(arms[one].select)]
    if not learnt or not _is_number(content.teacher.select):
        return ""
    whom = "it" if len(learnt) == 1 else "them"
    return f"{' and '.join(learnt)} learnt from the select part, which says nothing of {whom}."


def card_alt(card: SampleCard) -> str:
    """Say the picture of a sample in words."""
    return (
        f"What is stored of {card.key}: true class {card.truth}, the teacher says {card.teacher}, "
        f"the student {card.student}"
    )


def _is_number(value: float | None) -> bool:
    """Return whether a value was measured."""
    return value is not None and math.isfinite(value)


def _class_row(name: str, num: int | None, before: float, after: float) -> dict[str, Any]:
    """Return the row of a class, None for what cannot be told."""
    known = [float(one) if np.isfinite(one) else None for one in (before, after)]
    gain = None if None in known else after - before
    return {"name": name, "num": num, "teacher": known[0], "student": known[1], "gain": gain}


def _share_after(flow: Flow) -> float:
    """Return the share of answers that the student has right."""
    return (flow.num_right + flow.num_corrected - flow.num_corrupted) / flow.num
