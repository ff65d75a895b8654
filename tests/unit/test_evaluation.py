from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from listed_rows import SPACE, STATUSES, ListSource, kind_of, source_row
from sklearn.metrics import label_ranking_average_precision_score

from mke_ray.data.manifest import Mark, write_manifest
from mke_ray.errors import ConfigError, StoreError
from mke_ray.evaluation import (
    TEACHER,
    EvaluationPlan,
    FitColumn,
    evaluate,
    refs_with_truth,
)
from mke_ray.evaluation.average_precision import ResampledMAP, sample_average_precision
from mke_ray.evaluation.calibration import select_temperature
from mke_ray.evaluation.predictions import predictions_schema
from mke_ray.labels.probe import probe_part
from mke_ray.labels.store import UnitStore
from mke_ray.metrics import mean_average_precision
from mke_ray.schema import (
    LABELS_SCHEMA,
    LabelSpace,
)
from mke_ray.storage import open_root


@pytest.fixture
def root(tmp_path):
    return open_root(str(tmp_path))


def one_hot(said):
    """Logits that name a class, or none where nothing was seen."""
    return None if said is None else [4.0 if place == said else 0.0 for place in range(3)]


def stores_of(root, rows, answers, *, space=SPACE):
    """Write manifest, labels and predictions; ``answers[column](row)`` gives the logits."""
    manifest = write_manifest(root.child("manifest"), ListSource(rows, space), unit_size=4)
    fits = [column for column in answers if column != TEACHER]
    labels = UnitStore.open_or_create(root.child("labels", "t"), spec={}, schema=LABELS_SCHEMA)
    predictions = UnitStore.open_or_create(
        root.child("predictions", "p"), spec={}, schema=predictions_schema(fits)
    )
    for ref in manifest.unit_refs():
        unit = manifest.read_unit(ref)
        ids = {"sample_id": [row.sample_id for row in unit]}
        status = {"status": [STATUSES.get(kind_of(row), "ok") for row in unit]}
        said = {name: [say(row) for row in unit] for name, say in answers.items()}
        teacher = pa.table({**ids, **status, "logits": said[TEACHER]}, schema=LABELS_SCHEMA)
        labels.commit(ref.unit, teacher)
        students = {fit: said[fit] for fit in sorted(fits)}
        predictions.commit(
            ref.unit, pa.table({**ids, **status, **students}, schema=predictions.schema)
        )
    for store in (labels, predictions):
        store.write_index(store.committed())
    return manifest, labels, predictions


def plan_of(root, rows, answers, *, space=SPACE, **changes):
    columns = [FitColumn("mke", seed, fit) for seed, fit in enumerate(answers) if fit != TEACHER]
    manifest, labels, predictions = stores_of(root, rows, answers, space=space)
    plain = EvaluationPlan(manifest, labels, predictions, columns, "mke")
    return replace(plain, **changes)


def always(said):
    return lambda row: one_hot(said)


def truth(row):
    return one_hot(row.labels[0])


def test_accuracy_counts_right_answers_over_all_readable_test_rows(root):
    rows = [source_row("test", n, (n % 3,)) for n in range(12)]
    found = evaluate(plan_of(root, rows, {TEACHER: always(0), "f": truth}))
    assert found.arms[TEACHER].value == pytest.approx(4 / 12)
    assert found.arms["mke"].value == 1.0
    assert found.arms["mke"].gain == pytest.approx(8 / 12)
    assert (found.arms["mke"].num_test, found.arms["mke"].num_groups) == (12, 12)
    assert found.metric == "accuracy"


def test_bad_test_files_are_left_out_for_everybody_and_counted(root):
    rows = [source_row("test", n, (0,), kind="bad" if n < 3 else "ok") for n in range(8)]
    say = lambda row: None if kind_of(row) == "bad" else one_hot(0)  # noqa: E731
    found = evaluate(plan_of(root, rows, {TEACHER: say, "f": say}))
    assert found.num_excluded == 3
    assert found.arms[TEACHER].num_test == 5
    assert found.arms[TEACHER].value == 1.0


