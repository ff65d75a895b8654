"""Our student from end to end: two views that are independent given the class, in this process."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from composed import composed

from mke_ray.config_predict import PredictConfig, StudentFilesConfig
from mke_ray.config_schema import JobConfig
from mke_ray.errors import ConfigError, StoreError
from mke_ray.expansion import evaluate, expand, train
from mke_ray.expansion.checks import check_job, open_run
from mke_ray.expansion.refining_storage import stores_of_refining
from mke_ray.expansion.stages import label_stage, teach_stage
from mke_ray.expansion.whole import run_stages
from mke_ray.expansion.witnesses import expansion_objective
from mke_ray.labels.file_names import is_part
from mke_ray.labels.store import UnitStore
from mke_ray.models import load_student
from mke_ray.predict.prediction import predict_all
from mke_ray.storage import open_root
from mke_ray.train import launch
from mke_ray.train.fits import FitStore

CLASSES = ["p", "q", "r"]
SPLITS = {"labelled": 40, "probe": 240, "unlabeled": 600, "test": 300}

UNFITTED = {
    "temperature": 1.0,
    "teacher": 1.0,
    "witnesses": {"b": 1.0},
    "log_likelihood": None,
    "used": True,
}


def write_table(path: Path, *, teacher: float = 1.2, witness: float = 2.0) -> None:
    """Write rows of two views that show the class as strongly as asked."""
    rng = np.random.default_rng(3)
    split = [name for name, number in SPLITS.items() for _ in range(number)]
    label_N = rng.integers(0, 3, len(split))
    shown_N3 = np.eye(3)[label_N]
    a_N3 = teacher * shown_N3 + rng.normal(size=shown_N3.shape)
    b_N3 = witness * shown_N3 + rng.normal(size=shown_N3.shape)
    columns = {f"a_{k}": a_N3[:, k] for k in range(3)} | {f"b_{k}": b_N3[:, k] for k in range(3)}
    columns["b_0"] = [None if n % 50 == 7 else x for n, x in enumerate(columns["b_0"])]
    names = [CLASSES[one] for one in label_N]
    group = [f"{one} {number // 2}" for number, one in enumerate(split)]
    table = pa.table({**columns, "label": names, "split": split, "group": group})
    pq.write_table(table, path)


def job_of(tmp_path: Path, *overrides: str) -> JobConfig:
    (job,) = composed(
        "experiment=features",
        "objective=expansion",
        "preflight=off",
        "scaling.launch=local",
        "tracking=off",
        f"source.root={tmp_path}",
        "source.table=rows.parquet",
        "source.modalities={a: [a_*], b: [b_*]}",
        f"source.classes={CLASSES}",
        "++source.columns={label: label, split: split, group: group}",
        *(f"++decode.{one}={{kind: features, num_features: 3}}" for one in "ab"),
        *(
            f"++student.encoders.{one}={{type: features, num_inputs: 3, hidden: [16]}}"
            for one in "ab"
        ),
        "teacher.modality=a",
        "fit.num_steps=120",
        "teacher.fit.num_steps=80",
        "arms=[mke,mm_labelled_only]",
        f"root={tmp_path / 'run'}",
        *overrides,
    )
    return job


def metrics_of(job: JobConfig) -> dict[str, Any]:
    return json.loads((Path(job.root) / "report" / "metrics.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One whole run, which several tests look at."""
    folder = tmp_path_factory.mktemp("finished")
    write_table(folder / "rows.parquet")
    job = job_of(folder, "tracking=mlflow")
    run_stages(job)
    return job


def test_our_student_is_the_one_that_is_judged_and_beats_the_published_one(finished):
    metrics = metrics_of(finished)
    arms = metrics["arms"]
    assert set(arms) == {"teacher", "mke", "mm_student", "mm_labelled_only", "relabel_only"}
    assert arms["mm_student"]["value"] > arms["mke"]["value"] + 0.02
    assert arms["mm_student"]["value"] > arms["teacher"]["value"] + 0.06
    assert arms["relabel_only"]["corrected"] > 0.4
    assert metrics["gate"]["verdict"] == "promoted"
    rounds = metrics["refinement"]
    (used,) = (one for one in rounds if one["used"])
    assert used["log_likelihood"] == max(one["log_likelihood"] for one in rounds) < 0
    assert rounds.index(used) >= len(rounds) - 2  # the first that does not gain is the last
    assert "mm_student" in (Path(finished.root) / "report" / "index.html").read_text()


