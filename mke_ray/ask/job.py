"""``jobs/ask.py``: which unlabeled samples people should label, as a sheet and a table."""

import logging
import posixpath
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mke_ray.ask.drawing import AGREE, DISAGREE, LEAST_GROUPS, Group, draw_groups, draw_unsure
from mke_ray.ask.pool import Place, Pool, PoolReader, asked_rows
from mke_ray.ask.sheet import card_of, sheet_page, sheet_png
from mke_ray.config_ask import SETTLE, AskConfig
from mke_ray.config_schema import JobConfig
from mke_ray.data.manifest import Manifest
from mke_ray.data.text_files import text_tokenizers
from mke_ray.errors import ConfigError
from mke_ray.evaluation import FitColumn
from mke_ray.expansion.checks import check_job, open_run
from mke_ray.expansion.doubles import doubles_stage
from mke_ray.expansion.run import Run
from mke_ray.expansion.stages import Labels, known_labels, known_teacher, predict_columns
from mke_ray.expansion.whole import fits_of, refine_stage
from mke_ray.expansion.work import origin_of
from mke_ray.labels.asked import (
    ASKED_FOLDER,
    PAGE_NAME,
    PICTURE_NAME,
    TABLE_NAME,
    AskedSample,
    AskRecord,
    records_of,
    table_of,
)
from mke_ray.labels.probe import GATE, SELECT
from mke_ray.labels.sample_reader import sample_reader
from mke_ray.schema import LabelKind, Split, fingerprint
from mke_ray.train.fits import FitStore

logger = logging.getLogger(__name__)


def ask(jobs: Sequence[JobConfig]) -> None:
    """Ask for labels of every draw of the data."""
    for job in jobs:
        if job.dry_run:
            check_job(job)
            logger.info("%s: %s", job.root, planned_line(job.ask))
            continue
        with open_run(job) as run:
            logger.info("%s", ask_of(run))


def planned_line(keys: AskConfig) -> str:
    """Return how many samples would be asked for, as far as that is known before a draw."""
    said = f"about {keys.num:,} samples would be asked for"
    if keys.purpose != SETTLE:
        return f"{said}; groups are whole"
    return (
        f"{said}, more where they are few: at least {LEAST_GROUPS} groups from each of the strata "
        f"{DISAGREE} and {AGREE}, and groups are whole"
    )


def more_than_wanted(record: AskRecord) -> str:
    """Return why a draw has more samples than were wanted, "" where it has not."""
    if not 0 < record.num < len(record.samples):
        return ""
    strata = {one.stratum for one in record.samples if one.stratum}
    word = "stratum" if len(strata) == 1 else "strata"
    least = f"at least {LEAST_GROUPS} groups from each of {len(strata)} {word}, and "
    return f" (asked for {record.num:,}: {least if strata else ''}groups are whole)"


def ask_of(run: Run) -> str:
    """Draw samples of a finished run, and write sheet and table below ``asked/``.

    Returns:
        What was asked for, and where it is.

    Raises:
        ConfigError: Nothing can be asked for.
        StoreError: The student is not trained yet.
    """
    if run.source.label_space.kind is LabelKind.DENSE:
        raise ConfigError("jobs/ask.py asks for names of classes, and dense labels are maps")
    asking = _Asking.of(run)
    pool = asking.pool()
    groups = pool.groups(most=run.job.ask.max_per_group)
    if not groups:
        raise ConfigError(
            "no group of unlabeled samples can be asked for: they are in other splits too, have "
            f"more than ask.max_per_group={run.job.ask.max_per_group} samples, cannot be read, or "
            f"belong to the other part of the probe (gate.select_fraction); raise "
            "ask.max_per_group, or give the source unlabeled samples of new groups"
        )
    record, places = asking.drawn(pool, groups)
    record.write(run.root)
    return _written(asking, record, places)


