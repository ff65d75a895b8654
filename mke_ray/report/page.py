"""The report of a run as files: one self-contained page, figures as PNG, and metrics.json."""

import base64
import json
import posixpath
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mke_ray.evaluation.further import TITLES
from mke_ray.evaluation.plan import RELABELLED
from mke_ray.evaluation.results import Flow
from mke_ray.report.alluvial import alluvial_picture
from mke_ray.report.contact import KIND_TITLES, contact_sheet
from mke_ray.report.content import (
    ReportContent,
    calibration_line,
    headline,
    metric_word,
    metrics_of,
    open_set_line,
    refinement_line,
)
from mke_ray.report.contribution import contribution_picture, shown_title
from mke_ray.report.diagnosis import diagnosis_pictures
from mke_ray.report.figures import (
    ArmBar,
    Curve,
    FlowBar,
    arms_picture,
    curves_picture,
    flow_picture,
)
from mke_ray.report.never_answered import never_answered_line
from mke_ray.report.sections import (
    calibrations,
    card_alt,
    class_caption,
    class_rows,
    move_rows,
    preflight_outcome,
    preflight_rows,
    sections_of,
    unselected_line,
)
from mke_ray.report.spending import duration, seconds_picture, stage_rows, throughput_rows
from mke_ray.report.stored import store_content
from mke_ray.report.style import Picture, arm_title
from mke_ray.report.terminal import VERDICT_WORDS, percent, percent_range, points_range
from mke_ray.report.trust import noise_picture, refinement_picture, reliability_picture
from mke_ray.storage import Root

__all__ = ["draw_pictures", "duration", "first_upper", "render_page", "write_report"]

REPORT_FOLDER = "report"
MOST_CLASS_ROWS = 40
SELECT_KEYS = ("select_accuracy", "select_map", "select_miou")

_STATUS_COLOURS = {"ok": "--green", "partial": "--amber", "bad": "--orange", "retry": "--purple"}


def write_report(root: Root, content: ReportContent, scores: pa.Table | None = None) -> str:
    """Write ``report/`` of a run: metrics.json, figures, and index.html last.

    Args:
        root: Root of the run.
        content: What to say.
        scores: Scores of single test samples by ``arm/seed``; with them the content is kept too, so
            that the page can be made again and the run be compared with others.

    Returns:
        Path or URI of the page.
    """
    folder = root.child(REPORT_FOLDER)
    metrics = json.dumps(metrics_of(content), indent=2, allow_nan=False)
    folder.write("metrics.json", metrics.encode())
    if scores is not None:
        store_content(folder, content, scores)
    pictures = draw_pictures(content)
    sheets = {kind: contact_sheet(content.cards, kind) for kind in KIND_TITLES}
    for picture in [*pictures.values(), *content.pictures, *sheets.values()]:
        if picture is not None:
            folder.write(f"figures/{picture.name}.png", picture.png)
    folder.write("index.html", render_page(content, pictures).encode())
    return posixpath.join(folder.uri, "index.html")


def draw_pictures(content: ReportContent) -> dict[str, Picture]:
    """Return the figures that a run has the numbers for, by name."""
    arms = content.evaluation.arms
    metric = first_upper(metric_word(content.evaluation.metric))
    bars = [
        ArmBar(name, one.value, *(one.ci95 or (one.value, one.value)), tuple(one.seeds.values()))
        for name, one in arms.items()
    ]
    pictures = {"arms": arms_picture(bars, shipped=content.shipped, metric=metric)}
    flows = [
        FlowBar(
            name,
            one.flow.num_right,
            one.flow.num_wrong,
            one.flow.num_corrected,
            one.flow.num_corrupted,
        )
        for name, one in arms.items()
        if one.flow is not None
    ]
    if flows:
        pictures["corrected"] = flow_picture(flows)
    found = content.evaluation.diagnosis
    pictures |= diagnosis_pictures(found, content.classes, arm=content.shipped)
    if content.contribution is not None:
        pictures["contribution"] = contribution_picture(
            content.contribution, teacher=content.teacher.value, metric=metric
        )
    pictures |= _further_pictures(content, metric)
    losses, selects = _curves(content, ("loss",)), _curves(content, SELECT_KEYS)
    if losses or selects:
        pictures["curves"] = curves_picture(losses, selects, metric=metric)
    return pictures


def _further_pictures(content: ReportContent, metric: str) -> dict[str, Picture]:
    """Return the figures of which a run need not have any."""
    found, student = content.evaluation.diagnosis, content.student
    moves = () if found is None else found.moves
    flow = None if student is None else student.flow
    drawn = [
        alluvial_picture(moves, flow, content.classes, arm=content.shipped),
        reliability_picture(calibrations(content)),
        refinement_picture(content.refinement),
        seconds_picture(content.seconds),
    ]
    if content.contribution is not None:
        teacher = content.teacher.value
        drawn.append(noise_picture(content.contribution, teacher=teacher, metric=metric))
    return {one.name: one for one in drawn if one is not None}


