"""The proof that the stores of a finished pass hold every row of the manifest exactly once."""

import logging

from mke_ray.data.manifest import Manifest
from mke_ray.errors import StoreError
from mke_ray.expansion.stages import Labels
from mke_ray.labels.store import UnitStore
from mke_ray.labels.verify import VerifyReport, verify
from mke_ray.report.progress import stage_progress

_MOST_SHOWN = 5

logger = logging.getLogger(__name__)


def verify_stage(manifest: Manifest, labels: Labels) -> None:
    """Compare samples and labels with the manifest, row by row, and every file with its digest.

    Raises:
        StoreError: A row is missing, is there twice or is another one, or a file is damaged.
    """
    more = {f"labels of {name}": store for name, store in labels.more.items()}
    stores = {"samples": labels.samples, "labels": labels.labels, **more}
    for title, store in stores.items():
        with stage_progress(f"verify {title}", unit="rows") as progress:
            of = None if store is labels.samples else labels.samples
            report = verify(store, manifest, samples=of, progress=progress)
        if not report.ok:
            raise StoreError(_what_is_wrong(store, report))
        logger.info(
            "%s holds each of %d rows of %d units exactly once; files of killed workers that "
            "nothing names: %d",
            store.root.uri,
            report.num_rows,
            report.num_units,
            report.num_orphans,
        )


def _what_is_wrong(store: UnitStore, report: VerifyReport) -> str:
    """Return the first problems and the way out."""
    shown = "; ".join(
        f"unit {one.unit} {one.kind}{f' ({one.detail})' if one.detail else ''}"
        for one in report.problems[:_MOST_SHOWN]
    )
    return (
        f"{store.root.uri}: {len(report.problems)} problems in {report.num_units} units: {shown}. "
        "Delete the commit records of these units (below commits/) and start jobs/label.py again, "
        "which writes them anew"
    )
