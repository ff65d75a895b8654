"""Removes samples from every store of a run, so that nothing of them is left or comes back."""

import contextlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mke_ray.config_upkeep import ForgetConfig
from mke_ray.data.manifest import META, Manifest, Mark, evenly
from mke_ray.data.manifest.marks import FORGOTTEN
from mke_ray.data.manifest.tombstones import FoundRow, find_rows, scrub_rows
from mke_ray.data.manifest.writing import PROGRESS
from mke_ray.errors import ConfigError, StoreError
from mke_ray.evaluation.predictions import PREDICTIONS_FOLDER
from mke_ray.expansion.findings import FINDINGS_FOLDERS
from mke_ray.labels.asked import forget_asked
from mke_ray.labels.lease import Lease
from mke_ray.labels.probe import probe_part
from mke_ray.labels.scrub import delete_half_stores, scrub_units, stores_below
from mke_ray.schema import Split, sample_id
from mke_ray.storage import Root, open_root
from mke_ray.train.fits import DONE, FitSpec, FitStore, RowSelection

STORE_FOLDERS = ("samples", "labels", PREDICTIONS_FOLDER)
DERIVED_FOLDERS = ("report", "answers", "doubles", "mlartifacts", *FINDINGS_FOLDERS)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was removed.

    Args:
        num_rows: Rows of the manifest that were scrubbed; 0 where they had been before.
        num_units: Units of stores that were written anew.
        deleted: Folders that were deleted, since they may show the samples.
        fits: Trained networks that saw a sample, by fingerprint, with their names.
    """

    num_rows: int
    num_units: int
    deleted: tuple[str, ...]
    fits: dict[str, str]


def forget(jobs: Sequence[ForgetConfig]) -> None:
    """Forget the samples that a job names, and say what is left to do."""
    for job in jobs:
        keys = [job.uri] if isinstance(job.uri, str) else [str(one) for one in job.uri]
        if not keys and not job.sample_ids:
            raise ConfigError("uri=[] and sample_ids=[]: name what is to be forgotten")
        root = open_root(job.root, job.storage.options, patience_s=job.storage.patience_s)
        done = forget_samples(root, keys=keys, sample_ids=job.sample_ids, is_dry_run=job.dry_run)
        _say(root, done, is_dry_run=job.dry_run)


def forget_samples(
    root: Root,
    *,
    keys: Iterable[str] = (),
    sample_ids: Iterable[int] = (),
    is_dry_run: bool = False,
) -> Forgotten:
    """Remove samples from every store of a run; what is removed already stays so.

    The marks come first, so that nothing uses the samples from then on, and the manifest's own
    rows last, so that a removal that was interrupted finds them again.

    Args:
        root: Root of the run.
        keys: Keys in the source; every span of them.
        sample_ids: Samples.
        is_dry_run: Only look.

    Raises:
        ConfigError: A key or sample is not in the manifest and never was forgotten.
        StoreError: There is no run at the root, or another driver works on it.
    """
    keys, sample_ids = sorted(set(keys)), sorted(set(sample_ids))
    if not root.exists(f"manifest/{META}"):
        raise StoreError(f"root={root.uri} holds no finished manifest, so no run; correct root")
    with contextlib.ExitStack() as stack:
        lease = None if is_dry_run else stack.enter_context(Lease(root).held("forget"))
        manifest = Manifest.open(root.child("manifest"))
        tombstones = [sample_id(key) for key in keys]
        found = find_rows(manifest, keys=keys, sample_ids=[*sample_ids, *tombstones])
        fresh = [one for one in found if one.row.key]
        _check_known(manifest, found, keys, sample_ids)
        fits = _fits_that_saw(root, manifest, found)
        if lease is None:
            return Forgotten(len(fresh), 0, (), fits)
        manifest = manifest.add_marks(_marks_of(found, keys))
        num_units = _scrub_stores(root, found)
        lease.check(now=True)
        forget_asked(root, {one.row.sample_id for one in found})
        deleted = tuple(name for name in DERIVED_FOLDERS if _delete_folder(root, name))
        _delete_unfinished_listings(manifest)
        root.delete_unfinished(older_than_s=0.0)
        for name in (*DERIVED_FOLDERS, *STORE_FOLDERS):
            root.delete_empty_folders(name)
        scrub_rows(manifest, fresh)
    return Forgotten(len(fresh), num_units, deleted, fits)


def _check_known(
    manifest: Manifest, found: list[FoundRow], keys: list[str], sample_ids: list[int]
) -> None:
    """Refuse keys and samples that were never there.

    Raises:
        ConfigError: One of them was not; the error shows how keys look.
    """
    there = {one.row.key for one in found} | {one.row.sample_id for one in found}
    wanted = [(key, sample_id(key)) for key in keys] + [(one, one) for one in sample_ids]
    forgotten = manifest.mark_table().forgotten
    unknown = [name for name, one in wanted if name not in there and one not in forgotten]
    if not unknown:
        return
    is_key = isinstance(unknown[0], str)
    example = next((f", for example {one}" for one in _some_keys(manifest)), "")
    raise ConfigError(
        f"{'uri' if is_key else 'sample_ids'}={unknown[:3]}: {manifest.root.uri} has no such "
        f"sample; give it as the manifest has it{example if is_key else ''}"
    )


def _some_keys(manifest: Manifest) -> Iterable[str]:
    """Yield keys of the first unit."""
    for ref in manifest.unit_refs():
        yield from (row.key for row in manifest.read_unit(ref) if row.key)
        return


def _marks_of(found: list[FoundRow], keys: Iterable[str]) -> list[Mark]:
    """Return the marks of rows, and of keys, so that no span of these is added again."""
    marks = [Mark(one.row.sample_id, one.ref.unit, one.number, FORGOTTEN) for one in found]
    return marks + [Mark(sample_id(key), "", -1, FORGOTTEN) for key in keys]


def _scrub_stores(root: Root, found: list[FoundRow]) -> int:
    """Scrub the rows in every store, and return how many units were written anew."""
    rows: dict[str, set[int]] = {}
    for one in found:
        rows.setdefault(one.ref.unit, set()).add(one.number)
    for name in STORE_FOLDERS:
        delete_half_stores(root.child(name))
    stores = (store for name in STORE_FOLDERS for store in stores_below(root.child(name)))
    return sum(scrub_units(store, rows) for store in stores) if rows else 0


def _delete_unfinished_listings(manifest: Manifest) -> None:
    """Delete what a killed driver left of a listing: rows of it may be of the samples."""
    named = frozenset(manifest.parts())
    for name in list(manifest.root.names(recursive=False)):
        if name == PROGRESS or (name.startswith("part-") and name not in named):
            manifest.root.delete(name)


def _delete_folder(root: Root, folder: str) -> bool:
    """Delete the files of a folder and return whether there were any."""
    names = list(root.names(folder))
    for name in names:
        root.delete(name)
    return bool(names)


def _fits_that_saw(root: Root, manifest: Manifest, found: list[FoundRow]) -> dict[str, str]:
    """Return the finished fits that were trained on one of the rows, or begin with one of these."""
    store = FitStore(root)
    finished = [name.split("/")[1] for name in root.names("fits") if name.endswith(f"/{DONE}")]
    specs = {fit: FitSpec.from_dict(store.facts(fit)["spec"]) for fit in finished}
    taken = {fit: [one for one in found if _takes(spec, one)] for fit, spec in specs.items()}
    saw = {fit for fit, rows in taken.items() if rows and not specs[fit].data}
    for generation in range(manifest.generation + 1) if any(taken.values()) else ():
        then = Manifest.open_generation(manifest.root, generation)
        of_then = [fit for fit, rows in taken.items() if rows and _is_of(specs[fit], then)]
        in_use = _in_use(then, found) if of_then else frozenset()
        units = {fit: _units_read(specs[fit], then) for fit in of_then}
        saw |= {
            fit
            for fit in of_then
            if any(
                _place(one) in in_use
                and one.ref.unit in units[fit].get(one.row.split, {one.ref.unit})
                for one in taken[fit]
            )
        }
    while more := {fit for fit, spec in specs.items() if spec.init_from in saw} - saw:
        saw |= more
    return {fit: specs[fit].name for fit in sorted(saw)}


def _takes(spec: FitSpec, one: FoundRow) -> bool:
    """Return whether a fit was trained on a row, where that was in use."""
    return any(_selects(selection, spec, one) for selection in spec.rows)


def _units_read(spec: FitSpec, manifest: Manifest) -> dict[str, frozenset[str]]:
    """Return the units that a fit read of the splits of which it did not read all, by split."""
    rows: dict[str, list[RowSelection]] = {}
    for one in spec.rows:
        rows.setdefault(one.split, []).append(one)
    return {
        split: frozenset(
            ref.unit
            for one in some
            for ref in evenly([*manifest.unit_refs([split])], one.most or 0)
        )
        for split, some in rows.items()
        if all(one.most is not None for one in some)
    }


def _is_of(spec: FitSpec, manifest: Manifest) -> bool:
    """Return whether a fit was trained on a generation of the manifest, as far as one can tell."""
    return spec.data == manifest.digest(spec.splits)


def _place(one: FoundRow) -> tuple[str, int]:
    """Return the unit of a row and its number in it."""
    return one.ref.unit, one.number


def _in_use(manifest: Manifest, found: list[FoundRow]) -> frozenset[tuple[str, int]]:
    """Return which rows, by unit and number, a generation of the manifest has and uses."""
    parts, marks = frozenset(manifest.parts()), manifest.mark_table()
    return frozenset(
        _place(one)
        for one in found
        if one.ref.part in parts and one.number not in marks.reasons(one.ref.unit)
    )


def _selects(selection: RowSelection, spec: FitSpec, one: FoundRow) -> bool:
    """Return whether a selection of rows takes a row, as far as the manifest tells."""
    if selection.split != one.row.split:
        return False
    if selection.split != Split.PROBE or selection.part is None:
        return True
    part = probe_part(one.row.group, seed=spec.probe_seed, select_fraction=spec.select_fraction)
    return part == selection.part


def _counted(number: int, word: str) -> str:
    """Return a number with its word."""
    return f"{number:,} {word if number == 1 else f'{word}s'}"


def _say(root: Root, done: Forgotten, *, is_dry_run: bool) -> None:
    """Log what was done and what is left to do."""
    if is_dry_run:
        rows = _counted(done.num_rows, "sample")
        logger.info("%s would be forgotten; nothing was removed", rows)
    else:
        rows, units = _counted(done.num_rows, "sample"), _counted(done.num_units, "unit")
        logger.info("forgot %s in %s and wrote %s anew", rows, root.uri, units)
    for folder in done.deleted:
        logger.info("%s was deleted, since it may show them", root.child(folder).uri)
    if done.deleted:
        logger.info("run jobs/evaluate.py or jobs/expand.py again for a new report")
    for fit, name in done.fits.items():
        logger.info("trained on them: %s (fits/%s)", name, fit)
    if done.fits:
        logger.info(
            "run jobs/expand.py again to train these anew, and delete their folders then; labels "
            "of a teacher among them, students of such labels and exported students carry its "
            "traces too"
        )
    logger.info("the files in the source itself, and copies in MLflow elsewhere, are yours")
