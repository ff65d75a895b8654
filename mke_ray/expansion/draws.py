"""Several draws of the data side by side: the honest spread of a method."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from rich.table import Table

from mke_ray.config_schema import JobConfig
from mke_ray.data.sources import Placed
from mke_ray.expansion.checks import check_job
from mke_ray.expansion.run import Run
from mke_ray.expansion.whole import run_stages
from mke_ray.ray_tasks import run_tasks
from mke_ray.report.progress import stage_progress
from mke_ray.report.style import arm_title
from mke_ray.report.terminal import terminal
from mke_ray.storage import open_root

TEACHER = "teacher"

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def expand_draws(jobs: Sequence[JobConfig]) -> dict[str, Any]:
    """Expand every draw in a Ray task of its own and write their comparison beside them.

    Args:
        jobs: One configuration per draw; stages and fits run inside the task.

    Returns:
        The content of ``draws.json`` in the folder that holds the draws.
    """
    run = check_job(jobs[0])
    with run.stack:
        if isinstance(run.source, Placed) and run.job.refresh:  # cheap, and before Ray starts
            run.source.prepare()
        run.connect()
        drawn = [inside_one_task(job) for job in jobs]
        metrics = side_by_side(run_stages, drawn, run, title="expand", unit="draws")
    summary = summarise(metrics)
    folder = open_root(jobs[0].root.rsplit("/", 1)[0], jobs[0].storage.options)
    folder.write("draws.json", json.dumps(summary, indent=2).encode())
    console = terminal()
    console.print(draws_table(summary))
    console.print(f"Report: {folder.uri}/draws.json", soft_wrap=True)
    return summary


def summarise(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean and spread of every arm over draws of the data that went to their end.

    Args:
        metrics: ``metrics.json`` of every draw; one that its pre-flight ended has no arms.
    """
    arms, whole = {}, [one for one in metrics if "arms" in one]
    for arm in whole[0]["arms"] if whole else ():
        value_N = np.asarray([one["arms"][arm]["value"] for one in whole])
        gain_N = np.asarray([one["arms"][arm]["gain"] for one in whole])
        arms[arm] = {
            "value": float(value_N.mean()),
            "std": float(value_N.std()),
            "gain": float(gain_N.mean()),
            "gain_std": float(gain_N.std()),
            "above_teacher": float((gain_N > 0).mean()),
        }
    verdicts = [one["gate"]["verdict"] for one in whole]
    ahead = [one["preflight"]["verdict"] for one in metrics if one.get("preflight")]
    num_ended = len(metrics) - len(whole)
    return {
        "experiment": metrics[0]["experiment"],
        "num_draws": len(metrics),
        **({"num_ended_by_preflight": num_ended} if num_ended else {}),
        **({"preflights": {one: ahead.count(one) for one in sorted(set(ahead))}} if ahead else {}),
        "arms": arms,
        "verdicts": {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))},
    }


def draws_table(summary: Mapping[str, Any]) -> Table:
    """Return the comparison as a table for the terminal."""
    ended = summary.get("num_ended_by_preflight", 0)
    said = f"{summary['num_draws']} draws of the data"
    if ended:
        said += f"; {ended} ended with their pre-flight, and the means are of the others"
    table = Table(title=said, box=None, pad_edge=False)
    table.add_column("arm", no_wrap=True)
    for name in ("test", "gain over teacher", "above teacher"):
        table.add_column(name, justify="right")
    for arm, one in summary["arms"].items():
        cells = [f"{100 * one['value']:.1f} ± {100 * one['std']:.1f}"]
        if arm != TEACHER:
            cells.append(f"{100 * one['gain']:+.1f} ± {100 * one['gain_std']:.1f}")
            cells.append(f"{one['above_teacher']:.0%}")
        table.add_row(arm_title(arm), *cells)
    return table


def side_by_side(
    work: Callable[[_Given], _Made], given: Sequence[_Given], run: Run, *, title: str, unit: str
) -> list[_Made]:
    """Do some work on several things, each in a Ray task, and return the results in order.

    Args:
        work: What is done on each, in the task.
        given: What it is done on; ``inside_one_task`` makes a job fit for it.
        run: A run that is connected to Ray, whose ``scaling`` says what a task takes.
        title: Title of the progress.
        unit: What is counted.
    """
    scaling = run.job.scaling
    with stage_progress(title, unit=unit) as progress:
        return run_tasks(
            work,
            given,
            num_cpus=scaling.cpus_per_worker,
            num_gpus=scaling.gpus_per_worker,
            pool=scaling.pool,
            report=progress,
        )


def inside_one_task(job: JobConfig) -> JobConfig:
    """Return the job of a draw as it runs inside its task, without Ray and MLflow of its own."""
    return replace(
        job,
        labelling=replace(job.labelling, runner="local"),
        scaling=replace(job.scaling, launch="local"),
        tracking=replace(job.tracking, enabled=False),
        engine={"type": "torch"},
    )
