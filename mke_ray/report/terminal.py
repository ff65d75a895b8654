"""The report in a few lines for the terminal."""

import sys
from collections.abc import Mapping

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from mke_ray.evaluation import ArmResult
from mke_ray.report.content import (
    ReportContent,
    headline,
    metric_word,
    refined_lines,
)
from mke_ray.report.contribution import contribution_line
from mke_ray.report.never_answered import never_answered_line
from mke_ray.report.style import arm_title
from mke_ray.schema import StatusCounts

LOG_WIDTH = 120
VERDICT_WORDS = {
    "promoted": "Promoted",
    "inconclusive": "Not settled",
    "rejected": "Not promoted",
    "unverified": "Not verified",
}
_VERDICT_STYLES = {
    "promoted": "bold green",
    "inconclusive": "bold yellow",
    "rejected": "bold red",
    "unverified": "bold yellow",
}


def terminal() -> Console:
    """Return the standard output; a log file is as wide as the table of arms.

    Brackets and colons in what is printed stand for themselves: values of keys have them.
    """
    is_terminal = Console(file=sys.stdout).is_terminal
    width = None if is_terminal else LOG_WIDTH
    return Console(file=sys.stdout, width=width, markup=False, emoji=False)


def terminal_report(content: ReportContent) -> Group:
    """Return the table of arms and the verdict, to be printed by a job with rich."""
    verdict = content.decision.verdict
    said = Text.assemble(
        (f"{VERDICT_WORDS.get(verdict, verdict)}. ", _VERDICT_STYLES.get(verdict, "bold")),
        content.decision.reason,
    )
    never = never_answered_line(content)
    lines = [*([never] if never else []), counts_line(content.counts), *_doubles(content)]
    lines += [*content.shared_groups, *content.source_notes]
    lines += refined_lines(content)
    lines += [one for one in [contribution_line(content.contribution)] if one]
    return Group(_arms_table(content), Text(headline(content)), said, *map(Text, lines))


def _arms_table(content: ReportContent) -> Table:
    """Return the table of arms."""
    table = Table(title=None, box=None, pad_edge=False)
    table.add_column("arm", no_wrap=True)
    for name in (metric_word(content.evaluation.metric), "95% interval", "gain", "95% interval"):
        table.add_column(name, justify="right")
    is_dense = any(one.pixel_accuracy is not None for one in content.evaluation.arms.values())
    for name in (*(["pixel accuracy"] if is_dense else []), "corrected", "corrupted"):
        table.add_column(name, justify="right")
    for arm, result in content.evaluation.arms.items():
        style = "bold" if arm == content.shipped else ""
        table.add_row(arm_title(arm), *_arm_cells(result, is_teacher=arm == "teacher"), style=style)
    return table


def _arm_cells(result: ArmResult, *, is_teacher: bool) -> list[str]:
    """Return the numbers of one arm."""
    flow = result.flow
    return [
        percent(result.value),
        percent_range(result.ci95),
        "" if is_teacher else f"{100 * result.gain:+.1f}",
        "" if is_teacher else points_range(result.gain_ci95),
        *([] if result.pixel_accuracy is None else [percent(result.pixel_accuracy)]),
        "" if flow is None else percent(flow.corrected),
        "" if flow is None else percent(flow.corrupted),
    ]


def percent(share: float | None) -> str:
    """Return a share as a percentage, a dash where it cannot be told."""
    return "-" if share is None else f"{share:.1%}"


def percent_range(ends: tuple[float, float] | None) -> str:
    """Return an interval of shares."""
    return "-" if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def points_range(ends: tuple[float, float] | None) -> str:
    """Return an interval of differences in points."""
    return "-" if ends is None else f"{100 * ends[0]:+.1f} to {100 * ends[1]:+.1f}"


def counts_line(counts: StatusCounts) -> str:
    """Return what became of the inputs, with the reasons beside what they explain."""
    retry = f", {counts.retry:,} to retry" if counts.retry else ""
    return (
        f"{counts.samples:,} {'sample' if counts.samples == 1 else 'samples'}: {counts.ok:,} ok, "
        f"{counts.partial:,} partial{_reasons(counts.partial_reasons)}, "
        f"{counts.bad:,} bad{retry}{_reasons(counts.reasons)}"
    )


def _reasons(reasons: Mapping[str, int]) -> str:
    """Return reasons in brackets, the most frequent first; nothing where there are none."""
    ranked = sorted(reasons.items(), key=lambda one: (-one[1], one[0]))
    return f" ({', '.join(f'{reason} {number:,}' for reason, number in ranked)})" if ranked else ""


def _doubles(content: ReportContent) -> list[str]:
    """Return a line on what occurs twice, none where nothing does."""
    found = [
        f"{split} {kind.replace('_', ' ')} {number:,}"
        for split, kinds in (content.doubles or {}).items()
        for kind, number in kinds.items()
    ]
    if not found:
        return []
    return [f"doubles: {', '.join(found)}; {content.num_excluded_doubles:,} left out"]
