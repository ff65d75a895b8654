"""The arms of the comparison."""

from dataclasses import replace

import pytest

from mke_ray.errors import ConfigError
from mke_ray.train.arms import (
    ARMS,
    DEFAULT_ARMS,
    EXPANSION_ARM,
    PLAIN_OBJECTIVE,
    ArmSettings,
    ExpansionSettings,
    choose_arms,
)
from mke_ray.train.fits import FitSpec, RowSelection

STUDENT = {
    "encoders": {"video": {"type": "frames"}, "audio": {"type": "log_mel"}},
    "fusion": {"type": "concat"},
    "head_hidden": [64],
}

OURS = ExpansionSettings("R", "soft", {"_target_": "ours"}, labelled_share=0.25, paired_weight=2.0)


def settings(num_select: int = 10) -> ArmSettings:
    template = FitSpec(
        name="",
        arm="",
        samples="S",
        labels="T",
        student=STUDENT,
        objective={"_target_": "configured", "alpha": 1.0},
        rows=(RowSelection("unlabeled"),),
        optimizer={"type": "sgd", "lr": 0.1},
        views={"video": {"_target_": "v"}, "audio": {"_target_": "a"}},
        num_steps=3,
        validate_every_steps=5,
    )
    return ArmSettings(
        template=template,
        teacher_modality="video",
        supervised={"_target_": "supervised"},
        plain=PLAIN_OBJECTIVE,
        unimodal_head_hidden=(8,),
        num_select=num_select,
        num_labelled=12,
        expansion=OURS,
    )


def test_only_the_supervised_arm_sees_true_labels_of_unlabeled_rows() -> None:
    for fit in settings().fits(tuple(ARMS), [0]):
        told = {row.targets for row in fit.rows if row.split == "unlabeled"}
        assert ("true" in told) == (fit.arm == "mm_supervised")


def test_no_arm_sees_the_gate_part_or_the_test_split() -> None:
    for fit in settings().fits(tuple(ARMS), [0]):
        assert all(row.split != "test" for row in fit.rows)
        assert all(row.part == "select" for row in fit.rows if row.split == "probe")


def test_the_labelled_split_is_shown_in_the_modality_of_the_teacher_alone() -> None:
    (fit,) = settings().fits(["mm_labelled_only"], [0])
    (labelled,) = [row for row in fit.rows if row.split == "labelled"]
    assert labelled.modalities == ("video",)
    assert fit.labels is None


def test_an_arm_is_not_validated_on_what_it_learned_from() -> None:
    for fit in settings().fits(tuple(ARMS), [0]):
        learns_select = any(row.part == "select" for row in fit.rows)
        assert (fit.validate_every_steps == 0) == learns_select


def test_unimodal_arms_read_one_modality_with_their_own_head() -> None:
    (fit,) = settings().fits(["noisy_student"], [0])
    assert list(fit.student["encoders"]) == ["video"]
    assert fit.student["head_hidden"] == [8]
    assert list(fit.views) == ["video"]
    assert fit.objective["_target_"] == "configured"


def test_arms_without_regularisation_are_not_perturbed() -> None:
    for fit in settings().fits(["um_student", "mm_student_no_reg"], [0]):
        assert fit.objective["alpha"] == 0.0


def test_every_fit_has_a_fingerprint_of_its_own_and_repeated_seeds_are_one_fit() -> None:
    fits = settings().fits(tuple(ARMS), [0, 1, 0])
    assert len(fits) == 2 * len(ARMS)
    assert len({fit.fingerprint() for fit in fits}) == len(fits)


def test_labels_only_without_a_probe_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="mm_labelled_only"):
        settings(num_select=0).fits(["mm_labelled_only"], [0])


def test_the_student_is_always_among_the_arms() -> None:
    assert choose_arms("default") == DEFAULT_ARMS
    assert choose_arms("all") == tuple(arm for arm in ARMS if arm != EXPANSION_ARM)
    assert choose_arms(["teacher", "um_student", "mm_student"]) == ("um_student", "mke")
    assert set(choose_arms("default", shipped=EXPANSION_ARM)) == {*DEFAULT_ARMS, EXPANSION_ARM}
    assert choose_arms("all", shipped=EXPANSION_ARM) == tuple(ARMS)
    assert choose_arms(["um_student"], shipped=EXPANSION_ARM) == ("um_student", EXPANSION_ARM)
    with pytest.raises(ConfigError, match=r"relabel_only.*objective=expansion"):
        choose_arms(["relabel_only"])
    with pytest.raises(ConfigError, match="nonsense"):
        choose_arms(["nonsense"])


def dense_settings(plain_views=None) -> ArmSettings:
    one = settings()
    views = {"rgb": {"_target_": "r"}, "depth": {"_target_": "d"}, "mask": {"_target_": "m"}}
    student = {
        "encoders": {"rgb": {"type": "pyramid"}, "depth": {"type": "pyramid"}},
        "fusion": {"type": "add"},
        "decoder": {"channels": [4]},
    }
    template = replace(one.template, student=student, views=views)
    return replace(one, template=template, teacher_modality="rgb", plain_views=plain_views)


def test_unimodal_dense_arms_keep_the_decoder_and_the_view_of_class_maps() -> None:
    (fit,) = dense_settings().fits(["noisy_student"], [0])
    assert fit.student["decoder"] == {"channels": [4]}
    assert "head_hidden" not in fit.student
    assert set(fit.views) == {"rgb", "mask"}


def test_plain_views_are_for_the_arms_without_perturbation_alone() -> None:
    fits = {fit.arm: fit for fit in dense_settings(plain_views={}).fits(tuple(ARMS), [0])}
    plain = {arm for arm, fit in fits.items() if not fit.views}
    assert plain == {"um_student", "mm_student_no_reg"}


def test_our_student_learns_refined_labels_and_what_true_labels_there_are() -> None:
    (fit,) = settings().fits([EXPANSION_ARM], [0])
    assert (fit.labels, fit.label_kind, fit.temperature) == ("R", "soft", 1.0)
    unlabeled, labelled, pairs = fit.rows
    assert (unlabeled.split, unlabeled.targets, unlabeled.share) == ("unlabeled", "pseudo", None)
    assert (labelled.split, labelled.modalities, labelled.share) == ("labelled", ("video",), 0.25)
    assert (pairs.split, pairs.part, pairs.targets, pairs.weight) == (
        "probe",
        "select",
        "true",
        2.0,
    )


def test_our_student_learns_no_pairs_where_there_are_none_or_none_are_wanted() -> None:
    without = replace(settings(), expansion=replace(OURS, paired_weight=0.0))
    for one in (without, settings(num_select=0)):
        (fit,) = one.fits([EXPANSION_ARM], [0])
        assert [row.split for row in fit.rows] == ["unlabeled", "labelled"]
        assert fit.validate_every_steps == 5


def test_our_student_without_its_labels_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match="objective=expansion"):
        replace(settings(), expansion=None).fits([EXPANSION_ARM], [0])