def test_it_says_how_sure_the_teacher_may_be_on_samples_that_chose_nothing(finished):
    found = metrics_of(finished)["calibration"]
    assert found["temperature"] == metrics_of(finished)["refinement"][0]["temperature"]
    assert 0.0 < found["ece_after"] < 0.2 and 0.0 < found["ece_before"] < 0.5
    assert "expected calibration error" in (Path(finished.root) / "report/index.html").read_text()


def test_the_student_is_one_network_that_does_without_a_modality(finished):
    loaded = load_student(Path(finished.root) / "student")
    assert loaded.student.modalities == ("a", "b")
    table = pq.read_table(Path(finished.source["root"]) / "rows.parquet")
    test = table.filter(pc.equal(table["split"], "test"))
    a_N3 = np.stack([test[f"a_{k}"].to_numpy() for k in range(3)], axis=1)
    truth_N = np.array([CLASSES.index(one) for one in test["label"].to_pylist()])
    there, missing = (
        torch.ones(len(a_N3), dtype=torch.bool),
        torch.zeros(len(a_N3), dtype=torch.bool),
    )
    arrays = {"a": torch.from_numpy(a_N3).float(), "b": torch.zeros(len(a_N3), 3)}
    with torch.inference_mode():
        said_NC = loaded.student(arrays, {"a": there, "b": missing})
    right = (said_NC.argmax(dim=1).numpy() == truth_N).mean()
    assert right > metrics_of(finished)["arms"]["teacher"]["value"] - 0.08


def test_the_model_card_says_what_it_was_trained_on_and_compared_with(finished):
    card = (Path(finished.root) / "student" / "README.md").read_text()
    assert "refined by witnesses" in card and "labelled pairs of the select part" in card
    metrics = metrics_of(finished)
    assert metrics["gate"]["reason"] in card
    for arm in metrics["arms"].values():
        assert f"| {arm['value']:.1%} |" in card
    assert "a alone: " in card and "600 unlabeled" in card and "load_student(" in card


def test_a_promoted_student_is_the_champion_of_mlflow_with_its_origin(finished):
    import mlflow
    from mlflow import MlflowClient

    uri = f"sqlite:///{finished.root}/mlflow.db"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    version = client.get_model_version_by_alias("features", "champion")
    spec = json.loads((Path(finished.root) / "student" / "student.json").read_text())
    assert version.tags["student"] == spec["sha256"]
    assert version.tags["fit"] == spec["extra"]["fit"]
    run = client.get_run(version.run_id)
    assert run.data.tags["registered_model"] == f"features/{version.version}"
    assert run.data.tags["origin.manifest"] == version.tags["manifest"]
    inputs = {one.dataset.name: one for one in run.inputs.dataset_inputs}
    assert set(inputs) == {f"features/{split}" for split in SPLITS}
    assert inputs["features/unlabeled"].tags[0].value == "train"
    model = mlflow.pyfunc.load_model(client.download_artifacts(version.run_id, "model"))
    rng = np.random.default_rng(0)
    given = {one: rng.normal(size=(4, 3)).astype(np.float32) for one in "ab"}
    flags = {"a_present": np.ones(4, bool), "b_present": np.array([True, False, True, False])}
    said = model.predict({**given, **flags})["probabilities"]
    loaded = load_student(Path(finished.root) / "student")
    arrays = {name: torch.from_numpy(one) for name, one in given.items()}
    present = {name: torch.from_numpy(flags[f"{name}_present"]) for name in given}
    with torch.inference_mode():
        wanted = loaded.probabilities(loaded.student(arrays, present))
    np.testing.assert_allclose(said, wanted, rtol=1e-5)
    assert [one.name for one in model.metadata.signature.inputs] == [*given, *flags]