def render_page(content: ReportContent, pictures: Mapping[str, Picture]) -> str:
    """Return the page as one HTML text that loads nothing from anywhere.

    Args:
        content: What to say.
        pictures: From ``draw_pictures``.
    """
    shown_classes = class_rows(content)
    by_class = pictures.get("by_class") or _picture_of(content, "classes")
    return (
        _environment()
        .get_template("index.html.j2")
        .render(
            content=content,
            pictures=pictures,
            placed={"classes", *(one.name for one in content.pictures if _is_ahead(one))},
            css=Markup(_file("page.css")),  # noqa: S704 - a file of this package
            said=headline(content),
            never_answered=never_answered_line(content),
            refinement_said=refinement_line(content),
            open_set_said=open_set_line(content),
            calibration_said=calibration_line(content),
            relabelled=_relabelled(content),
            metric=metric_word(content.evaluation.metric),
            verdict_word=VERDICT_WORDS.get(content.decision.verdict, content.decision.verdict),
            tiles=_tiles(content),
            sections=sections_of(content, pictures),
            kinds=KIND_TITLES,
            cards={kind: [c for c in content.cards if c.kind == kind] for kind in KIND_TITLES},
            class_rows=shown_classes[:MOST_CLASS_ROWS] if by_class is not None else [],
            num_more_classes=max(0, len(shown_classes) - MOST_CLASS_ROWS),
            class_picture=by_class,
            class_caption=class_caption(content),
            move_rows=move_rows(content),
            calibrations=calibrations(content),
            preflight_rows=preflight_rows(content.preflight),
            preflight_outcome=preflight_outcome(content),
            stage_rows=stage_rows(content),
            throughput_rows=throughput_rows(content.throughput, content.cost_per_hour),
            curve_rows=_curve_rows(content),
            unselected_said=unselected_line(content),
            contribution_rows=_contribution_rows(content),
            status_rows=_status_rows(content),
            further_titles=_further_titles(content),
        )
    )


def _relabelled(content: ReportContent) -> Flow | None:
    """Return what refining did to the teacher's labels, None where that is not known."""
    found = content.evaluation.arms.get(RELABELLED)
    return None if found is None else found.flow


def _is_ahead(picture: Picture) -> bool:
    """Return whether a figure is one of the pre-flight."""
    return picture.name.startswith("preflight")


def _picture_of(content: ReportContent, name: str) -> Picture | None:
    """Return a figure that came with the content, None where it has none of that name."""
    return next((one for one in content.pictures if one.name == name), None)


def first_upper(text: str) -> str:
    """Return a text that begins with a capital letter and is else as it was."""
    return text[:1].upper() + text[1:]


@cache
def _environment() -> Environment:
    """Return the template environment: everything is escaped, a missing name is an error."""
    environment = Environment(
        loader=PackageLoader("mke_ray", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "arm_title": arm_title,
        "percent": percent,
        "percent_range": percent_range,
        "points_range": points_range,
        "duration": duration,
        "first_upper": first_upper,
        "data_uri": _data_uri,
        "card_alt": card_alt,
    }
    return environment


def _file(name: str) -> str:
    """Return a file of this package."""
    return resources.files("mke_ray.report").joinpath(name).read_text(encoding="utf-8")


def _data_uri(content: bytes, mime: str) -> str:
    """Return bytes as part of the page."""
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def _tiles(content: ReportContent) -> list[dict[str, str]]:
    """Return the numbers that stand at the top."""
    metric = metric_word(content.evaluation.metric)
    teacher, student = content.teacher, content.student
    tiles = [{"name": "Teacher", "value": percent(teacher.value), "note": f"{metric} on test"}]
    if student is not None:
        gain = f"{100 * student.gain:+.1f}"
        tiles += [
            {"name": "Student", "value": percent(student.value), "note": arm_title(student.arm)},
            {"name": "Gain", "value": gain, "note": f"points, {points_range(student.gain_ci95)}"},
        ]
        if student.flow is not None:
            tiles += [
                {
                    "name": "Corrected",
                    "value": percent(student.flow.corrected),
                    "note": "of the teacher's wrong labels of the unlabeled set",
                },
                {
                    "name": "Corrupted",
                    "value": percent(student.flow.corrupted),
                    "note": "of its right labels of the unlabeled set",
                },
            ]
    num = f"{content.num_pseudo_labels:,}"
    return [*tiles, {"name": "Pseudo-labels", "value": num, "note": "written by the teacher"}]


def _curves(content: ReportContent, keys: tuple[str, ...]) -> list[Curve]:
    """Return one curve per fit that logged one of the keys."""
    curves = []
    for history in content.histories:
        points = [
            (record["step"], record[key])
            for record in history.records
            for key in keys
            if key in record
        ]
        if len(points) > 1:
            steps, values = zip(*points, strict=True)
            curves.append(Curve(history.arm, history.seed, steps, values))
    return curves


def _curve_rows(content: ReportContent) -> list[dict[str, Any]]:
    """Return the last logged values of every fit."""
    return [
        {
            "arm": history.arm,
            "seed": history.seed,
            "steps": max((int(record["step"]) for record in history.records), default=0),
            "loss": _last(history.records, ("loss",)),
            "select": _last(history.records, SELECT_KEYS),
        }
        for history in content.histories
    ]


def _contribution_rows(content: ReportContent) -> list[dict[str, Any]]:
    """Return what the student reaches with all modalities and with fewer."""
    found = content.contribution
    rows = [] if found is None else [found.whole, *found.parts]
    return [{"title": shown_title(one, found), "result": one} for one in rows if found]


def _further_titles(content: ReportContent) -> dict[str, str]:
    """Return the titles of the further figures that there are, by name."""
    return {name: title for name, title in TITLES.items() if name in content.teacher.further}


def _last(records: Any, keys: tuple[str, ...]) -> float | None:
    """Return the last value of one of the keys, None if there is none."""
    values = [record[key] for record in records for key in keys if key in record]
    return float(values[-1]) if values else None


def _status_rows(content: ReportContent) -> list[dict[str, Any]]:
    """Return how many samples ended in each status."""
    return [
        {"name": name, "number": getattr(content.counts, name), "colour": colour}
        for name, colour in _STATUS_COLOURS.items()
    ]
