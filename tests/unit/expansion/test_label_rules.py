"""How the section labels becomes the rule of a fit: checked early, made once, kept in the root."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from composed import composed
from hydra.errors import ConfigCompositionException
from scipy.special import softmax
from training_stores import LABELS, SAMPLES, ToySource, logits_of, make_run

from mke_ray.config_labels import LabelsConfig
from mke_ray.data.manifest import Manifest, write_manifest
from mke_ray.errors import ConfigError
from mke_ray.expansion import label_rules
from mke_ray.expansion.checks import check_job
from mke_ray.expansion.findings import STATISTICS_FOLDER
from mke_ray.expansion.label_rules import (
    FREEMATCH,
    LabelRules,
    check_labels,
    labelled_prior,
)
from mke_ray.expansion.witnesses import witness_fit
from mke_ray.labels.folds import even_folds
from mke_ray.labels.label_statistics import LabelStatistics
from mke_ray.labels.store import UnitStore
from mke_ray.schema import LabelKind, LabelSpace
from mke_ray.storage import open_root
from mke_ray.train.arms import ExpansionSettings

THREE = LabelSpace(("x", "y", "z"))
MANY = LabelSpace(("x", "y", "z"), LabelKind.MULTI)
PIXELS = LabelSpace(("x", "y", "z"), LabelKind.DENSE, 255)
TWO_MOON = ("experiment=two_moon", "tracking=off")


class NoWeights:
    """Returns one number too few, and what JSON cannot carry where it is told to."""

    def __init__(self, bad: str) -> None:
        self._bad = bad

    def fit(self, statistics: LabelStatistics) -> dict[str, Any]:
        return {"found": statistics.mean_KL} if self._bad == "fit" else {}

    def weights(self, probability_NKL: np.ndarray, fitted: Mapping[str, Any]) -> np.ndarray:
        return np.ones(len(probability_NKL) - 1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = open_root(str(tmp_path_factory.mktemp("run")))
    make_run(root, {"labelled": 20, "unlabeled": 50, "test": 9})
    return root


def rules_of(root) -> LabelRules:
    samples, labels = (
        UnitStore.open(root.child(kind, name))
        for kind, name in (("samples", SAMPLES), ("labels", LABELS))
    )
    manifest = Manifest.open(root.child("manifest"))
    return LabelRules(root, manifest, samples=samples, labels=labels)


def said_of(root) -> np.ndarray:
    """Return the logits of all unlabeled samples that have any."""
    manifest = Manifest.open(root.child("manifest"))
    rows = [row for ref in manifest.unit_refs(["unlabeled"]) for row in manifest.read_unit(ref)]
    return np.stack([one for one in map(logits_of, rows) if one is not None]).astype(np.float64)


def test_by_default_there_is_no_rule_and_nothing_is_read(root, monkeypatch):
    monkeypatch.setattr(label_rules, "statistics_of", None)
    assert rules_of(root).configured(LabelsConfig()) == {}
    sharpened = LabelsConfig(kind="sharpened", sharpening=0.4)
    assert rules_of(root).configured(sharpened) == {"sharpening": 0.4}


def test_a_weight_is_fitted_to_all_unlabeled_samples_at_the_temperature(root):
    keys = LabelsConfig(temperature=2.0, weight=dict(FREEMATCH))
    rule = rules_of(root).configured(keys)
    said_NC = softmax(said_of(root) / 2.0, axis=1)
    mean_C = said_NC.mean(axis=0)
    expected_C = said_NC.max(axis=1).mean() * mean_C / mean_C.max()
    assert rule["weight"] == FREEMATCH
    assert rule["fitted"]["threshold"] == [pytest.approx(expected_C)]


def test_statistics_are_gathered_once_for_a_root(root, monkeypatch):
    keys = LabelsConfig(temperature=3.0, weight=dict(FREEMATCH))
    first = rules_of(root).configured(keys)
    monkeypatch.setattr(label_rules, "statistics_of", None)
    assert rules_of(root).configured(keys) == first
    assert list(root.names(STATISTICS_FOLDER))
    with pytest.raises(TypeError):
        rules_of(root).configured(replace(keys, temperature=4.0))


def test_alignment_brings_the_mean_to_the_prior_and_weights_follow_it(root):
    said_NC = softmax(said_of(root), axis=1)
    rule = rules_of(root).configured(
        LabelsConfig(alignment=[0.2, 0.3, 0.5], weight=dict(FREEMATCH))
    )
    ratio_C = np.array([0.2, 0.3, 0.5]) / said_NC.mean(axis=0)
    assert rule["ratio"] == [pytest.approx(ratio_C)]
    moved_NC = said_NC * ratio_C
    moved_NC /= moved_NC.sum(axis=1, keepdims=True)
    mean_C = moved_NC.mean(axis=0)
    expected_C = moved_NC.max(axis=1).mean() * mean_C / mean_C.max()
    assert rule["fitted"]["threshold"] == [pytest.approx(expected_C)]


def test_uniform_and_labelled_shares_are_priors(root):
    mean_C = softmax(said_of(root), axis=1).mean(axis=0)
    uniform = rules_of(root).configured(LabelsConfig(alignment="uniform"))
    assert uniform["ratio"] == [pytest.approx(1 / 3 / mean_C)]
    labelled = rules_of(root).configured(LabelsConfig(alignment="labelled"))
    assert labelled["ratio"] == [pytest.approx(np.array([7, 7, 6]) / 20 / mean_C)]


def test_of_many_classes_the_prior_is_of_each_class_and_of_its_absence(tmp_path):
    root = open_root(str(tmp_path))
    source = ToySource({"labelled": 4, "unlabeled": 6}, MANY)
    manifest = write_manifest(root.child("manifest"), source, unit_size=4)
    assert labelled_prior(manifest).tolist() == [0.5, 0.25, 0.25]
    rules = LabelRules(root, manifest, samples=None, labels=None)  # type: ignore[arg-type]
    assert rules._prior([0.1, 0.2, 0.3]) == pytest.approx(
        np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    )


def test_without_labelled_samples_there_is_no_labelled_prior(tmp_path):
    source = ToySource({"unlabeled": 6})
    manifest = write_manifest(open_root(str(tmp_path)).child("manifest"), source, unit_size=4)
    with pytest.raises(ConfigError, match=r"labels\.alignment=labelled"):
        labelled_prior(manifest)


@pytest.mark.parametrize(
    ("keys", "space", "said"),
    [
        ({"kind": "medium"}, THREE, r"labels\.kind='medium'"),
        ({"sharpening": 0.0}, THREE, r"labels\.sharpening=0\.0"),
        ({"alignment": "level"}, THREE, r"labels\.alignment='level'"),
        ({"alignment": [0.5, 0.5]}, THREE, r"the 3 classes"),
        ({"alignment": [0.5, 0.5, 0.5]}, THREE, r"that sum to 1"),
        ({"alignment": [0.5, 0.5, 0.0]}, MANY, r"between 0 and 1"),
        ({"alignment": "uniform"}, MANY, r"labels\.alignment=uniform"),
        ({"alignment": "labelled"}, PIXELS, r"labels\.alignment=labelled"),
        ({"weight": {"_target_": "mke_ray.labels.label_weights.FreeMacth"}}, THREE, "freematch"),
        ({"weight": {**FREEMATCH, "limit_of_mine": 0.9}}, THREE, r"labels\.weight.*limit_of_mine"),
        ({"weight": {"threshold": 0.9}}, THREE, r"labels\.weight.*_target_ is missing"),
        ({"weight": {"_target_": "torch.nn.ReLU"}}, THREE, r"is not a LabelWeight"),
        ({"weight": {"_target_": f"{__name__}.NoWeights", "bad": ""}}, THREE, r"\(1,\) for"),
        ({"weight": {"_target_": f"{__name__}.NoWeights", "bad": "fit"}}, THREE, "JSON"),
    ],
)
def test_labels_that_cannot_work_are_refused_with_their_key(keys, space, said):
    with pytest.raises(ConfigError, match=said):
        check_labels(LabelsConfig(**keys), space)


@pytest.mark.parametrize(("alignment", "space"), [([0.5, 0.9, 0.1], MANY), ("uniform", PIXELS)])
def test_shares_that_fit_the_kind_of_labels_are_taken(alignment, space):
    check_labels(LabelsConfig(alignment=alignment, weight=dict(FREEMATCH)), space)


@pytest.mark.parametrize(
    "name", ["none", "fixed", "top_fraction", "class_balanced", "freematch", "softmatch"]
)
def test_every_weight_of_the_group_composes_and_is_checked(name, tmp_path):
    (job,) = composed(*TWO_MOON, f"label_weight={name}", f"root={tmp_path}")
    assert bool(job.labels.weight) == (name != "none")
    check_job(job)


def test_a_misspelt_key_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigCompositionException, match=r"labels\.weighing"):
        composed(*TWO_MOON, "labels.weighing=1")
    (job,) = composed(
        *TWO_MOON, "label_weight=fixed", "+labels.weight.limit_of_mine=0.9", f"root={tmp_path}"
    )
    with pytest.raises(ConfigError, match=r"labels\.weight.*limit_of_mine"):
        check_job(job)


class TwoThirds:
    """Weighs every decision alike."""

    def fit(self, statistics: LabelStatistics) -> dict[str, Any]:
        return {"weight": 2 / 3}

    def weights(self, probability_NKL: np.ndarray, fitted: Mapping[str, Any]) -> np.ndarray:
        return np.full(probability_NKL.shape[:2], fitted["weight"])


def test_a_class_of_the_users_is_taken_by_name(tmp_path):
    spec = f"+labels.weight={{_target_: {__name__}.TwoThirds}}"
    (job,) = composed(*TWO_MOON, spec, f"allow_targets=[{__name__}]", f"root={tmp_path}")
    check_job(job)
    with pytest.raises(ConfigError, match="allow_targets"):
        composed(*TWO_MOON, spec, f"root={tmp_path}")


def test_only_arms_of_pseudo_labels_have_the_rule(tmp_path):
    (job,) = composed(*TWO_MOON, "arms=all", f"root={tmp_path}")
    run = check_job(job)
    settings = run.arm_settings("s", "t", teacher=None, num_select=3)
    rule = {"weight": dict(FREEMATCH), "fitted": {"threshold": [[0.5, 0.5]]}}
    settings = replace(settings, template=replace(settings.template, label_rule=rule))
    pseudo = ["um_student", "noisy_student", "mm_student_no_reg", "mke"]
    fits = {one.arm: one for one in settings.fits([*pseudo, "mm_supervised"], [0])}
    assert all(fits[arm].label_rule == rule for arm in pseudo)
    assert fits["mm_supervised"].label_rule == {}
    ours = replace(settings, expansion=ExpansionSettings("refined", "soft", {"_target_": "x"}))
    (fit,) = ours.fits(["mm_student"], [0])
    assert fit.label_rule == {}
    assert ours.expansion is not None
    fallen = replace(ours, expansion=replace(ours.expansion, label_rule=rule))
    assert fallen.fits(["mm_student"], [0])[0].label_rule == rule
    witness = witness_fit(job, "single", settings, folds=even_folds(3), number=0)
    assert witness.label_rule == {}
