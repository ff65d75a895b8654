"""Labels at every pixel are refined like others: own folds, the same posterior, stored packed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from dense_world import DECODE, HEIGHT, NUM_CLASSES, WIDTH, make_plan, write_folders
from scipy.special import log_softmax, softmax

from mke_ray.data.codec import decode_modality
from mke_ray.evaluation import PredictionPlan, run_predictions
from mke_ray.evaluation.packed import Packing
from mke_ray.expansion.before_witnesses import prior_of
from mke_ray.expansion.select_pixels import select_pixels
from mke_ray.labels.dense import DenseForm, packed_rows
from mke_ray.labels.dense_pixels import (
    from_stored,
    packed_pixels,
    pixel_logs,
)
from mke_ray.labels.derivations import Combination, Ensemble, Refinement
from mke_ray.labels.derived import DerivedPlan, derive
from mke_ray.labels.folds import even_folds
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.posterior import FurtherTeacher, Posterior
from mke_ray.labels.probe import SELECT, probe_part
from mke_ray.labels.sample_reader import sample_reader
from mke_ray.models import build_student, save_student
from mke_ray.objectives import WitnessObjective
from mke_ray.schema import IGNORE, Batch, Split, decode_spec_from_dict
from mke_ray.storage import open_root

NUM_FOLDS = 3
FOLDS = even_folds(NUM_FOLDS)
FORM = DenseForm(NUM_CLASSES, HEIGHT, WIDTH, NUM_CLASSES)  # nothing is left out
BANK = {
    "num_folds": NUM_FOLDS,
    "encoders": {"depth": {"type": "pyramid", "channels": [4, 4], "reads": "hha"}},
    "decoder": {"channels": [4]},
    "dropout": 0.0,
}
PRIOR = (1 / NUM_CLASSES,) * NUM_CLASSES
POSTERIOR = Posterior(2.0, 0.5, (1.5,), PRIOR, "dense")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A labelled set, a bank of witnesses, and what these say of every pixel."""
    folder = tmp_path_factory.mktemp("pixels")
    write_folders(folder / "nyu")
    root = open_root(str(folder / "run"))
    plan = make_plan(root, folder / "nyu", top_k=NUM_CLASSES)
    run_pass(plan, plan.manifest.unit_refs(), LocalRunner())
    torch.manual_seed(0)
    bank = build_student(BANK, NUM_CLASSES).eval()
    kept = root.child("students", "w")
    save_student(kept, bank, spec=BANK, label_space=plan.manifest.label_space)
    samples = plan.samples.root.uri.rsplit("/", 1)[-1]
    packing = Packing(FORM, plan.manifest, FOLDS)
    asking = PredictionPlan(root, samples, DECODE, {"w": kept}, packing=packing)
    said = run_predictions(asking, plan.manifest.unit_refs())
    return plan, bank, said


def stored_depth(plan, ref):
    pieces = plan.samples.read(ref.unit, columns=["sample_id", "depth"]).column("depth").to_pylist()
    spec = decode_spec_from_dict(DECODE)["depth"]
    return [None if one is None else decode_modality(one, spec) for one in pieces]


@torch.inference_mode()
def logs_of_folds(bank, depth):
    """Return the log-probabilities of every fold [F, N, C]."""
    arrays = {"depth": torch.from_numpy(depth[None])}
    logits = bank(arrays, {"depth": torch.tensor([True])})
    logits_FCN = logits.reshape(NUM_FOLDS, NUM_CLASSES, -1).numpy()
    return log_softmax(logits_FCN.astype(np.float64), axis=1).transpose(0, 2, 1)


def rows_with_answers(plan, said, splits):
    for ref in plan.manifest.unit_refs(splits):
        answers = said.read(ref.unit).column("w").to_pylist()
        depths = stored_depth(plan, ref)
        yield from zip(plan.manifest.read_unit(ref), answers, depths, strict=True)


def test_unlabeled_and_probe_samples_are_judged_by_their_own_fold_and_test_by_all(world):
    plan, bank, said = world
    folds = set()
    for row, answer, depth in rows_with_answers(plan, said, list(Split)):
        if depth is None:
            assert answer is None
            continue
        logs_FNC = logs_of_folds(bank, depth)
        fold = FOLDS.fold_of(row.group)
        wanted_NC = logs_FNC.mean(axis=0) if row.split == Split.TEST else logs_FNC[fold]
        folds.add(fold)
        found_NC = pixel_logs(from_stored(answer, 1)[0], FORM)
        np.testing.assert_allclose(found_NC, log_softmax(wanted_NC, axis=1), atol=4e-3)
    assert folds == set(range(NUM_FOLDS))