def test_a_classifier_that_sees_nothing_of_a_readable_sample_is_wrong_there(root):
    rows = [source_row("test", n, (0,), kind="partial" if n < 2 else "ok") for n in range(8)]
    blind = lambda row: None if kind_of(row) == "partial" else one_hot(0)  # noqa: E731
    found = evaluate(plan_of(root, rows, {TEACHER: blind, "f": always(0)}))
    assert found.arms[TEACHER].value == pytest.approx(6 / 8)
    assert found.arms["mke"].value == 1.0


def test_several_seeds_are_averaged_and_kept(root):
    rows = [source_row("test", n, (n % 2,)) for n in range(8)]
    found = evaluate(plan_of(root, rows, {TEACHER: always(2), "f": truth, "g": always(0)}))
    assert found.arms["mke"].value == pytest.approx(0.75)
    assert list(found.arms["mke"].seeds.values()) == [1.0, 0.5]
    assert found.columns["mke"] == ("f", "g")


def test_the_interval_of_the_paired_difference_is_narrower_than_those_of_the_arms(root):
    rng = np.random.default_rng(0)
    hard = rng.random(200) < 0.4
    rows = [source_row("test", n, (0,)) for n in range(200)]

    def teacher(row):
        return one_hot(int(hard[int(row.key.split("/")[1])]))

    def student(row):
        number = int(row.key.split("/")[1])
        return one_hot(int(hard[number] and number % 4 > 0))

    arm = evaluate(plan_of(root, rows, {TEACHER: teacher, "f": student})).arms["mke"]
    low, high = arm.gain_ci95
    assert low < arm.gain < high
    assert high - low < 0.7 * (arm.ci95[1] - arm.ci95[0])
    assert low > 0


def test_test_samples_of_one_group_give_no_interval(root):
    rows = [source_row("test", n, (0,), group="one") for n in range(8)]
    arm = evaluate(plan_of(root, rows, {TEACHER: always(0), "f": always(0)})).arms["mke"]
    assert arm.ci95 is None
    assert arm.num_groups == 1


def test_the_probe_is_divided_by_group_and_each_part_keeps_to_itself(root):
    rows = [source_row("test", 0, (0,))]
    rows += [source_row("probe", n, (n % 3,), group=f"g{n // 3}") for n in range(60)]
    found = evaluate(plan_of(root, rows, {TEACHER: always(0), "f": truth}, probe_seed=3))
    for part, name in ((found.select, "select"), (found.gate, "gate")):
        assert part.num_samples > 0
        assert {probe_part(group, seed=3) for group in part.group_N} == {name}
        assert part.scores["f"].mean() == 1.0
        assert 0.2 < part.scores[TEACHER].mean() < 0.5
    assert found.select.num_samples + found.gate.num_samples == 60
    assert found.arms["mke"].select == 1.0


def test_corrected_and_corrupted_are_counted_on_unlabeled_rows_with_a_known_truth(root):
    rows = [source_row("test", 0, (0,))]
    rows += [source_row("unlabeled", n, (0,) if n < 6 else (1,)) for n in range(10)]
    rows += [source_row("unlabeled", n, None) for n in range(10, 16)]
    found = evaluate(
        plan_of(
            root,
            rows,
            {
                TEACHER: always(0),
                "f": lambda row: one_hot(1 if int(row.key.split("/")[1]) in (0, 6, 7, 8) else 0),
            },
        )
    )
    flow = found.arms["mke"].flow
    assert (flow.num, flow.num_wrong, flow.num_corrected, flow.num_corrupted) == (10, 4, 3, 1)
    assert flow.corrected == pytest.approx(3 / 4)
    assert flow.corrupted == pytest.approx(1 / 6)
    assert found.teacher_flow.teacher_accuracy == pytest.approx(0.6)
    assert found.arms[TEACHER].flow is None


