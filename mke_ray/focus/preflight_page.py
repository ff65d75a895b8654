"""What a pre-flight leaves for people: a page of its own, figures, and its numbers as JSON."""

import json
import posixpath
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from mke_ray.focus.preflight import Preflight
from mke_ray.focus.preflight_words import points_of
from mke_ray.focus.venn_figure import strength_picture, venn_picture
from mke_ray.report.page import REPORT_FOLDER
from mke_ray.report.style import Picture
from mke_ray.storage import Root

JSON_NAME = "preflight.json"
PAGE_NAME = "preflight.html"

_BADGES = {"go": ("Go", "promoted"), "no-go": ("No-go", "rejected")}
_UNSURE = ("Unsure", "inconclusive")


def preflight_pictures(
    evidence: Mapping[str, Any], *, teacher: str, witnesses: Sequence[str]
) -> list[Picture]:
    """Return the figures of a pre-flight, none where nothing could be measured.

    Args:
        evidence: What was measured, as plain data.
        teacher: Modality of the teacher.
        witnesses: Modalities of the witnesses.
    """
    if not evidence:
        return []
    named = {"teacher": teacher, "witnesses": witnesses}
    drawn = [venn_picture(evidence, **named), strength_picture(evidence, **named)]
    return [one for one in drawn if one is not None]


def write_preflight(
    root: Root, found: Preflight, *, name: str, teacher: str, witnesses: Sequence[str], end: str
) -> str:
    """Write ``report/preflight.html``, its figures and ``report/preflight.json`` last.

    What is there already is not written again.

    Args:
        root: Folder of the run.
        found: What was found.
        name: Name of the run.
        teacher: Modality of the teacher.
        witnesses: Modalities of the witnesses.
        end: What follows from it for the run.

    Returns:
        Path or URI of the page.
    """
    folder, page = root.child(REPORT_FOLDER), posixpath.join(root.uri, REPORT_FOLDER, PAGE_NAME)
    plain = json.dumps(found.to_dict(), indent=1, allow_nan=False).encode()
    if _is_written(folder, plain, end):
        return page
    pictures = preflight_pictures(found.evidence, teacher=teacher, witnesses=witnesses)
    for picture in pictures:
        folder.write(f"figures/{picture.name}.png", picture.png)
    folder.write(PAGE_NAME, _page(found, pictures, name=name, end=end).encode())
    folder.write(JSON_NAME, plain)
    return page


def _is_written(folder: Root, plain: bytes, end: str) -> bool:
    """Return whether the page of this finding is there, with what follows from it."""
    if not (folder.exists(JSON_NAME) and folder.exists(PAGE_NAME)):
        return False
    return folder.read(JSON_NAME) == plain and str(escape(end)).encode() in folder.read(PAGE_NAME)


def badge_of(verdict: str) -> tuple[str, str]:
    """Return the word and the style of a verdict."""
    return _BADGES.get(str(verdict), _UNSURE)


def tiles_of(found: Preflight) -> list[tuple[str, str, str]]:
    """Return the numbers that stand at the top: name, number, words."""
    if found.gain is None or found.interval is None or found.probability is None:
        return []
    low, high = found.interval
    evidence, gamma = found.evidence, found.evidence["gamma"]
    tiles = [
        (
            "Expected gain",
            f"{100 * found.gain:+z.1f}",
            f"points, {100 * low:+z.1f} to {100 * high:+z.1f}",
        ),
        ("Worth it", f"{found.probability:.0%}", f"probability of {points_of(found.worth)}"),
        ("Teacher", f"{evidence['teacher']['value']:.1%}", "on the select part"),
        ("Others alone", f"{evidence['witness']['value']:.1%}", "as learnt from its labels"),
    ]
    if gamma is not None:
        tiles.append(("Gamma", f"{gamma['value']:.0%}", "of what is known, both know"))
    return tiles


def _page(found: Preflight, pictures: Sequence[Picture], *, name: str, end: str) -> str:
    """Return the page as one HTML text that loads nothing from anywhere."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    word, kind = badge_of(found.verdict)
    return environment.from_string(_file("mke_ray.focus", "preflight.html.j2")).render(
        found=found,
        name=name,
        end=end,
        word=word,
        kind=kind,
        tiles=tiles_of(found),
        pictures=pictures,
        json_name=JSON_NAME,
        css=Markup(_file("mke_ray.report", "page.css")),  # noqa: S704 - a file of ours
    )


def _file(package: str, name: str) -> str:
    """Return a file of a package."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