def test_predictions_over_the_same_rows_are_those_of_the_evaluation(finished, tmp_path):
    job = PredictConfig(
        root=str(tmp_path / "answers"),
        student=StudentFilesConfig(path=f"{finished.root}/student"),
        source=finished.source,
        labelling=replace(finished.labelling, runner="local"),
    )
    predict_all(job)
    rows = pq.read_table(tmp_path / "answers" / "answers").to_pylist()
    truth = pq.read_table(Path(finished.source["root"]) / "rows.parquet").column("label")
    assert len(rows) == len(truth) == sum(SPLITS.values())
    test = [row for row in rows if row["split"] == "test"]
    numbers = [int(row["uri"].rsplit("#", 1)[1]) for row in test]
    right = [row["answer"] == truth[one].as_py() for row, one in zip(test, numbers, strict=True)]
    assert np.mean(right) == metrics_of(finished)["arms"]["mm_student"]["value"]
    lacking = [row for row in rows if row["missing"] == ["b"]]
    assert len(lacking) == len([n for n in range(len(truth)) if n % 50 == 7])
    assert all(row["status"] == "partial" and row["answer"] for row in lacking)


def test_what_is_finished_is_not_done_again(finished, monkeypatch):
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("there is nothing to train")

    before = metrics_of(finished)
    monkeypatch.setattr("mke_ray.expansion.work.run_fits", never)
    monkeypatch.setattr("mke_ray.expansion.calibrating.teacher_calibration", never)
    expand([finished])
    evaluate([finished])
    assert metrics_of(finished)["arms"] == before["arms"]
    assert metrics_of(finished)["calibration"] == before["calibration"]


def test_answers_and_refined_labels_lie_in_parts_as_those_of_the_teacher_do(finished):
    root, num_stores = open_root(finished.root), {}
    for folder in ("samples", "labels", "predictions"):
        names = {name.split("/")[1] for name in root.names(folder)}
        num_stores[folder] = len(names)
        for name in names:
            store = UnitStore.open(root.child(folder, name))
            in_files = Counter(file for _, _, file in store.index().entries())
            alone = {file for file in in_files if not is_part(file)}
            splits = {store.index().split(unit) for unit in store.index().units()}
            assert len(in_files) == len(splits)  # one each, and of a single unit its own
            assert set(store.root.names("attempts")) == alone
            assert all(in_files[file] == 1 for file in alone) and len(alone) < len(in_files)
            for unit in store.index().units():
                store.read(unit, check_digest=True)
    assert num_stores["labels"] > 2 and num_stores["predictions"] > 2


def test_a_student_that_is_not_promoted_any_more_is_withdrawn_with_its_card(tmp_path):
    write_table(tmp_path / "rows.parquet")
    short = ("fit.num_steps=60", "expansion.rounds=1", "expansion.members=1", "arms=[mm_student]")
    run_stages(job_of(tmp_path, *short))
    student = Path(job_of(tmp_path).root) / "student"
    assert {path.name for path in student.iterdir()} >= {"student.json", "README.md"}
    run_stages(job_of(tmp_path, *short, "gate.min_samples=1000"))
    assert not list(student.iterdir())


@pytest.fixture
def job(tmp_path):
    write_table(tmp_path / "rows.parquet")
    return job_of(tmp_path, "fit.num_steps=20", "expansion.members=2", "expansion.rounds=2")


def test_a_run_that_dies_in_any_fit_is_finished_with_the_same_weights(job, tmp_path, monkeypatch):
    whole = job_of(tmp_path, *("fit.num_steps=20", "expansion.members=2", "expansion.rounds=2"))
    whole.root = str(tmp_path / "whole")
    run_stages(whole)
    run_fit, began = launch.run_fit, []

    def dying(spec, *args, **kwargs):
        if spec.fingerprint() not in began:
            began.append(spec.fingerprint())
            raise KeyboardInterrupt(spec.name)
        return run_fit(spec, *args, **kwargs)

    monkeypatch.setattr(launch, "run_fit", dying)
    while True:
        try:
            run_stages(job)
            break
        except KeyboardInterrupt:
            assert len(began) < 20
    assert len(began) == 8  # teacher, two rounds, two members, three arms
    stores = [FitStore(check_job(one).root) for one in (whole, job)]
    for fit in began[1:]:
        assert stores[0].weights_digest(fit) == stores[1].weights_digest(fit)
    assert metrics_of(job)["arms"] == metrics_of(whole)["arms"]


def test_single_jobs_do_what_the_whole_does(job):
    with open_run(job) as run:
        manifest = run.manifest(refresh=True)
        label_stage(run, manifest, teach_stage(run, manifest))
    with pytest.raises(StoreError, match=r"jobs/train\.py first"):
        evaluate([job])
    train([job])
    evaluate([job])
    assert "mm_student" in metrics_of(job)["arms"]