def test_rows_without_a_pseudo_label_are_no_pseudo_labels(root):
    rows = [source_row("test", 0, (0,))]
    rows += [source_row("unlabeled", n, (0,), kind="partial" if n < 2 else "ok") for n in range(8)]
    blind = lambda row: None if kind_of(row) == "partial" else one_hot(0)  # noqa: E731
    found = evaluate(plan_of(root, rows, {TEACHER: blind, "f": always(0)}))
    assert found.arms["mke"].flow.num == 6


def test_without_any_known_truth_nothing_is_said_of_the_unlabeled_set(root):
    rows = [source_row("test", 0, (0,))] + [source_row("unlabeled", n, None) for n in range(8)]
    found = evaluate(plan_of(root, rows, {TEACHER: always(0), "f": always(0)}))
    assert found.teacher_flow is None
    assert found.arms["mke"].flow is None


def test_units_without_any_true_label_are_not_looked_at(root):
    rows = [source_row("unlabeled", n, None if n < 4 else (0,)) for n in range(8)]
    rows += [source_row("test", n, (0,)) for n in range(4)]
    rows += [source_row("labelled", n, (0,)) for n in range(4)]
    manifest = write_manifest(root.child("manifest"), ListSource(rows), unit_size=4)
    refs = list(refs_with_truth(manifest))
    assert [(ref.split, manifest.read_unit(ref)[0].labels) for ref in refs] == [
        ("unlabeled", (0,)),
        ("test", (0,)),
    ]


def test_a_run_without_test_labels_says_what_is_missing(root):
    rows = [source_row("probe", n, (0,)) for n in range(4)]
    with pytest.raises(ConfigError, match="split=test"):
        evaluate(plan_of(root, rows, {TEACHER: always(0), "f": always(0)}))


def test_predictions_of_other_samples_are_refused(root):
    rows = [source_row("test", n, (0,)) for n in range(4)]
    plan = plan_of(root, rows, {TEACHER: always(0), "f": always(0)})
    (ref,) = plan.manifest.unit_refs()
    table = plan.predictions.read(ref.unit)
    other = UnitStore.open_or_create(
        root.child("predictions", "q"), spec={}, schema=plan.predictions.schema
    )
    other.commit(ref.unit, table.take([1, 0, 2, 3]))
    other.write_index([ref.unit])
    with pytest.raises(StoreError, match="other samples"):
        evaluate(replace(plan, predictions=other))


def test_examples_say_who_was_right_and_do_not_depend_on_the_order(root):
    rows = [source_row("test", n, (n % 3,)) for n in range(90)]
    answers = {TEACHER: always(0), "f": lambda row: one_hot(row.labels[0] % 2)}
    found = evaluate(plan_of(root.child("one"), rows, answers)).examples
    again = evaluate(plan_of(root.child("two"), rows[::-1], answers)).examples
    kinds = [example.kind for example in found]
    assert kinds == ["corrected"] * 12 + ["wrong"] * 12
    assert {example.sample_id for example in found} == {example.sample_id for example in again}
    for example in found:
        assert example.teacher.classes == (0,)
        assert example.teacher.classes != example.truth
        assert (example.student.classes == example.truth) == (example.kind == "corrected")
        assert example.student.confidence == pytest.approx(np.exp(4) / (np.exp(4) + 2), rel=1e-5)


def test_confidence_is_compared_with_accuracy_outside_test_and_gate(root):
    rows = [source_row("test", n, (0,)) for n in range(4)]
    rows += [source_row("unlabeled", n, (n % 2,)) for n in range(8)]
    (found,) = evaluate(plan_of(root, rows, {TEACHER: always(0), "f": always(0)})).confidence
    assert found.num == 8
    assert found.accuracy == 0.5
    assert found.low <= found.confidence <= found.high


