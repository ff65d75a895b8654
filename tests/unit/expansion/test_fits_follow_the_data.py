"""A network is trained anew when the rows that it learns from change, and only then."""

from dataclasses import dataclass
from typing import Any

import pytest
from composed import composed

from mke_ray.data.manifest import write_manifest
from mke_ray.data.sources import SourceRow
from mke_ray.errors import StoreError
from mke_ray.expansion.checks import check_job
from mke_ray.expansion.run import Run
from mke_ray.expansion.stages import (
    Labels,
    TaughtTeacher,
    arm_fits,
    known_labels,
    make_label_plan,
    teacher_fit,
)
from mke_ray.labels.labelling import PassReport
from mke_ray.labels.store import UnitStore
from mke_ray.schema import LABELS_SCHEMA


@dataclass
class Rows:
    """A source of numbered rows per split."""

    label_space: Any
    counts: dict[str, int]

    def identity(self) -> dict[str, Any]:
        return {"source": "rows"}

    def rows(self):
        for split, count in self.counts.items():
            for number in range(count):
                yield SourceRow(f"{split}/{number}", -1, "", None, None, f"g{number}", split, (0,))


@pytest.fixture
def run(tmp_path) -> Run:
    overrides = ("experiment=two_moon", "arms=[mke,mm_labelled_only]", "tracking=off")
    (job,) = composed(*overrides, f"root={tmp_path / 'run'}")
    return check_job(job)


def fits_of(run: Run, **counts: int) -> dict[str, str]:
    """Return the fingerprint of every network for some numbers of rows."""
    source = Rows(run.source.label_space, counts)
    manifest = write_manifest(run.root.child("manifest"), source, unit_size=2)
    teacher = teacher_fit(run, manifest).fingerprint()
    samples = make_label_plan(run, manifest, ()).samples
    labels = UnitStore.open_or_create(run.root.child("labels", "t"), spec={}, schema=LABELS_SCHEMA)
    stores = Labels(samples, labels, PassReport(samples.index(), ()))
    fits = arm_fits(run, manifest, stores, TaughtTeacher({}, teacher))
    return {"teacher": teacher} | {f.arm: f.fingerprint() for f in fits}


def test_new_unlabeled_rows_train_the_student_anew_and_not_its_teacher(run):
    before = fits_of(run, labelled=4, unlabeled=5, probe=8, test=2)
    assert fits_of(run, labelled=4, unlabeled=5, probe=8, test=2) == before
    assert fits_of(run, labelled=4, unlabeled=5, probe=8, test=3) == before
    more = fits_of(run, labelled=4, unlabeled=6, probe=8, test=3)
    assert [name for name in before if more[name] != before[name]] == ["mke"]
    labelled = fits_of(run, labelled=3, unlabeled=6, probe=8, test=3)
    assert labelled["teacher"] != more["teacher"]
    assert labelled["mm_labelled_only"] != more["mm_labelled_only"]


def test_a_later_stage_refuses_units_that_are_not_labelled(run):
    source = Rows(run.source.label_space, {"labelled": 4, "unlabeled": 5, "test": 2})
    manifest = write_manifest(run.root.child("manifest"), source, unit_size=2)
    teacher = TaughtTeacher({"_target_": "label_fakes.FakeTeacher", "modality": "a"})
    with pytest.raises(StoreError, match=r"6 units are not labelled yet; run jobs/label\.py"):
        known_labels(run, manifest, teacher)
