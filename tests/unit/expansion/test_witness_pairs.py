"""Labelled pairs join the training of witnesses and of the student by keys of their own."""

import pytest
from composed import composed

from mke_ray.config_schema import JobConfig
from mke_ray.errors import ConfigError
from mke_ray.expansion.checks import check_job
from mke_ray.expansion.witnesses import expansion_to_be, witness_fit
from mke_ray.labels.folds import even_folds
from mke_ray.train.fits import FitSpec, RowSelection

PAIRS_ONCE = RowSelection("probe", targets="true", part="select", weight=1.0)


def job_of(*overrides: str) -> JobConfig:
    return composed("tracking=off", *overrides)[0]


def fits_of(job: JobConfig, kind: str) -> tuple[FitSpec, FitSpec]:
    """Return the witnesses' fit and the student's."""
    run = check_job(job)
    ours = expansion_to_be(job, kind)
    settings = run.arm_settings("S", "T", teacher=None, num_select=40, expansion=ours)
    (student,) = settings.fits(["mm_student"], [0])
    folds = even_folds(job.expansion.folds)
    return witness_fit(job, kind, settings, folds=folds, number=0), student


def pairs_of(fit: FitSpec) -> list[RowSelection]:
    return [row for row in fit.rows if row.split == "probe"]


def test_pairs_can_be_for_the_witnesses_alone() -> None:
    keys = ["expansion.paired_weight=0", "expansion.witness_paired_weight=1"]
    witness, student = fits_of(job_of(*keys), "single")
    assert pairs_of(witness) == [PAIRS_ONCE]
    assert pairs_of(student) == []


def test_pairs_can_be_for_the_student_alone() -> None:
    keys = ["expansion.paired_weight=1", "expansion.witness_paired_weight=0"]
    witness, student = fits_of(job_of(*keys), "single")
    assert pairs_of(witness) == []
    assert pairs_of(student) == [PAIRS_ONCE]


def test_the_experiment_of_pixels_keeps_pairs_from_the_student() -> None:
    job = job_of("experiment=nyu_depth_v2_small", "source.root=s3://b")
    witness, student = fits_of(job, "dense")
    assert pairs_of(witness) == [PAIRS_ONCE]
    assert pairs_of(student) == []


def test_the_weight_of_the_student_is_that_of_the_witnesses_where_they_have_none() -> None:
    (unset, _), (same, _) = (
        fits_of(job_of(*keys), "single") for keys in ([], ["expansion.witness_paired_weight=3"])
    )
    assert [row.weight for row in pairs_of(unset)] == [3.0]
    assert same.fingerprint() == unset.fingerprint()


def test_another_weight_is_other_witnesses_and_the_same_student() -> None:
    before, after = (
        fits_of(job_of(*keys), "single") for keys in ([], ["expansion.witness_paired_weight=1"])
    )
    assert after[0].fingerprint() != before[0].fingerprint()
    assert after[1].fingerprint() == before[1].fingerprint()


@pytest.mark.parametrize("value", ["-1", "inf"])
def test_a_weight_that_is_none_is_refused_with_its_key(value: str) -> None:
    with pytest.raises(ConfigError, match=r"expansion\.witness_paired_weight="):
        check_job(job_of(f"expansion.witness_paired_weight={value}"))
