"""The stage that keeps copies of test and probe samples out of training."""

from collections.abc import Sequence

from mke_ray.data.manifest import Manifest
from mke_ray.expansion.run import Run
from mke_ray.expansion.work import samples_of
from mke_ray.labels.doubles import ALL_SPLITS, DoublesReport, mark_doubles
from mke_ray.labels.probe import ProbeDivision


def doubles_stage(
    run: Run, manifest: Manifest, *, splits: Sequence[str] = ALL_SPLITS
) -> tuple[Manifest, DoublesReport | None]:
    """Mark the copies among the samples that are decoded.

    Args:
        run: The run.
        manifest: Its manifest.
        splits: Splits to look through.

    Returns:
        The newest manifest, and what was found; None where ``doubles.enabled=false``.
    """
    newest = Manifest.open(manifest.root)
    doubles = run.job.doubles
    if not doubles.enabled:
        return newest, None
    samples = samples_of(run)
    return mark_doubles(
        run.root,
        samples,
        newest,
        splits=splits,
        within_unlabeled=doubles.within_unlabeled,
        division=ProbeDivision(select_fraction=run.job.gate.select_fraction),
    )
