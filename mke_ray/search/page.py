"""What a search leaves for people: a page, a ranked table, figures, and the winner as YAML."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mke_ray.labels.pass_state import SECONDS_PER_HOUR
from mke_ray.report.style import Picture
from mke_ray.search.finals import USUAL, Finalist
from mke_ray.search.judging import AS_IT_IS, WINNER
from mke_ray.search.key_figures import word_of
from mke_ray.search.ledger import FAILED, FINISHED, TrialRecord
from mke_ray.storage import Root

_MOST_ROWS = 12


@dataclass(frozen=True, slots=True)
class SearchContent:
    """What there is to say of a search.

    Args:
        title: Name of the experiment and of the space.
        quality: What was looked for, in words.
        records: What became of all trials.
        finalists: The finalists.
        winner: The winner among them.
        test: See ``result_on_test``.
        num_select: Samples of the select part of the probe.
        full_samples: Rows that all trials would have been trained on without stops.
        pictures: The figures.
        folder: Where it lies.
        held: What a fit holds while it trains, for example ``{"CPU": 2.0}``.
    """

    title: str
    quality: str
    records: Sequence[TrialRecord]
    finalists: Sequence[Finalist]
    winner: Finalist
    test: Mapping[str, Any]
    num_select: int
    full_samples: int
    pictures: Sequence[Picture]
    folder: str
    held: Mapping[str, float]

    @property
    def num_samples(self) -> int:
        """Rows trained on by trials and finals; a fit of both counts once."""
        trained = [*self.finalists, *self._trained_apart]
        return sum(one.num_samples for one in trained)

    @property
    def hours(self) -> dict[str, float]:
        """Hours of what trials and finals held while they trained; a fit of both counts once."""
        seconds = sum(one.seconds for one in [*self.finalists, *self._trained_apart])
        return {name: seconds / SECONDS_PER_HOUR * held for name, held in self.held.items()}

    @property
    def _trained_apart(self) -> list[TrialRecord]:
        """Trials whose fit is not one of the finals."""
        shared = {one.number for one in self.finalists}
        return [one for one in self.records if not (one.number in shared and one.state == FINISHED)]


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


def said_of(content: SearchContent) -> list[str]:
    """Return in sentences what was found: the winner, its test result, and what it cost."""
    winner, test = content.winner, content.test
    share = content.num_samples / content.full_samples if content.full_samples else math.nan
    cost = f"; without stops {len(content.records)} trials train on {content.full_samples:,}"
    usual = next((one for one in content.finalists if one.number == USUAL), None)
    lines = []
    if winner.number == USUAL:
        lines.append(
            f"Nothing better was found than the configuration as it is: {content.quality} "
            f"{_mean(winner)} on the select part of the probe."
        )
        lines += [_unsure_words(one) for one in content.finalists if one.mean > winner.mean]
    else:
        against = "" if usual is None else f"; the configuration as it is has {_mean(usual)}"
        lines.append(
            f"Trial {winner.number} is the winner: {content.quality} {_mean(winner)} on the select "
            f"part of the probe{against}."
        )
        if "gain" in test:
            lines.append(_test_words(test))
        lines.append(_luck_words(content) if winner.lead is None else _lead_words(content))
    lines.append(
        f"Trials and finals trained on {content.num_samples:,} samples{cost} ({share:.0%}), for "
        f"{_hours_words(content.hours)}."
    )
    return lines


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
    return Group(table, Text(), *map(Text, said_of(content)))


def write_search(folder: Root, content: SearchContent, winner_yaml: str) -> str:
    """Write what a search found; returns where the page is.

    Args:
        folder: Folder of the search.
        content: What to say.
        winner_yaml: The configuration of the winner.
    """
    folder.write("winner.yaml", winner_yaml.encode())
    folder.write("trials.csv", trials_csv(content.records).encode())
    plain = {
        "quality": content.quality,
        "num_trials": len(content.records),
        "num_samples": content.num_samples,
        "full_samples": content.full_samples,
        "hours": content.hours,
        "winner": content.winner.number,
        "finalists": [_finite(one.to_dict()) for one in content.finalists],
    }
    folder.write("result.json", json.dumps(plain, indent=1).encode())
    for picture in content.pictures:
        folder.write(f"figures/{picture.name}.png", picture.png)
    folder.write("index.html", search_page(content, winner_yaml).encode())
    return f"{folder.uri}/index.html"


def search_page(content: SearchContent, winner_yaml: str) -> str:
    """Return the page as one HTML text that loads nothing from anywhere."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"cell": _cell}
    names = list(dict.fromkeys(name for one in content.records for name in one.params))
    return environment.from_string(_file("search", "search.html.j2")).render(
        content=content,
        css=Markup(_file("report", "page.css")),  # noqa: S704 - a file of this package
        said=said_of(content),
        names=names,
        trials=ranked(content.records),
        finalists=[(one, _mean(one)) for one in content.finalists],
        winner_yaml=winner_yaml,
        tests=_test_rows(content.test),
    )


