"""Weights of the teacher's labels through all stages, on sets that are small enough to run here."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from composed import composed
from dense_world import DECODE, HEIGHT, NUM_CLASSES, WIDTH, make_plan, write_folders
from torch.nn import functional

from mke_ray.config_labels import LabelsConfig
from mke_ray.config_schema import JobConfig
from mke_ray.expansion import refining
from mke_ray.expansion.label_rules import LabelRules
from mke_ray.expansion.whole import run_stages
from mke_ray.labels.label_rule import LabelRule
from mke_ray.labels.label_weights import FreeMatch
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.posterior import Posterior
from mke_ray.labels.probe import ProbeDivision
from mke_ray.objectives.losses import pseudo_label_loss
from mke_ray.schema import decode_spec_from_dict
from mke_ray.storage import open_root
from mke_ray.train.blocks import TargetSpec, UnitReader
from mke_ray.train.feed import Feed
from mke_ray.train.fits import FitStore, RowSelection
from mke_ray.train.plan import RowPlan
from mke_ray.train.usable import usable_entries

TWO_MOON = (
    "experiment=two_moon",
    "scaling.launch=local",
    "tracking=off",
    "model_seeds=[0]",
    "fit.num_steps=20",
    "teacher.fit.num_steps=200",
)


def job_of(root: Path, *overrides: str) -> JobConfig:
    (job,) = composed(*TWO_MOON, f"root={root}", *overrides)
    return job


def rules_of(root: Path) -> dict[str, Any]:
    """Return the rule of every fit below a root by its arm."""
    store = FitStore(open_root(str(root)))
    facts = [store.facts(folder.name) for folder in (root / "fits").iterdir()]
    return {one["spec"]["arm"]: one["spec"]["label_rule"] for one in facts}


def test_freematch_trains_every_arm_of_pseudo_labels_and_is_fitted_once(tmp_path: Path) -> None:
    root = tmp_path / "run"
    job = job_of(root, "label_weight=freematch", "arms=[um_student,mke,mm_supervised]")
    metrics = run_stages(job)
    assert 0.4 < metrics["arms"]["mke"]["value"] <= 1.0
    rules = rules_of(root)
    assert rules["teacher"] == rules["mm_supervised"] == {}
    assert rules["mke"] == rules["um_student"]
    (threshold_L,) = rules["mke"]["fitted"]["threshold"]
    (kept,) = (root / "label_statistics").iterdir()
    statistics = json.loads(kept.read_text())
    assert statistics["num"] == 270
    assert max(threshold_L) == pytest.approx(statistics["confidence"][0])
    plain = replace(job, labels=replace(job.labels, weight={}), arms=["mke"])
    run_stages(plain)
    assert len(list((root / "fits").iterdir())) == 5  # another fit of mke, and no other teacher
    assert len(list((root / "label_statistics").iterdir())) == 1


def test_without_a_useful_witness_our_student_learns_labels_weighed_as_in_freematch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Posterior, "is_useless", property(lambda self: True))
    root = tmp_path / "run"
    overrides = ("objective=expansion", "expansion.rounds=1", "arms=[mm_student,mke]")
    run_stages(job_of(root, *overrides))
    rules = rules_of(root)
    assert rules["mm_student"]["weight"] == refining.FREEMATCH
    assert len(rules["mm_student"]["fitted"]["threshold"][0]) == 2
    assert rules["mke"] == rules["witness"] == {}


def test_refined_labels_are_not_weighed(tmp_path: Path) -> None:
    root = tmp_path / "run"
    overrides = ("objective=expansion", "expansion.rounds=1", "expansion.members=1")
    run_stages(job_of(root, *overrides, "label_weight=softmatch", "arms=[mm_student,mke]"))
    rules = rules_of(root)
    assert rules["mm_student"] == rules["witness"] == {}
    assert set(rules["mke"]["fitted"]) == {"mean", "variance"}


def test_pixels_are_weighed_from_the_label_store_to_the_loss(tmp_path: Path) -> None:
    write_folders(tmp_path / "nyu")
    plan = make_plan(open_root(str(tmp_path / "run")), tmp_path / "nyu")
    run_pass(plan, plan.manifest.unit_refs(), LocalRunner())
    labels = plan.teachers[0].labels
    rules = LabelRules(plan.root, plan.manifest, samples=plan.samples, labels=labels)
    keys = LabelsConfig(alignment="uniform", weight=dict(refining.FREEMATCH))
    rule = LabelRule(
        "hard",
        ratio_KL=np.asarray((plain := rules.configured(keys))["ratio"]),
        weight=FreeMatch(),
        fitted=plain["fitted"],
    )
    decode = decode_spec_from_dict(DECODE)
    reader = UnitReader(
        plan.samples,
        labels=labels,
        manifest=plan.manifest,
        decode={name: decode[name] for name in ("rgb", "depth")},
        targets=TargetSpec(plan.label_space, "hard", rule=rule),
    )
    rows = (RowSelection("unlabeled"), RowSelection("labelled", "true", modalities=("rgb",)))
    order = RowPlan(usable_entries(reader, rows, ProbeDivision()), global_batch=0, window_units=2)
    batch = Feed(reader, order, selections=rows).item(0).batch
    weight_BHW = batch.label_weight
    assert weight_BHW is not None and weight_BHW.shape == (11, HEIGHT, WIDTH)
    is_true_B = ~batch.present["depth"]
    assert (weight_BHW[is_true_B] == 1).all()
    assert 0.2 < float(weight_BHW[~is_true_B].mean()) < 0.9
    logits = torch.randn(11, NUM_CLASSES, HEIGHT, WIDTH)
    sums = {"weight_B": batch.weight_B, "kind": "dense", "label_weight": weight_BHW}
    found = pseudo_label_loss(logits, batch.target_BC, **sums)
    each = functional.cross_entropy(
        logits, batch.target_BC.long(), ignore_index=255, reduction="none"
    )
    assert float(found) == pytest.approx(
        float((each * weight_BHW).sum() / weight_BHW.sum()), rel=1e-4
    )