def test_a_refined_label_is_the_posterior_of_every_pixel(world):
    plan, bank, said = world
    teacher = plan.teachers[0].labels
    derivation = Refinement("w", FOLDS, POSTERIOR)
    store = derive(
        DerivedPlan(plan.root, plan.manifest, teacher, said, derivation),
        plan.manifest.unit_refs([Split.UNLABELED]),
    )
    assert store.spec["dense"] == teacher.spec["dense"]
    num_checked = 0
    for ref in plan.manifest.unit_refs([Split.UNLABELED]):
        given, made = packed_rows(teacher.read(ref.unit)), packed_rows(store.read(ref.unit))
        for row, a, q, depth in zip(
            plan.manifest.read_unit(ref), given, made, stored_depth(plan, ref), strict=True
        ):
            logs_NC = logs_of_folds(bank, depth)[FOLDS.fold_of(row.group)]
            a_NC = log_softmax(pixel_logs(a, FORM) / 2.0, axis=1)
            wanted_NC = softmax(0.5 * a_NC + 1.5 * logs_NC, axis=1)
            found_NC = FORM.soft(q).reshape(NUM_CLASSES, -1).T
            np.testing.assert_allclose(found_NC, wanted_NC, atol=5e-3)
            num_checked += 1
    assert num_checked == 7


def test_an_ensemble_of_pixels_is_the_mean_of_log_probabilities():
    teacher_NC = np.zeros((3, 2))
    said = {"m": np.log([[[0.5, 0.5]] * 3]), "n": np.log([[[0.2, 0.8]] * 3])}
    found_NC = Ensemble(("m", "n"), "dense").pixels(teacher_NC, said)
    np.testing.assert_allclose(found_NC, np.log([[np.sqrt(0.1), np.sqrt(0.4)]] * 3))


def test_a_label_survives_its_way_through_pixels():
    logits_NC = np.random.default_rng(0).normal(size=(HEIGHT * WIDTH, NUM_CLASSES))
    packed = packed_pixels(logits_NC, FORM)
    np.testing.assert_allclose(pixel_logs(packed, FORM), log_softmax(logits_NC, axis=1), atol=3e-3)
    logits_NC[5, 1] = np.nan
    assert packed_pixels(logits_NC, FORM) is None


def test_the_prior_is_the_mean_over_samples_of_the_mean_over_pixels(world):
    plan, _, _ = world
    labels = plan.teachers[0].labels
    found_C = prior_of(plan.manifest, labels, temperature=2.0)
    means = [
        FORM.soft(one, temperature=2.0).mean(axis=(1, 2))
        for ref in plan.manifest.unit_refs([Split.UNLABELED])
        for one in packed_rows(labels.read(ref.unit))
    ]
    np.testing.assert_allclose(found_C, np.mean(means, axis=0), atol=1e-6)
    assert found_C.sum() == pytest.approx(1.0, abs=1e-4)


def pixels_of(plan, **more):
    reader = sample_reader(plan.samples, plan.root, None)
    return select_pixels(plan.manifest, plan.teachers[0].labels, reader, fraction=0.5, **more)


