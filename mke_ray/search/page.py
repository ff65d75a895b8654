"""What a search leaves for people: a page, a ranked table, figures, and the winner as YAML."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from mke_ray.report.study_page import study_page, write_study
from mke_ray.search.content import SearchContent
from mke_ray.search.judging import AS_IT_IS, WINNER
from mke_ray.search.key_figures import word_of
from mke_ray.search.ledger import FAILED, FINISHED, TrialRecord
from mke_ray.search.wording import mean_words, percent, said_of
from mke_ray.storage import Root

TABLE = "trials.csv"

_MOST_ROWS = 12


def ranked(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return trials, the best first: to the end before stopped before failed."""
    states = {FINISHED: 0, FAILED: 2}

    def key(one: TrialRecord) -> tuple[int, float, int]:
        quality = one.quality
        return states.get(one.state, 1), math.inf if quality is None else -quality, one.number

    return sorted(records, key=key)


def trials_csv(records: Sequence[TrialRecord]) -> str:
    """Return all trials as a table, the best first."""
    names = list(dict.fromkeys(name for one in records for name in one.params))
    text = io.StringIO()
    writer = csv.writer(text)
    head = ["trial", "state", "quality", "step", "samples", "seconds", "parameters", "reason"]
    writer.writerow([*head, *names])
    for one in ranked(records):
        step = one.curve[-1]["step"] if one.curve else ""
        row = [one.number, one.state, "" if one.quality is None else one.quality, step]
        row += [one.num_samples, round(one.seconds, 3), one.num_parameters or "", one.reason]
        writer.writerow([*row, *(one.params.get(name, "") for name in names)])
    return text.getvalue()


class TrialTable:
    """Writes ``trials.csv`` anew whenever a trial has ended, so that it can be read meanwhile.

    Args:
        folder: Folder of the search.
        num_known: Trials that have ended before, which are added first.
    """

    def __init__(self, folder: Root, *, num_known: int) -> None:
        self._folder, self._num_known = folder, num_known
        self._records: list[TrialRecord] = []

    def add(self, record: TrialRecord) -> None:
        """Add a trial that has ended."""
        self._records.append(record)
        if len(self._records) >= self._num_known:
            self._folder.write(TABLE, trials_csv(self._records).encode())


def search_terminal(content: SearchContent) -> Group:
    """Return what the terminal shows."""
    table = Table(box=None, pad_edge=False)
    names = list(dict.fromkeys(name for one in content.records for name in one.params))
    for name in ("trial", "state", "quality", "step"):
        table.add_column(name, justify="right" if name != "state" else "left", no_wrap=True)
    for name in names:
        table.add_column(name.lstrip("+").rpartition(".")[2], justify="right")
    for one in ranked(content.records)[:_MOST_ROWS]:
        quality = "" if one.quality is None else f"{one.quality:.4f}"
        step = str(one.curve[-1]["step"]) if one.curve else ""
        cells = [_cell(one.params[name]) if name in one.params else "" for name in names]
        table.add_row(str(one.number), one.state, quality, step, *cells)
    rest = len(content.records) - _MOST_ROWS
    more = [Text(f"and {rest} more, which are in {TABLE}")] if rest > 0 else []
    return Group(table, *more, Text(), *map(Text, said_of(content)))


def write_search(folder: Root, content: SearchContent, winner_yaml: str) -> str:
    """Write what a search found; returns where the page is.

    Args:
        folder: Folder of the search.
        content: What to say.
        winner_yaml: The configuration of the winner.
    """
    folder.write("winner.yaml", winner_yaml.encode())
    folder.write(TABLE, trials_csv(content.records).encode())
    plain = {
        "quality": content.quality,
        "num_trials": len(content.records),
        "num_samples": content.num_samples,
        "full_samples": content.full_samples,
        "hours": content.hours,
        "winner": content.winner.number,
        "finalists": [_finite(one.to_dict()) for one in content.finalists],
    }
    return write_study(
        folder,
        name="result.json",
        plain=plain,
        pictures=content.pictures,
        page=search_page(content, winner_yaml),
    )


def search_page(content: SearchContent, winner_yaml: str) -> str:
    """Return the page as one HTML text that loads nothing from anywhere."""
    names = list(dict.fromkeys(name for one in content.records for name in one.params))
    return study_page(
        "mke_ray.search",
        "search.html.j2",
        filters={"cell": _cell},
        content=content,
        said=said_of(content),
        names=names,
        trials=ranked(content.records),
        finalists=[(one, mean_words(one)) for one in content.finalists],
        winner_yaml=winner_yaml,
        tests=_test_rows(content.test),
    )


def _test_rows(test: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, value and single seeds of what was measured on the test split."""
    rows = [("teacher", percent(test["teacher"]), "")]
    for name in (AS_IT_IS, WINNER):
        if name in test:
            seeds = ", ".join(percent(one) for one in test[name]["seeds"].values())
            rows.append((name, percent(test[name]["value"]), seeds))
    return rows


def _cell(value: Any) -> str:
    """Return what was drawn, for a table."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return word_of(value)


def _finite(node: Any) -> Any:
    """Return plain data in which numbers that JSON lacks are null."""
    if isinstance(node, Mapping):
        return {key: _finite(one) for key, one in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(one) for one in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
