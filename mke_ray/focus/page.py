"""What a study leaves for people: a page that loads nothing, figures, and its numbers as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from mke_ray.report.page import REPORT_FOLDER, duration
from mke_ray.report.study_page import study_page, write_study
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
    return write_study(
        root.child(REPORT_FOLDER),
        name=METRICS_NAME,
        plain={**content.plain, "seconds": content.seconds},
        pictures=content.pictures,
        page=focus_page(content),
    )


def focus_page(content: FocusContent) -> str:
    """Return the page as one HTML text that loads nothing from anywhere."""
    return study_page(
        "mke_ray.focus",
        "focus.html.j2",
        content=content,
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
    return f"{100 * paired['mean']:+z.1f} ± {100 * paired['std']:.1f}"


def interval(paired: Mapping[str, Any]) -> str:
    """Return the interval of a difference in points; a dash of a single draw."""
    if paired["ci95"] is None:
        return "-"
    low, high = paired["ci95"]
    return f"{100 * low:+z.1f} to {100 * high:+z.1f}"


def percent(spread: Mapping[str, float]) -> str:
    """Return an accuracy in percent, mean and spread."""
    return f"{100 * spread['mean']:.1f} ± {100 * spread['std']:.1f}"
