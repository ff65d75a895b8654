"""What a study leaves for people: a page that loads nothing, figures, and its numbers as JSON."""

import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mke_ray.report.page import REPORT_FOLDER, duration
from mke_ray.report.style import Picture
from mke_ray.storage import Root

METRICS_NAME = "focus.json"


@dataclass(frozen=True, slots=True)
class PageTable:
    """A table, for the page and the terminal alike.

    Args:
        title: What it shows.
        caption: How to read it.
        head: Names of the columns.
        rows: Cells as they are shown.
        strong: Numbers of the rows to be seen first.
    """

    title: str
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class FocusContent:
    """What there is to say of a study.

    Args:
        title: Name of the experiment and of how much was drawn.
        said: What was found in sentences, the main one first.
        tiles: Few numbers in large letters: name, number, words.
        pictures: The figures in their order.
        tables: The tables.
        plain: What ``focus.json`` holds.
        seconds: Wall-clock time of the job.
        notes: How it was measured, and what was left out.
    """

    title: str
    said: Sequence[str]
    tiles: Sequence[tuple[str, str, str]]
    pictures: Sequence[Picture]
    tables: Sequence[PageTable]
    plain: Mapping[str, Any]
    seconds: float
    notes: Sequence[str] = field(default_factory=tuple)


def write_focus(root: Root, content: FocusContent) -> str:
    """Write ``report/`` of a study: focus.json, figures, and index.html last.

    Args:
        root: Folder of the job.
        content: What to say.

    Returns:
        Path or URI of the page.
    """
    folder = root.child(REPORT_FOLDER)
    plain = {**content.plain, "seconds": content.seconds}
    folder.write(METRICS_NAME, json.dumps(plain, indent=1, allow_nan=False).encode())
    for picture in content.pictures:
        folder.write(f"figures/{picture.name}.png", picture.png)
    folder.write("index.html", focus_page(content).encode())
    return posixpath.join(folder.uri, "index.html")


def focus_page(content: FocusContent) -> str:
    """Return the page as one HTML text that loads nothing from anywhere."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_file("mke_ray.focus", "focus.html.j2")).render(
        content=content,
        css=Markup(_file("mke_ray.report", "page.css")),  # noqa: S704 - a file of ours
        metrics=METRICS_NAME,
        time=duration(content.seconds),
    )


def focus_terminal(content: FocusContent) -> Group:
    """Return what the terminal shows: the tables and the sentences."""
    shown: list[Any] = []
    for one in content.tables:
        table = Table(box=None, pad_edge=False, title=one.title, title_justify="left")
        for number, name in enumerate(one.head):
            table.add_column(name, justify="right" if number else "left", no_wrap=not number)
        for number, row in enumerate(one.rows):
            table.add_row(*row, style="bold" if number in one.strong else "")
        shown += [table, Text()]
    return Group(*shown, *map(Text, [*content.said, *content.notes]))


def points(paired: Mapping[str, Any]) -> str:
    """Return a difference in points, mean and spread."""
    return f"{100 * paired['mean']:+.1f} ± {100 * paired['std']:.1f}"


def interval(paired: Mapping[str, Any]) -> str:
    """Return the interval of a difference in points; a dash of a single draw."""
    if paired["ci95"] is None:
        return "-"
    low, high = paired["ci95"]
    return f"{100 * low:+.1f} to {100 * high:+.1f}"


def percent(spread: Mapping[str, float]) -> str:
    """Return an accuracy in percent, mean and spread."""
    return f"{100 * spread['mean']:.1f} ± {100 * spread['std']:.1f}"


def _file(package: str, name: str) -> str:
    """Return a file of a package."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
