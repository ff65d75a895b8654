"""The page that explains a gain: figures, a table of students, and mechanism.json beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from mke_ray.report.page import REPORT_FOLDER, duration
from mke_ray.report.study_page import study_page, write_study
from mke_ray.report.style import Picture, arm_title
from mke_ray.storage import Root

MECHANISM_NAME = "mechanism.json"


@dataclass(frozen=True, slots=True)
class MechanismContent:
    """What the page says.

    Args:
        experiment: Name of the experiment.
        summary: Means and spreads over draws, see ``expansion.mechanism_summary``.
        records: What was found of every draw and setting.
        pictures: The figures in their order.
        seconds: Wall-clock time of this start of the job.
        num_known: Settings that an earlier start had measured.
    """

    experiment: str
    summary: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    pictures: Sequence[Picture]
    seconds: float
    num_known: int = 0


def write_mechanism(root: Root, content: MechanismContent) -> str:
    """Write ``report/`` of the measurement: mechanism.json, figures, and index.html last.

    Args:
        root: Folder that holds the draws.
        content: What to say.

    Returns:
        Path or URI of the page.
    """
    plain = {
        "experiment": content.experiment,
        **content.summary,
        "seconds": content.seconds,
        "num_known": content.num_known,
        "records": content.records,
    }
    return write_study(
        root.child(REPORT_FOLDER),
        name=MECHANISM_NAME,
        plain=plain,
        pictures=content.pictures,
        page=mechanism_page(content),
    )


def mechanism_page(content: MechanismContent) -> str:
    """Return the page as one HTML text that loads nothing from anywhere."""
    return study_page(
        "mke_ray.report",
        "mechanism.html.j2",
        filters={"points": _points, "share": _share, "plus": _plus},
        content=content,
        said=mechanism_headline(content.summary),
        theorem=theorem_words(content.summary),
        spaces=content.summary["spaces"],
        students=student_rows(content.summary),
        time=duration(content.seconds),
    )


def mechanism_terminal(content: MechanismContent) -> Group:
    """Return what the terminal shows: spaces, students, and two sentences."""
    spaces = Table(box=None, pad_edge=False)
    spaces.add_column("neighbours in", no_wrap=True)
    for name in ("expansion at alpha", "crossing at alpha", "expansion while at most 5% cross"):
        spaces.add_column(name, justify="right")
    for name, one in content.summary["spaces"].items():
        spaces.add_row(
            name,
            _plus(one["expansion_at_alpha"]),
            _share(one["crossing_at_alpha"]),
            _plus(one["expansion_while_5%_cross"]),
        )
    said = (mechanism_headline(content.summary), theorem_words(content.summary))
    return Group(spaces, Text(), _students_table(content.summary), Text(), *map(Text, said))


def mechanism_headline(summary: Mapping[str, Any]) -> str:
    """Say in a sentence how well the average over the noise predicts the students."""
    found = summary["prediction"].get("all")
    if found is None:
        return "No student could be predicted: no true labels of the unlabeled set are known."
    right, wrong = found["corrected"], found["corrupted"]
    return (
        f"Averaging the teacher's labels over the noise predicts what {found['num']} students "
        f"corrected within {100 * right['median_off']:.1f} points (median; mean "
        f"{100 * right['mean_off']:.1f}) and what they corrupted within "
        f"{100 * wrong['median_off']:.1f} (mean {100 * wrong['mean_off']:.1f})."
    )


def theorem_words(summary: Mapping[str, Any]) -> str:
    """Say what the theorem of expansion and separation promises on these data."""
    found, num = summary["theorem"], summary["num_draws"]
    largest = _share(found["largest_wrong_share"])
    applies, useful = (
        found["draws_in_which_it_applies"],
        found["draws_in_which_it_bounds_below_the_teacher"],
    )
    if not applies:
        return (
            "The theorem of expansion and separation promises nothing in any of the "
            f"{num} draws, at any radius: it needs an expansion factor above 3, and the class that "
            f"the teacher has wrong most often is wrong in {largest}."
        )
    return (
        f"The theorem of expansion and separation applies in {applies} of {num} draws at its best "
        f"radius, and bounds the student's error below the teacher's in {useful}."
    )


def student_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per arm, kind of labels and strength of noise: the gain, mean and spread."""
    return [
        {
            "arm": arm_title(band["arm"]),
            "labels": band.get("labels", ""),
            "alpha": at,
            "mean": mean,
            "std": std,
            "above": above,
        }
        for band in summary["gains"].get("alpha", [])
        for at, mean, std, above in zip(
            band["at"], band["mean"], band["std"], band["above_teacher"], strict=True
        )
    ]


def _students_table(summary: Mapping[str, Any]) -> Table:
    """Return the gains by noise and labels as a table for the terminal."""
    table = Table(box=None, pad_edge=False)
    for name in ("arm", "labels"):
        table.add_column(name, no_wrap=True)
    for name in ("alpha", "gain over teacher", "above teacher"):
        table.add_column(name, justify="right")
    for row in student_rows(summary):
        gain = _points(row)
        table.add_row(row["arm"], row["labels"], f"{row['alpha']:g}", gain, f"{row['above']:.0%}")
    return table


def _points(row: Mapping[str, float]) -> str:
    """Return a gain in points, mean and spread."""
    return f"{100 * row['mean']:+.1f} ± {100 * row['std']:.1f}"


def _share(spread: Mapping[str, float]) -> str:
    """Return a share in percent, mean and spread."""
    return f"{100 * spread['mean']:.0f} ± {100 * spread['std']:.0f}%"


def _plus(spread: Mapping[str, float]) -> str:
    """Return a number, mean and spread."""
    return f"{spread['mean']:.2f} ± {spread['std']:.2f}"
