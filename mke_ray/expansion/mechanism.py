"""Why a student becomes better than its teacher: all draws and settings, their figures and page."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from mke_ray.config_schema import JobConfig
from mke_ray.expansion.checks import check_job
from mke_ray.expansion.draws import inside_one_task, side_by_side
from mke_ray.expansion.mechanism_plan import Setting, check_mechanism, settings_of
from mke_ray.expansion.mechanism_setting import known_record, measure_setting
from mke_ray.expansion.mechanism_summary import (
    gain_curves,
    guesses,
    plane_of,
    reaches,
    summary_of,
)
from mke_ray.expansion.run import Run
from mke_ray.report.mechanism_figures import gains_picture, guesses_picture
from mke_ray.report.mechanism_page import MechanismContent, mechanism_terminal, write_mechanism
from mke_ray.report.mechanism_reach import plane_picture, reach_picture
from mke_ray.report.progress import quiet_stages, stage_progress
from mke_ray.report.style import Picture
from mke_ray.report.terminal import terminal
from mke_ray.storage import open_root

LOCAL = "local"


def measure_mechanism(jobs: Sequence[JobConfig]) -> dict[str, Any]:
    """Train and measure every draw in every setting, and write the page that says what was found.

    Settings that an earlier start has measured are not measured again. With
    ``scaling.launch=local`` they follow each other in this process, else they are Ray tasks.

    Args:
        jobs: One configuration per draw of the data.

    Returns:
        The summary that ``mechanism.json`` begins with.

    Raises:
        ConfigError: Something cannot be trained or measured.
    """
    began_s = time.monotonic()
    run = check_job(jobs[0])
    check_mechanism(jobs, run.source)
    settings = _settings(jobs)
    known = [known_record(one) for one in settings]
    todo = [one for one, record in zip(settings, known, strict=True) if record is None]
    with run.stack:
        made = iter(_measure_all(todo, run))
        records = [next(made) if record is None else record for record in known]
    alpha = float(jobs[0].objective["alpha"])
    content = MechanismContent(
        experiment=jobs[0].name,
        summary=_finite(summary_of(records, alpha=alpha)),
        records=records,
        pictures=pictures_of(records, alpha=alpha),
        seconds=time.monotonic() - began_s,
        num_known=len(settings) - len(todo),
    )
    root = open_root(_home(jobs), jobs[0].storage.options)
    page = write_mechanism(root, content)
    console = terminal()
    console.print(mechanism_terminal(content))
    console.print(f"Page: {page}", soft_wrap=True)
    return dict(content.summary)


def rehearse_mechanism(jobs: Sequence[JobConfig], console: Console) -> None:
    """Check the keys and say how much there is to train; write nothing.

    Raises:
        ConfigError: Something cannot be trained or measured.
    """
    run = check_job(jobs[0])
    check_mechanism(jobs, run.source)
    settings = _settings(jobs)
    num_known = sum(known_record(one) is not None for one in settings)
    num_fits = sum(len(run.arms) * len(one.variants()) for one in settings)
    console.print(
        f"mechanism       {len(jobs)} draws, {len(settings)} runs and at most {num_fits} students; "
        f"{num_known} runs are measured already"
    )


def pictures_of(records: Sequence[Mapping[str, Any]], *, alpha: float) -> list[Picture]:
    """Return the figures that there are numbers for."""
    drawn = []
    if (plane := plane_of(records)) is not None:
        drawn.append(plane_picture(plane))
    drawn.append(reach_picture(reaches(records), alpha=alpha))
    if found := guesses(records):
        drawn.append(guesses_picture(found))
    curves = gain_curves(records)
    if any(curves.values()):
        drawn.append(gains_picture(curves))
    return drawn


def _settings(jobs: Sequence[JobConfig]) -> list[Setting]:
    """Return the settings of all draws, each to be carried out in one process."""
    return [one for job in jobs for one in settings_of(inside_one_task(job))]


def _measure_all(settings: Sequence[Setting], run: Run) -> list[dict[str, Any]]:
    """Measure settings in this process or as Ray tasks, and return their records in order."""
    if not settings:
        return []
    if run.job.scaling.launch != LOCAL:
        run.connect()
        return side_by_side(measure_setting, settings, run, title="mechanism", unit="runs")
    records = []
    with stage_progress("mechanism", unit="runs") as progress, quiet_stages():
        for number, one in enumerate(settings):
            sizes = ", ".join(f"{key.removeprefix('num_')} {n:,}" for key, n in one.sizes.items())
            progress(number, len(settings), f"draw {one.job.data_seed}: {sizes}")
            records.append(measure_setting(one))
        progress(len(settings), len(settings))
    return records


def _home(jobs: Sequence[JobConfig]) -> str:
    """Return the folder of all draws: that of the only one, or the one that holds theirs."""
    return jobs[0].root if jobs[0].data_seeds is None else jobs[0].root.rsplit("/", 1)[0]


def _finite(value: Any) -> Any:
    """Return plain data in which numbers that are not finite are None."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
