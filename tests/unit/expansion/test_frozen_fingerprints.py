"""Runs of an earlier version are found again: what the default demo trains keeps its names."""

from composed import composed

from mke_ray.expansion.checks import check_job
from mke_ray.expansion.witnesses import expansion_to_be, witness_fit
from mke_ray.labels.folds import even_folds

FROZEN = {
    "teacher": "13deef231c6b963d",
    "witness/round=1": "9cd5a789df20dd0c",
    "witness/round=2": "f5c74675974841b1",
    "noisy_student/seed=0": "aa6ae238199fb1cd",
    "mm_student_no_reg/seed=0": "8327f5711d4d5d5e",
    "mke/seed=0": "763413e92b2dbe88",
    "mm_student/seed=0": "ed5a6b620673ce59",
    "mm_labelled_only/seed=0": "4545c1b24464a527",
}


def named(*overrides: str) -> dict[str, str]:
    """Return the fingerprints of what a run trains, by name, of made-up stores."""
    (job,) = composed("tracking=off", *overrides)
    run, kind = check_job(job), "single"
    settings = run.arm_settings(
        "S",
        "T",
        teacher="teacher",
        num_select=40,
        num_labelled=20,
        expansion=expansion_to_be(job, kind),
    )
    folds = even_folds(job.expansion.folds)
    rounds = [witness_fit(job, kind, settings, folds=folds, number=one) for one in (0, 1)]
    fits = [run.teacher_fit("S"), *rounds, *settings.fits(run.arms, job.model_seeds)]
    return {fit.name: fit.fingerprint() for fit in fits}


def test_the_default_demo_keeps_its_fingerprints() -> None:
    assert named() == FROZEN


def test_the_published_method_shares_the_fits_of_its_arms() -> None:
    published = named("objective=mke")
    assert published == {name: FROZEN[name] for name in FROZEN if name != "mm_student/seed=0"}