def test_pixels_that_choose_are_labelled_ones_of_the_select_part(world):
    plan, _, said = world
    found = pixels_of(plan)
    rows = [
        row for ref in plan.manifest.unit_refs(["probe"]) for row in plan.manifest.read_unit(ref)
    ]
    wanted = [row for row in rows if probe_part(row.group, select_fraction=0.5) == SELECT]
    assert 0 < len(found) == len(wanted) < len(rows)
    num_known = HEIGHT * (WIDTH - WIDTH // 4)  # the left quarter has no class
    assert found.truth_NC.shape == (num_known * len(found), NUM_CLASSES)
    assert (found.truth_NC.sum(axis=1) == 1).all()
    told = found.said(said, "w", FOLDS, num_witnesses=1, is_own=False)
    assert told.shape == (1, 1, *found.teacher_NC.shape)
    assert np.isfinite(told).all()


def test_of_many_pixels_some_are_drawn_and_the_same_ones_every_time(world, monkeypatch):
    plan, _, _ = world
    monkeypatch.setattr("mke_ray.expansion.select_pixels.MOST_PIXELS", 20)
    one, other = pixels_of(plan), pixels_of(plan)
    assert len(one.truth_NC) <= 20
    np.testing.assert_array_equal(one.samples[0].pixels, other.samples[0].pixels)
    np.testing.assert_array_equal(one.teacher_NC, other.teacher_NC)


def test_a_dense_witness_learns_from_other_folds_alone():
    torch.manual_seed(0)
    bank = build_student(BANK, NUM_CLASSES).train()
    num = 4
    target_BHW = torch.randint(0, NUM_CLASSES, (num, HEIGHT, WIDTH), dtype=torch.uint8)
    target_BHW[:, 0] = IGNORE
    batch = Batch(
        torch.arange(num),
        {"depth": torch.rand(num, HEIGHT, WIDTH, 6)},
        {"depth": torch.ones(num, dtype=torch.bool)},
        target_BHW,
        torch.ones(num),
        fold_B=torch.zeros(num, dtype=torch.int8),
    )
    objective = WitnessObjective(NUM_FOLDS, alpha=0.0, kind="dense")
    loss = objective(bank, batch, 0.0)["loss"]
    loss.backward()
    loss = loss.detach()
    moved = [
        any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
        for net in bank.nets["depth"]
    ]
    assert moved == [False, True, True]
    with torch.no_grad():
        of_net = [
            torch.nn.functional.cross_entropy(
                net(batch.arrays, batch.present),
                target_BHW.long(),
                ignore_index=IGNORE,
                reduction="none",
            ).mean()
            for net in bank.nets["depth"]
        ]
    assert float(loss) == pytest.approx(
        float(of_net[1] + of_net[2]) / ((NUM_FOLDS - 1) / NUM_FOLDS), rel=1e-5
    )


def test_further_teachers_are_combined_at_every_pixel(world):
    plan, _, said = world
    teacher = plan.teachers[0].labels
    name = teacher.root.uri.rsplit("/", 1)[-1]  # the same once more, as another one
    further = (FurtherTeacher(4.0, 0.5),)
    posterior = Posterior(2.0, 0.5, (), PRIOR, "dense", further=further)
    args = (plan.root, plan.manifest, teacher)
    combined = derive(
        DerivedPlan(*args, None, Combination((name,), posterior), more={name: teacher}),
        plan.manifest.unit_refs(["unlabeled"]),
    )
    beside = derive(
        DerivedPlan(
            *args,
            said,
            Refinement("w", FOLDS, replace(POSTERIOR, further=further), None, (name,)),
            more={name: teacher},
        ),
        plan.manifest.unit_refs(["unlabeled"]),
    )
    ref = next(iter(plan.manifest.unit_refs(["unlabeled"])))
    packed = packed_rows(teacher.read(ref.unit))
    given_NC = pixel_logs(packed[0], FORM)
    by_hand_NC = 0.5 * log_softmax(given_NC / 2.0, axis=1)
    by_hand_NC = by_hand_NC + 0.5 * (log_softmax(given_NC / 4.0, axis=1) - np.log(PRIOR))
    found_NC = pixel_logs(packed_rows(combined.read(ref.unit))[0], FORM)
    np.testing.assert_allclose(found_NC, log_softmax(by_hand_NC, axis=1), atol=2e-2)
    answers = said.read(ref.unit, columns=["w"]).column("w").to_pylist()[0]
    (witness_NC,) = (pixel_logs(one, FORM) for one in from_stored(answers, 1))
    by_hand_NC = by_hand_NC + 1.5 * (witness_NC - np.log(PRIOR))
    found_NC = pixel_logs(packed_rows(beside.read(ref.unit))[0], FORM)
    np.testing.assert_allclose(found_NC, log_softmax(by_hand_NC, axis=1), atol=2e-2)


def test_pixels_that_choose_have_the_answers_of_further_teachers(world):
    plan, _, _ = world
    found = pixels_of(plan, more=[plan.teachers[0].labels])
    np.testing.assert_array_equal(found.further_KNC[0], found.teacher_NC)
    assert pixels_of(plan).further_KNC.shape == (0, *found.teacher_NC.shape)