def _unsure_words(one: Finalist) -> str:
    """Say why a finalist with a higher mean is not the winner."""
    return (
        f"Trial {one.number} has {_mean(one)}, {_ahead(one)}: not surely, and of few samples the "
        "best of many trials is ahead by luck. The configuration as it is stays; a larger select "
        "part would tell."
    )


def _lead_words(content: SearchContent) -> str:
    """Say how sure it is that the winner is better on the select part."""
    return (
        f"Over the {content.num_select} samples of the select part it is {_ahead(content.winner)}; "
        "as the best of several trials it looks better there than it is."
    )


def _ahead(one: Finalist) -> str:
    """Say how far a finalist leads the configuration as it is."""
    if one.lead is None:
        return "ahead by an unknown amount"
    low, high = one.lead.ci95
    return (
        f"{one.lead.value:+.4f} ahead of the configuration as it is "
        f"(95% interval over groups of samples {low:+.4f} to {high:+.4f})"
    )


def _hours_words(hours: Mapping[str, float]) -> str:
    """Say for how long fits held what they trained on."""
    return " and ".join(f"{number:.2f} {name}-hours" for name, number in hours.items())


def _luck_words(content: SearchContent) -> str:
    """Say how far two configurations may differ by luck alone."""
    metric = float(np.mean(list(content.winner.metrics.values())))
    error = math.sqrt(2 * metric * (1 - metric) / content.num_select)
    return (
        f"The select part has {content.num_select} samples: of so few, two configurations that are "
        f"equally good differ by {100 * error:.1f} points or so by luck (one standard error, if "
        "they erred independently), and the best of many more than that."
    )


def _test_words(test: Mapping[str, Any]) -> str:
    """Say what the winner is worth on the test split."""
    mine, theirs = test[WINNER], test[AS_IT_IS]
    ends, over = test.get("ci95"), "groups of samples"
    if ends is None:
        ends, over = test.get("seeds_ci95"), "seeds"
    about = ""
    if ends is not None:
        about = f" (95% interval over {over} {100 * ends[0]:+.1f} to {100 * ends[1]:+.1f})"
    again = f" It is look {test['looks']} of this search at that split." * (test["looks"] > 1)
    return (
        f"On the test split, which chose nothing, it has {_percent(mine['value'])} {test['metric']}"
        f" and the configuration as it is {_percent(theirs['value'])}, a gain of "
        f"{100 * test['gain']:+.1f} points{about}; means over {len(mine['seeds'])} seeds.{again}"
    )


def _test_rows(test: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, value and single seeds of what was measured on the test split."""
    rows = [("teacher", _percent(test["teacher"]), "")]
    for name in (AS_IT_IS, WINNER):
        if name in test:
            seeds = ", ".join(_percent(one) for one in test[name]["seeds"].values())
            rows.append((name, _percent(test[name]["value"]), seeds))
    return rows


def _mean(one: Finalist) -> str:
    """Return the mean of a finalist with its interval over seeds."""
    low, high = one.to_dict()["ci95"]
    if math.isnan(low):
        return f"{one.mean:.4f}"
    high = min(high, 1.0)  # nothing that is looked for goes beyond
    low = max(low, 0.0) if one.mean >= 0 else low
    return f"{one.mean:.4f} (over {len(one.fits)} seeds, 95% interval {low:.4f} to {high:.4f})"


def _percent(value: float) -> str:
    """Return a share in percent."""
    return f"{100 * value:.1f}%"


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


def _file(room: str, name: str) -> str:
    """Return the text of a file of this package."""
    return resources.files(f"mke_ray.{room}").joinpath(name).read_text(encoding="utf-8")
