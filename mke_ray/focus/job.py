"""``jobs/focus.py``: what distillation between modalities gives, and by which channels."""

from collections.abc import Sequence

from mke_ray.config_schema import JobConfig
from mke_ray.errors import ConfigError
from mke_ray.focus.distilling_study import check_distilling, distilling_content, distilling_plan
from mke_ray.focus.gaussian_study import gaussian_content, gaussian_plan
from mke_ray.focus.keys import GAUSSIAN, check_focus
from mke_ray.focus.page import focus_terminal, write_focus
from mke_ray.focus.rehearsal import rehearse_draw, rehearse_gaussian
from mke_ray.report.terminal import terminal
from mke_ray.storage import open_root


def focus(jobs: Sequence[JobConfig]) -> None:
    """Carry out the study that a job names, and write its page.

    Args:
        jobs: One configuration per draw of the data.

    Raises:
        ConfigError: Something in the configuration cannot work.
    """
    job, console = jobs[0], terminal()
    check_focus(job.focus)
    is_gaussian = job.focus.study == GAUSSIAN
    if not is_gaussian:
        check_distilling(job)
    elif len(jobs) > 1:
        raise ConfigError(
            "data_seeds: focus.study=gaussian draws its own data; choose how often with "
            "focus.gaussian.num_seeds"
        )
    if job.dry_run:
        for line in _rehearsed(jobs, is_gaussian=is_gaussian):
            console.print(line, soft_wrap=True)
        console.print(f"nothing was written to {_home(jobs)}", soft_wrap=True)
        return
    content = gaussian_content(job) if is_gaussian else distilling_content(jobs)
    page = write_focus(open_root(_home(jobs), job.storage.options), content)
    console.print(focus_terminal(content))
    console.print(f"Page: {page}", soft_wrap=True)


def _rehearsed(jobs: Sequence[JobConfig], *, is_gaussian: bool) -> list[str]:
    """Rehearse the first draw, and say what would be trained on all of them."""
    if is_gaussian:
        return [*gaussian_plan(jobs[0]), *rehearse_gaussian(jobs[0])]
    return [*distilling_plan(jobs), *rehearse_draw(jobs[0])]


def _home(jobs: Sequence[JobConfig]) -> str:
    """Return the folder of all draws: that of the only one, or the one that holds theirs."""
    return jobs[0].root if jobs[0].data_seeds is None else jobs[0].root.rsplit("/", 1)[0]
