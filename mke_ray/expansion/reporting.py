"""Makes the page of a run again from what is stored, and puts several runs side by side."""

import logging
from collections.abc import Iterator, Sequence

from mke_ray.config_upkeep import ReportConfig
from mke_ray.data.manifest import META
from mke_ray.errors import ConfigError
from mke_ray.labels.lease import Lease
from mke_ray.report import terminal_report, write_report
from mke_ray.report.compare_page import comparison_terminal, write_comparison
from mke_ray.report.comparing import compare
from mke_ray.report.stored import CONTENT_NAME, stored_run
from mke_ray.report.terminal import terminal
from mke_ray.storage import Root, open_root

logger = logging.getLogger(__name__)

_DRAWS = "draws.json"


def report(jobs: Sequence[ReportConfig]) -> None:
    """Render the page of one run again, or compare several."""
    for job in jobs:
        _report(job)


def _report(job: ReportConfig) -> None:
    """Carry out one job.

    Raises:
        ConfigError: No root is given, or one twice.
        StoreError: A run is unfinished, or cannot be compared with the first.
    """
    given = [job.roots] if isinstance(job.roots, str) else job.roots or []
    named = [_opened(str(one), job) for one in given]
    roots = [one for root in named for one in _runs_below(root)]
    _check(roots)
    runs = [stored_run(one) for one in roots]
    console = terminal()
    if len(runs) == 1:
        console.print(terminal_report(runs[0].content))
        if not job.dry_run:
            with Lease(roots[0]).held("report"):
                page = write_report(roots[0], runs[0].content, runs[0].scores)
            console.print(f"Report: {page}", soft_wrap=True)
        return
    found = compare(runs)
    console.print(comparison_terminal(found))
    if not job.dry_run:
        page = write_comparison(_opened(job.out, job), found)
        console.print(f"Comparison: {page}", soft_wrap=True)


def _opened(uri: str, job: ReportConfig) -> Root:
    """Return a folder as the job reaches it."""
    return open_root(uri, job.storage.options, patience_s=job.storage.patience_s)


def _runs_below(root: Root) -> Iterator[Root]:
    """Yield the root of a run, or of every draw where a root holds draws of the data."""
    if root.exists(f"report/{CONTENT_NAME}") or not root.exists(_DRAWS):
        yield root
        return
    number = 0
    while (one := root.child(f"data-seed-{number}")).exists(f"manifest/{META}"):
        yield one
        number += 1


def _check(roots: Sequence[Root]) -> None:
    """Refuse to compare nothing, or a run with itself.

    Raises:
        ConfigError: It says which.
    """
    if not roots:
        raise ConfigError("roots=[]; name the root of one run for its page, or of several")
    seen: set[str] = set()
    for one in roots:
        if one.uri in seen:
            raise ConfigError(f"roots: {one.uri} is there twice; name every run once")
        seen.add(one.uri)