def multi_plan(root, num=60):
    space = LabelSpace(("zero", "one", "two"), kind="multi")
    rng = np.random.default_rng(1)
    labels = [tuple(np.flatnonzero(rng.random(3) < 0.4).tolist()) for _ in range(num)]
    rows = [source_row("test", n, one) for n, one in enumerate(labels)]
    noise = {row.key: rng.normal(size=(2, 3)) for row in rows}

    def say(place, strength):
        def logits(row):
            shown = np.isin(range(3), row.labels) * 2.0 - 1.0
            return (shown * strength + noise[row.key][place]).tolist()

        return logits

    answers = {TEACHER: say(0, 0.3), "f": say(1, 2.0)}
    plan = plan_of(root, rows, answers, space=space)
    truth_NC = np.array([np.isin(range(3), row.labels) for row in rows])
    student_NC = np.array([answers["f"](row) for row in rows])
    return plan, truth_NC, student_NC


def test_several_classes_per_sample_are_measured_by_mean_average_precision(root):
    plan, truth_NC, student_NC = multi_plan(root)
    found = evaluate(plan)
    arm = found.arms["mke"]
    assert found.metric == "map"
    assert arm.value == pytest.approx(mean_average_precision(student_NC, truth_NC), abs=1e-4)
    assert arm.ci95[0] < arm.value < arm.ci95[1]
    assert 0 < arm.gain_ci95[0] < arm.gain < arm.gain_ci95[1]
    expected = label_ranking_average_precision_score(truth_NC, student_NC)
    assert found.test.scores["f"].mean() == pytest.approx(expected, abs=1e-5)


def test_average_precision_by_sample_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    truth_NC, score_NC = rng.random((50, 7)) < 0.3, rng.normal(size=(50, 7))
    mine = sample_average_precision(score_NC, truth_NC).mean()
    assert mine == pytest.approx(label_ranking_average_precision_score(truth_NC, score_NC))


def test_resampled_precision_of_equal_weights_is_the_plain_one():
    rng = np.random.default_rng(0)
    truth_NC, score_NC = rng.random((40, 5)) < 0.3, rng.normal(size=(40, 5))
    resampled = ResampledMAP(truth_NC, np.arange(40))
    resampled._count_RG = np.ones((1, 40), int)
    expected = mean_average_precision(score_NC, truth_NC)
    assert resampled.values(score_NC)[0] == pytest.approx(expected)


def test_marked_rows_do_not_exist_for_test_gate_truth_and_temperature(root):
    rows = [source_row("test", n, (n % 3,)) for n in range(8)]
    rows += [source_row("probe", n, (0,), group=f"p{n}") for n in range(20)]
    rows += [source_row("unlabeled", n, (0,)) for n in range(4)]
    plan = plan_of(root, rows, {TEACHER: always(0), "f": truth})
    before = evaluate(plan)
    marks = [
        Mark(row.sample_id, ref.unit, number, "copy_of_test")
        for ref in plan.manifest.unit_refs()
        for number, row in enumerate(plan.manifest.read_unit(ref))
        if int(row.key.split("/")[1]) in (0, 3)
    ]
    marked = replace(plan, manifest=plan.manifest.add_marks(marks))
    found = evaluate(marked)
    assert (before.arms[TEACHER].num_test, found.arms[TEACHER].num_test) == (8, 6)
    assert found.arms[TEACHER].value == pytest.approx(1 / 6)
    assert found.num_excluded == 0
    num_probe = found.select.num_samples + found.gate.num_samples
    assert (before.select.num_samples + before.gate.num_samples, num_probe) == (20, 18)
    assert found.teacher_flow is not None and found.teacher_flow.num == 2
    everything = [
        Mark(row.sample_id, ref.unit, number, "copy_of_test")
        for ref in plan.manifest.unit_refs(["probe"])
        for number, row in enumerate(plan.manifest.read_unit(ref))
    ]
    nothing = replace(plan, manifest=marked.manifest.add_marks(everything))
    assert select_temperature(plan, "f") != 1.0
    assert select_temperature(nothing, "f") == 1.0