def test_a_witness_that_knows_nothing_is_not_listened_to(tmp_path, caplog):
    write_table(tmp_path / "rows.parquet", witness=0.0)
    job = job_of(tmp_path)
    with caplog.at_level("WARNING"):
        run_stages(job)
    arms = metrics_of(job)["arms"]
    assert "no witness of ['b'] is of any use" in caplog.text
    assert arms["relabel_only"]["gain"] == 0.0
    assert arms["mm_student"]["value"] > arms["teacher"]["value"] - 0.08


def test_without_a_probe_every_exponent_is_one(tmp_path):
    write_table(tmp_path / "rows.parquet")
    table = pq.read_table(tmp_path / "rows.parquet")
    kept = [number for number, one in enumerate(table["split"].to_pylist()) if one != "probe"]
    pq.write_table(table.take(kept), tmp_path / "rows.parquet")
    job = job_of(
        tmp_path, "fit.num_steps=40", "arms=[mke]", "expansion.rounds=1", "expansion.open_set=on"
    )
    run_stages(job)
    metrics = metrics_of(job)
    assert metrics["refinement"] == [UNFITTED]
    assert metrics["gate"]["verdict"] == "unverified"
    assert metrics["arms"]["mm_student"]["value"] > metrics["arms"]["teacher"]["value"]


def test_of_three_modalities_both_others_are_witnesses(tmp_path):
    write_table(tmp_path / "rows.parquet")
    table = pq.read_table(tmp_path / "rows.parquet")
    noise = np.random.default_rng(0).normal(size=(table.num_rows, 2))
    more = {f"c_{k}": noise[:, k] for k in range(2)}
    for name, column in more.items():
        table = table.append_column(name, pa.array(column))
    pq.write_table(table, tmp_path / "rows.parquet")
    job = job_of(
        tmp_path,
        "++source.modalities.c=[c_*]",
        "++decode.c={kind: features, num_features: 2}",
        "++student.encoders.c={type: features, num_inputs: 2, hidden: [16]}",
        "expansion.members=1",
    )
    run_stages(job)
    metrics = metrics_of(job)
    last = metrics["refinement"][-1]["witnesses"]
    assert set(last) == {"b", "c"} and last["b"] > last["c"]
    assert metrics["arms"]["mm_student"]["gain"] > 0.03


def test_labels_of_many_classes_are_refined_class_by_class(tmp_path):
    rng = np.random.default_rng(5)
    split = [name for name, number in SPLITS.items() for _ in range(number)]
    holds_N3 = rng.random((len(split), 3)) < 0.4
    columns = {}
    for view, strength in (("a", 1.2), ("b", 2.0)):
        seen_N3 = strength * holds_N3 + rng.normal(size=holds_N3.shape)
        columns |= {f"{view}_{k}": seen_N3[:, k] for k in range(3)}
    flags = {f"is_{name}": holds_N3[:, k].astype(int) for k, name in enumerate(CLASSES)}
    pq.write_table(pa.table({**columns, **flags, "split": split}), tmp_path / "rows.parquet")
    job = job_of(
        tmp_path,
        "source.label_kind=multi",
        "++source.columns={label: [is_p, is_q, is_r], split: split, group: null}",
        "fit.num_steps=80",
        "expansion.members=2",
        "expansion.open_set=on",
    )
    run_stages(job)
    metrics = metrics_of(job)
    assert metrics["metric"] == "map"
    assert "open_set" not in metrics["refinement"][-1]
    assert metrics["refinement"][-1]["witnesses"]["b"] > 0
    assert metrics["arms"]["mm_student"]["value"] > metrics["arms"]["mke"]["value"]


def test_a_probe_of_a_few_samples_chooses_nothing(tmp_path):
    write_table(tmp_path / "rows.parquet")
    table = pq.read_table(tmp_path / "rows.parquet")
    split = table["split"].to_pylist()
    first = split.index("probe")
    kept = [number for number, one in enumerate(split) if one != "probe" or number < first + 20]
    pq.write_table(table.take(kept), tmp_path / "rows.parquet")
    job = job_of(tmp_path, "fit.num_steps=20", "arms=[mke]", "expansion.rounds=1")
    run_stages(job)
    (found,) = metrics_of(job)["refinement"]
    assert found == UNFITTED
    assert "too few samples" in (Path(job.root) / "report" / "index.html").read_text()


