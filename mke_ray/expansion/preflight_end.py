"""What a pre-flight leaves beside its page: numbers, figures, and the end of a run that stops."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from mke_ray.expansion.preflighting import named, what_follows
from mke_ray.expansion.run import Run
from mke_ray.focus.preflight import Preflight
from mke_ray.focus.preflight_page import PAGE_NAME, badge_of, preflight_pictures
from mke_ray.report.page import REPORT_FOLDER
from mke_ray.report.style import Picture


def end_with_preflight(
    run: Run, found: Preflight, *, console: Console | None = None
) -> dict[str, Any]:
    """End a run that is not worth its training, and say so.

    Args:
        run: The run.
        found: What its pre-flight found.
        console: Where the end is printed; None prints nothing.

    Returns:
        What stands in the place of ``report/metrics.json``.
    """
    page = run.root.child(REPORT_FOLDER, PAGE_NAME).uri
    if (tracker := run.tracker()) is not None:
        tracker.log_metrics(preflight_numbers(found.to_dict()))
        tracker.set_tags({"verdict": f"pre-flight: {found.verdict}", "report": page})
        if run.root.is_local:
            tracker.log_artifacts(run.root.path(REPORT_FOLDER))
        tracker.finish()
    if console is not None:
        word, _ = badge_of(found.verdict)
        console.print(Text.assemble((word, "bold red"), found.said.removeprefix(word)))
        for line in (*(f"  {one}" for one in found.reasons), what_follows(run, found)):
            console.print(Text(line))
        if run.root.exists(f"{REPORT_FOLDER}/metrics.json"):
            console.print(
                "An earlier report and student in this root stay; they are not of this start."
            )
        console.print(f"Report: {page}", soft_wrap=True)
    return {"experiment": run.job.name, "seed": run.job.seed, "preflight": found.to_dict()}


def preflight_numbers(plain: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the numbers of a pre-flight that are compared between runs, none of none.

    Args:
        plain: Plain data of a pre-flight.
    """
    if plain is None or plain["gain"] is None:
        return {}
    evidence = plain["evidence"]
    found = {"gain": plain["gain"], "probability": plain["probability"]}
    for name in ("teacher", "witness", "joined", "trial", "gamma"):
        if evidence[name] is not None:
            found[name] = evidence[name]["value"]
    return {f"preflight/{name}": value for name, value in found.items()}


def preflight_figures(run: Run, found: Preflight | None) -> list[Picture]:
    """Return the figures of a pre-flight, none where there was none."""
    return [] if found is None else preflight_pictures(found.evidence, **named(run))
