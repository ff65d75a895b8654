"""Dense labels are compared by mean IoU over the pixels of all samples, arm by arm."""

import numpy as np
import pytest
import torch
from dense_world import DECODE, HEIGHT, NUM_TEST, WIDTH, make_plan, write_folders

from mke_ray.data.codec import decode_modality
from mke_ray.evaluation import (
    TEACHER,
    EvaluationPlan,
    FitColumn,
    PredictionPlan,
    evaluate,
    refs_with_truth,
    run_predictions,
)
from mke_ray.evaluation.calibration import select_temperature
from mke_ray.evaluation.dense import UnitMaps
from mke_ray.evaluation.dense_showcase import DenseShowcase
from mke_ray.evaluation.results import Flow
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.sample_reader import sample_reader
from mke_ray.metrics import bootstrap_by_group
from mke_ray.models import build_student, load_student, save_student
from mke_ray.pixel_metrics import PixelCounts
from mke_ray.schema import decode_spec_from_dict
from mke_ray.storage import open_root

SPEC = {
    "encoders": {"rgb": {"type": "pyramid", "channels": [4, 4]}},
    "fusion": {"type": "add"},
    "decoder": {"channels": [4]},
}
BOTH = {
    **SPEC,
    "encoders": {
        "rgb": {"type": "pyramid", "channels": [4, 4]},
        "depth": {"type": "pyramid", "channels": [4, 4], "reads": "hha"},
    },
}


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """The evaluation of two random students, after a labelling pass over a tiny set."""
    folder = tmp_path_factory.mktemp("dense")
    write_folders(folder / "nyu")
    root = open_root(str(folder / "run"))
    labelling = make_plan(root, folder / "nyu")
    run_pass(labelling, labelling.manifest.unit_refs(), LocalRunner())
    space = labelling.manifest.label_space
    students = {}
    for name, spec in {"f": SPEC, "g": BOTH}.items():
        torch.manual_seed(len(students))
        students[name] = root.child("students", name)
        save_student(students[name], build_student(spec, 13), spec=spec, label_space=space)
    samples = labelling.samples.root.uri.rsplit("/", 1)[-1]
    predicting = PredictionPlan(root, samples, DECODE, students, is_dense=True)
    predictions = run_predictions(predicting, refs_with_truth(labelling.manifest))
    return EvaluationPlan(
        labelling.manifest,
        labelling.teachers[0].labels,
        predictions,
        [FitColumn("noisy_student", 0, "f"), FitColumn("mke", 0, "g")],
        "mke",
        samples=sample_reader(labelling.samples, root, None),
        decode=DECODE,
    )


@pytest.fixture(scope="module")
def found(plan):
    return evaluate(plan)


def test_the_test_set_is_measured_over_the_pixels_of_all_its_samples(plan, found):
    refs = list(plan.manifest.unit_refs(["test"]))
    masks, arrays = [], []
    decode = decode_spec_from_dict(DECODE)
    for ref in refs:
        table = plan.samples.read(ref.unit, ["rgb", "mask"])
        arrays += [decode_modality(one, decode["rgb"]) for one in table.column("rgb").to_pylist()]
        masks += [decode_modality(one, decode["mask"]) for one in table.column("mask").to_pylist()]
    folder = plan.predictions.root.uri.rsplit("/predictions/", 1)[0]
    student = load_student(f"{folder}/students/f").student
    rgb = torch.from_numpy(np.stack(arrays))
    named = student({"rgb": rgb}, {"rgb": torch.ones(len(rgb), dtype=torch.bool)}).argmax(1)
    counts = PixelCounts.of_maps(named.numpy(), np.stack(masks), 13)
    arm = found.arms["noisy_student"]
    assert arm.value == pytest.approx(counts.miou())
    assert arm.pixel_accuracy == pytest.approx(counts.pixel_accuracy())
    assert arm.class_ious == pytest.approx(counts.class_ious().tolist(), nan_ok=True)
    assert (arm.num_test, found.metric) == (NUM_TEST, "miou")


def test_the_gain_is_the_difference_of_the_values_and_its_interval_pairs_the_samples(found):
    arm, teacher = found.arms["mke"], found.arms[TEACHER]
    assert arm.gain == pytest.approx(arm.value - teacher.value)
    gain_N = found.test.scores["g"] - found.test.scores[TEACHER]
    interval = bootstrap_by_group(gain_N, found.test.group_N)
    assert arm.gain_ci95 == (interval.low, interval.high)


def test_the_scores_of_every_part_have_the_mean_iou_of_that_part_as_their_mean(plan, found):
    assert found.select.num_samples + found.gate.num_samples == 3
    for name, value in (("f", found.arms["noisy_student"].select), ("g", found.arms["mke"].select)):
        if found.select.num_samples:
            assert found.select.scores[name].mean() == pytest.approx(value)


def test_the_unlabeled_set_with_known_truth_says_what_became_of_its_pixels(found):
    flow = found.arms["mke"].flow
    pixels = 7 * HEIGHT * WIDTH * 3 // 4  # of 14 - 4 - 3 samples, a quarter is not labelled
    assert flow.num == found.teacher_flow.num == pixels
    assert found.teacher_flow.num_wrong == flow.num_wrong > 0
    assert 0 <= flow.num_corrected <= flow.num_wrong


def test_dense_predictions_are_class_maps_and_have_no_temperature(plan):
    (ref, *_) = plan.manifest.unit_refs(["test"])
    piece = plan.predictions.read(ref.unit, columns=["f"]).column("f")[0].as_py()
    assert len(piece) == HEIGHT * WIDTH
    assert select_temperature(plan, "g") == 1.0


def _maps(truth, teacher, student):
    num = len(truth)
    return UnitMaps(
        np.arange(num),
        np.arange(num),
        [f"g{number}" for number in range(num)],
        [f"k{number}" for number in range(num)],
        np.asarray(truth, np.uint8),
        {TEACHER: np.asarray(teacher, np.uint8), "s": np.asarray(student, np.uint8)},
        3,
    )


def test_corrected_and_corrupted_are_pixels_that_count_and_have_a_pseudo_label():
    maps = _maps([[[0, 0, 1, 255, 2]]], [[[0, 1, 0, 0, 255]]], [[[1, 0, 0, 0, 2]]])
    assert maps.add_flow(Flow(), "s") == Flow(3, 2, 1, 1)


def test_scenes_are_shown_that_are_corrected_or_corrupted_most_and_a_typical_one():
    truth = np.zeros((5, 1, 10))
    teacher, student = np.zeros((5, 1, 10)), np.zeros((5, 1, 10))
    teacher[0, 0, :6] = 1  # all corrected
    student[1, 0, :6] = 1  # all corrupted
    truth[4, 0, 2:] = 255  # too little of it counts
    teacher[4, 0, :2] = 1
    showcase = DenseShowcase("s", num_each=1)
    showcase.add("u", _maps(truth, teacher, student))
    kinds = {one.kind: one for one in showcase.examples()}
    assert (kinds["corrected"].key, kinds["corrected"].corrected) == ("k0", 0.6)
    assert (kinds["corrupted"].key, kinds["corrupted"].corrupted) == ("k1", 0.6)
    assert kinds["typical"].key == "k2"