@dataclass(frozen=True, slots=True)
class _Asking:
    """A finished run, and what asks of it.

    Args:
        run: The run.
        manifest: Its samples.
        labels: The teacher's labels.
        fit: Fingerprint of the student.
    """

    run: Run
    manifest: Manifest
    labels: Labels
    fit: str

    @classmethod
    def of(cls, run: Run) -> "_Asking":
        manifest = run.manifest()
        teacher = known_teacher(run, manifest)
        labels = known_labels(run, manifest, teacher)
        manifest, _ = doubles_stage(run, manifest)
        refined = refine_stage(run, manifest, labels, teacher, is_known=True)
        fits = fits_of(run, manifest, labels, teacher, refined)
        shipped = next((one.fingerprint() for one in fits if one.arm == run.shipped), None)
        if shipped is None or not FitStore(run.root).has(shipped):
            raise ConfigError(
                f"{run.root.uri} has no trained {run.shipped}; run jobs/expand.py first, with the "
                "same settings"
            )
        return cls(run, manifest, labels, shipped)

    @property
    def part(self) -> str:
        """The part of the probe that is asked for."""
        return GATE if self.run.job.ask.purpose == SETTLE else SELECT

    def pool(self) -> Pool:
        """Return the unlabeled samples of the part, and what is said of them."""
        run = self.run
        column = FitColumn(run.shipped, run.job.model_seeds[0], self.fit)
        predictions = predict_columns(
            run,
            self.manifest,
            self.labels,
            [column],
            refs=list(self.manifest.unit_refs([Split.UNLABELED])),
        )
        return PoolReader(
            self.manifest,
            self.labels.labels,
            predictions,
            self.fit,
            self.part,
            run.job.gate.select_fraction,
        ).read()

    def drawn(self, pool: Pool, groups: Sequence[Group]) -> tuple[AskRecord, dict[str, Place]]:
        """Return what is drawn, and where each sample of it is, by its name in the table.

        A draw that was made with the same keys is that draw; others leave its groups alone while
        there are more.
        """
        keys = self.run.job.ask
        records = records_of(self.run.root)
        wanted = (self.fit, keys.purpose, keys.seed, keys.num)
        same = next((r for r in records if (r.fit, r.purpose, r.seed, r.num) == wanted), None)
        if same is not None:
            return same, self._places(pool, same)
        taken = frozenset(one.group for record in records for one in record.samples)
        strata, shares, worth = self._chosen(pool, groups, taken)
        name = f"q{fingerprint([*wanted, sorted(strata)])[:6]}"
        rows = list(asked_rows(self.manifest, pool, list(strata)))
        random.Random(f"{keys.seed}").shuffle(rows)  # noqa: S311 - a place says nothing of a stratum
        samples = tuple(
            AskedSample(
                f"{name}-{number:04d}",
                row.sample_id,
                row.key,
                row.start_s,
                row.end_s,
                group,
                strata[group],
            )
            for number, (group, _, row) in enumerate(rows, start=1)
        )
        record = AskRecord(
            name, keys.purpose, self.fit, keys.seed, worth, shares, samples, num=keys.num
        )
        return record, self._places(pool, record)

    def _places(self, pool: Pool, record: AskRecord) -> dict[str, Place]:
        """Return where the samples of a draw are, but for those that are forgotten."""
        names = {one.sample_id: one.id for one in record.samples}
        groups = {one.group for one in record.samples} & set(pool.places)
        rows = asked_rows(self.manifest, pool, groups)
        return {names[row.sample_id]: place for _, place, row in rows if row.sample_id in names}

    def _chosen(
        self, pool: Pool, groups: Sequence[Group], taken: Collection[str]
    ) -> tuple[dict[str, str], dict[str, float], float]:
        """Return the stratum of each chosen group, the shares of the strata, and the worth."""
        keys = self.run.job.ask
        if keys.purpose == SETTLE:
            draw = draw_groups(groups, keys.num, seed=keys.seed, taken=taken)
            strata = {name: stratum for stratum, names in draw.groups.items() for name in names}
            return strata, dict(draw.shares), draw.worth
        everything = sorted(one.name for one in groups)
        names = [one for one in everything if one not in taken] or everything
        said_NC = np.stack([np.mean(pool.probabilities[one], axis=0) for one in names])
        mean_size = float(np.mean([one.num_samples for one in groups]))
        num = max(1, round(keys.num / mean_size))
        chosen = draw_unsure(said_NC.astype(float), num, seed=keys.seed)
        return {names[row]: "" for row in chosen}, {}, 1.0


def _written(asking: _Asking, record: AskRecord, places: Mapping[str, Place]) -> str:
    """Write sheet and table, and say where they are."""
    run = asking.run
    decode = {name: one for name, one in run.decode.items() if one.kind != "mask"}
    reader = sample_reader(asking.labels.samples, run.root, origin_of(run))
    tokenizers = text_tokenizers(run.decode, run.job.source.get("tokenizers", {}))
    cards = []
    for one in record.samples:
        if one.id not in places:  # forgotten since it was drawn
            continue
        place = places[one.id]
        table = reader.read(place.ref.unit, list(decode), rows=[place.row]).slice(place.row, 1)
        pieces = {name: table.column(name)[0].as_py() for name in decode}
        cards.append(card_of(one, pieces, decode, tokenizers))
    folder, space = run.root.child(ASKED_FOLDER, record.name), run.source.label_space
    if not folder.exists(TABLE_NAME):  # somebody may have filled it in
        folder.write(TABLE_NAME, table_of(record.samples).encode())
    folder.write(PICTURE_NAME, sheet_png(cards))
    folder.write(PAGE_NAME, sheet_page(cards, space, name=record.name).encode())
    table, page = (posixpath.join(folder.uri, name) for name in (TABLE_NAME, PAGE_NAME))
    return (
        f"{len(cards)} samples to label{more_than_wanted(record)}: {page}, or fill in {table}; "
        f"then run jobs/expand.py with the same settings and probe.more={table}"
    )
