"""The synthetic study from configuration to content of its page."""

import time
from collections.abc import Sequence

from mke_ray.config_schema import JobConfig
from mke_ray.focus.carrying import carried_out
from mke_ray.focus.gaussian import EXPERIMENTS, Work, carry_out, layouts_of
from mke_ray.focus.gaussian_figures import gaussian_pictures
from mke_ray.focus.gaussian_summary import said_of, summary_of, tables_of, tiles_of
from mke_ray.focus.keys import GAUSSIAN
from mke_ray.focus.page import FocusContent

SEEDS_TOGETHER = 5


def gaussian_content(job: JobConfig) -> FocusContent:
    """Carry out the synthetic study and return what there is to say of it."""
    began_s = time.monotonic()
    made = carried_out(carry_out, works_of(job), job, unit="parts")
    records = [record for some in made for record in some]
    summary = summary_of(records)
    keys = job.focus.gaussian
    return FocusContent(
        title=f"{job.name} · {keys.num_seeds} seeds",
        said=said_of(summary),
        tiles=tiles_of(summary),
        pictures=gaussian_pictures(summary),
        tables=tables_of(summary),
        plain={
            "experiment": job.name,
            "study": GAUSSIAN,
            "metric": "accuracy",
            "data_seed": job.data_seed,
            "num_seeds": keys.num_seeds,
            "rho": job.focus.rho,
            "temperature": job.focus.temperature,
            **summary,
            "records": records,
        },
        seconds=time.monotonic() - began_s,
        notes=[
            f"Linear classifiers on {keys.num_train} samples, {keys.num_steps} full-batch steps "
            f"at a learning rate of {keys.lr:g}; {keys.num_test} samples for the test. A distilled "
            f"student learns {job.focus.rho:.2f} of the true labels and the rest from the teacher, "
            f"at temperature {job.focus.temperature:g}.",
        ],
    )


def gaussian_plan(job: JobConfig) -> list[str]:
    """Return in lines what would be trained."""
    keys = job.focus.gaussian
    nums = [len(layouts_of(name, keys)) for name in EXPERIMENTS]
    named = ", ".join(f"{name} {num}" for name, num in zip(EXPERIMENTS, nums, strict=True))
    return [
        f"study           gaussian: settings {named}; {keys.num_seeds} seeds each, "
        f"{keys.num_steps} steps",
        f"parts           {len(works_of(job))}, {job.scaling.launch}",
    ]


def works_of(job: JobConfig) -> list[Work]:
    """Return the parts of the study: a few seeds of one experiment each."""
    keys, focus = job.focus.gaussian, job.focus
    seeds = range(job.data_seed, job.data_seed + keys.num_seeds)
    return [
        Work(name, some, keys, focus.rho, focus.temperature, focus.num_permutations)
        for name in reversed(EXPERIMENTS)  # the longest first
        if layouts_of(name, keys)
        for some in _split(seeds)
    ]


def _split(seeds: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the seeds a few at a time."""
    return [
        tuple(seeds[first : first + SEEDS_TOGETHER])
        for first in range(0, len(seeds), SEEDS_TOGETHER)
    ]