def test_pairs_that_witnesses_learn_from_are_judged_by_their_own_fold(finished):
    with open_run(finished) as run:
        facts = [FitStore(run.root).facts(one) for one in _witness_fits(finished)]
    for one in facts:
        pairs = [row for row in one["spec"]["rows"] if row["split"] == "probe"]
        assert [(row["part"], row["targets"]) for row in pairs] == [("select", "true")]
        assert one["spec"]["folds"]["bounds"]


def _witness_fits(job: JobConfig) -> list[str]:
    folder = Path(job.root) / "fits"
    found = [path.parent for path in folder.glob("*/*/fit.json")]
    facts = [(one.parent.name, json.loads((one / "fit.json").read_text())) for one in found]
    return [name for name, one in facts if one["spec"]["arm"] == "witness"]


def test_unlabeled_samples_of_two_groups_are_refused_before_they_are_labelled(tmp_path):
    write_table(tmp_path / "rows.parquet")
    table = pq.read_table(tmp_path / "rows.parquet")
    groups = [f"{one} {n % 2}" for n, one in enumerate(table["split"].to_pylist())]
    pq.write_table(
        table.set_column(table.column_names.index("group"), "group", pa.array(groups)),
        tmp_path / "rows.parquet",
    )
    job = job_of(tmp_path)
    with pytest.raises(ConfigError, match=r"expansion\.folds=3.*of 2 groups.*objective=mke"):
        run_stages(job)
    assert not (Path(job.root) / "labels").exists()


def test_a_loss_of_the_users_is_that_of_our_student_too(tmp_path):
    write_table(tmp_path / "rows.parquet")
    job = job_of(tmp_path)
    job.expansion.alpha, job.expansion.fallback_alpha = 1.0, 2.0
    assert expansion_objective(job, "single", is_by_witnesses=True)["alpha"] == 1.0
    assert expansion_objective(job, "single", is_by_witnesses=False)["alpha"] == 2.0
    job.objective = {"_target_": "my_package.Loss", "alpha": 0.5}
    assert expansion_objective(job, "single", is_by_witnesses=True) == job.objective


def test_the_estimate_of_what_refining_stores_is_near_what_it_stored(tmp_path):
    write_table(tmp_path / "rows.parquet")
    keys = ["expansion.rounds=1", "fit.num_steps=20", "arms=[mke]"]
    job = job_of(tmp_path, *keys)
    run_stages(job)
    root, stored = open_root(job.root), set()
    for name in {one.split("/")[1] for one in root.names("labels")}:
        spec = UnitStore.open(root.child("labels", name)).spec
        if "derivation" in spec:
            stored |= {f"labels/{name}", f"predictions/{spec['said']}"}
    real = sum(
        path.stat().st_size
        for one in stored
        for path in Path(job.root, one).rglob("*")
        if path.is_file()
    )
    expected = list(stores_of_refining(check_job(job), SPLITS))
    assert len(expected) == len(stored) == 4
    assert sum(one.num_bytes for one in expected) == pytest.approx(real, rel=0.3)


def test_a_dry_run_says_what_refining_takes_and_writes_nothing(tmp_path, capsys):
    write_table(tmp_path / "rows.parquet")
    job = job_of(tmp_path, "dry_run=true", "fit.num_steps=100")
    expand([job])
    said = capsys.readouterr().out
    assert "3 rounds of 3 witnesses of b, 3 students distilled into one" in said
    assert "450 steps beside 100 of every arm" in said
    assert "of answers and refined labels, if all rounds are needed" in said
    assert "witness " in said and "mm_student " in said
    assert not Path(job.root).exists()


def test_a_student_without_another_modality_is_refused_before_anything_starts(tmp_path):
    write_table(tmp_path / "rows.parquet")
    job = job_of(tmp_path)
    del job.student.encoders["b"]
    with pytest.raises(ConfigError, match="objective=mke"):
        check_job(job)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rounds", 0),
        ("folds", 1),
        ("members", 0),
        ("modality_dropout", 1.5),
        ("labelled_share", -1),
    ],
)
def test_a_number_that_makes_no_sense_is_refused_by_its_key(tmp_path, key, value):
    write_table(tmp_path / "rows.parquet")
    with pytest.raises(ConfigError, match=rf"expansion\.{key}"):
        check_job(job_of(tmp_path, f"expansion.{key}={value}"))
