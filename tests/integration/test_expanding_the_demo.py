"""The main job on real encoded videos with a real Ray, DeepSpeed and MLflow."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from composed import composed
from job_processes import kill_once, start_job

from mke_ray.config_predict import PredictConfig, StudentFilesConfig
from mke_ray.config_schema import JobConfig
from mke_ray.config_upkeep import ReportConfig
from mke_ray.data.demo import plan_clips
from mke_ray.data.manifest import Manifest
from mke_ray.expansion.reporting import report
from mke_ray.expansion.whole import run_stages
from mke_ray.labels.store import UnitStore
from mke_ray.labels.verify import verify
from mke_ray.models import save_student
from mke_ray.predict.prediction import predict_all
from mke_ray.report.comparing import arm_scores
from mke_ray.report.stored import stored_run
from mke_ray.storage import Root, open_root
from mke_ray.train.fits import FitStore

NUM_CLIPS = 40 + 64 + 40 + 60 + 4


def tiny_job(root: str, *overrides: str) -> JobConfig:
    (job,) = composed("experiment=tiny", f"root={root}", *overrides)
    return job


@pytest.fixture(scope="module")
def finished(ray_session, tmp_path_factory: pytest.TempPathFactory) -> JobConfig:
    job = tiny_job(str(tmp_path_factory.mktemp("demo")))
    run_stages(job)
    return job


def store_below(root: Root, kind: str) -> UnitStore:
    (name,) = {one.split("/")[1] for one in root.names(kind)}
    return UnitStore.open(root.child(kind, name))


def test_every_file_has_a_status_and_the_broken_ones_are_listed(finished: JobConfig) -> None:
    metrics = json.loads(Path(finished.root, "report", "metrics.json").read_text())
    counts = metrics["counts"]
    assert counts["samples"] == NUM_CLIPS
    assert counts["ok"] + counts["partial"] + counts["bad"] + counts["retry"] == NUM_CLIPS
    assert counts["partial"] + counts["bad"] == 4
    page = Path(finished.root, "report", "index.html").read_text()
    assert counts["reasons"] and counts["partial_reasons"]
    for reason in [*counts["reasons"], *counts["partial_reasons"]]:
        assert reason in page
    splits = {"labelled": 40, "unlabeled": 64, "probe": 40, "test": 60}
    plans = plan_clips(splits, num_broken=4, data_seed=finished.data_seed)
    broken = [plan.key for plan in plans if plan.broken]
    assert len(broken) == 4
    for key in broken:
        assert f">{key}<" in page


@pytest.mark.parametrize("kind", ["samples", "labels"])
def test_every_row_of_the_manifest_is_stored_exactly_once(finished: JobConfig, kind: str) -> None:
    root = open_root(finished.root)
    found = verify(store_below(root, kind), Manifest.open(root.child("manifest")))
    assert found.ok, found.problems
    assert found.num_rows == NUM_CLIPS


def test_all_arms_are_compared_on_the_whole_test_split(finished: JobConfig) -> None:
    metrics = json.loads(Path(finished.root, "report", "metrics.json").read_text())
    assert {"teacher", "noisy_student", "mm_student_no_reg", "mke", "mm_labelled_only"} <= set(
        metrics["arms"]
    )
    assert metrics["arms"]["mm_labelled_only"]["select"] is None  # it learned from that part
    assert {arm["num_test"] for arm in metrics["arms"].values()} == {60}


def test_mlflow_has_a_finished_run_with_its_curves_and_the_page(finished: JobConfig) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{finished.root}/mlflow.db"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert "test/mke" in parent.data.metrics
    metrics = json.loads(Path(finished.root, "report", "metrics.json").read_text())
    assert parent.data.tags["verdict"] == metrics["gate"]["verdict"]
    assert parent.data.tags["report"] == f"{finished.root}/report/index.html"
    assert len(runs) == 5
    assert bool(client.search_registered_models()) == metrics["gate"]["promoted"]
    assert any(one.path.endswith("index.html") for one in client.list_artifacts(parent.info.run_id))
    child = next(run for run in runs if run.data.tags.get("mlflow.runName", "").startswith("mke"))
    assert len(client.get_metric_history(child.info.run_id, "loss")) >= 1


def exported(finished: JobConfig, folder: Path) -> tuple[str, str]:
    """Return the student of an arm as if it had been promoted, and its column of predictions."""
    store = FitStore(open_root(finished.root))
    names = {one.split("/")[1] for one in store.root.names("fits")}
    (fit,) = [one for one in names if store.facts(one)["spec"]["arm"] == "mke"]
    loaded = store.load(fit)
    save_student(
        folder,
        loaded.student,
        spec=loaded.spec,
        label_space=loaded.label_space,
        temperature=1.5,
        extra={"decode": finished.decode},
    )
    return str(folder), fit


def evaluated(finished: JobConfig, fit: str) -> tuple[dict[int, int], dict[int, int]]:
    """Return what the evaluation had a student answer, and the truth, of the test split."""
    root, said, truth = open_root(finished.root), {}, {}
    manifest = Manifest.open(root.child("manifest"))
    names = {one.split("/")[1] for one in root.names("predictions")}
    stores = [UnitStore.open(root.child("predictions", name)) for name in names]
    (store,) = [one for one in stores if fit in one.schema.names]
    for ref in manifest.unit_refs(["test"]):
        table = store.read(ref.unit, columns=["sample_id", fit]).to_pylist()
        for row, one in zip(manifest.read_unit(ref), table, strict=True):
            assert row.labels is not None
            said[row.sample_id], truth[row.sample_id] = int(np.argmax(one[fit])), row.labels[0]
    return said, truth


def test_predictions_over_the_bucket_are_those_of_the_evaluation_also_after_a_kill(
    finished: JobConfig, tmp_path: Path
) -> None:
    student, fit = exported(finished, tmp_path / "student")
    root, source = tmp_path / "answers", finished.source
    numbers = ("num_labelled", "num_unlabeled", "num_probe", "num_test", "num_broken")
    process = start_job(
        "predict",
        [
            f"student.path={student}",
            f"root={root}",
            "source=demo",
            f"source.root={source['root']}",
            *(f"source.{name}={source[name]}" for name in numbers),
            "labelling.unit_size=16",
            "labelling.runner=local",
            "labelling.units_ahead=0",
        ],
    )
    kill_once(lambda: len(list(root.glob("labels/*/commits/**/*.json"))) >= 3, process)
    assert not (root / "answers").exists()
    job = PredictConfig(
        root=str(root),
        student=StudentFilesConfig(path=student),
        source=source,
        labelling=finished.labelling,
        verify=True,
        data_seed=0,
    )
    report, _ = predict_all(job)
    assert 0 < report.num_units_run < 14
    rows = pq.read_table(root / "answers").to_pylist()
    assert len(rows) == len({row["sample_id"] for row in rows}) == NUM_CLIPS
    said, truth = evaluated(finished, fit)
    classes = store_classes(finished)
    mine = {row["sample_id"]: row["answer"] for row in rows if row["split"] == "test"}
    assert mine == {one: classes[answer] for one, answer in said.items()}
    right = np.mean([mine[one] == classes[label] for one, label in truth.items()])
    metrics = json.loads(Path(finished.root, "report", "metrics.json").read_text())
    assert right == metrics["arms"]["mke"]["value"]
    for row in rows:
        assert (row["answer"] is None) == (row["status"] == "bad")
        assert bool(row["missing"]) == (row["status"] != "ok") == bool(row["reason"])
    assert {"partial", "bad", "ok"} == {row["status"] for row in rows}


def store_classes(finished: JobConfig) -> tuple[str, ...]:
    return Manifest.open(open_root(finished.root).child("manifest")).label_space.classes


def test_a_finished_run_started_again_computes_nothing(finished: JobConfig) -> None:
    root = Path(finished.root)
    kept = ("samples", "labels", "fits", "predictions", "gate", "report", "source", "manifest")

    def times() -> dict[Path, int]:
        paths = [path for name in kept for path in (root / name).rglob("*") if path.is_file()]
        return {path: path.stat().st_mtime_ns for path in paths}

    before = times()
    run_stages(finished)
    assert times() == before


def test_the_page_is_made_again_from_what_is_stored(finished: JobConfig) -> None:
    root = open_root(finished.root)
    page, stored = root.read("report/index.html").decode(), stored_run(root)
    assert {"teacher/0", "mke/0"} <= set(stored.scores.column_names)
    assert stored.scores.num_rows == 60
    arm = stored.content.evaluation.arms["mke"]
    assert arm_scores(stored.scores, "mke").mean() == pytest.approx(arm.value, abs=1e-6)
    noisy = stored.content.contribution.noisy
    assert {one.modality for one in noisy} == {"audio", "video"}
    assert stored.content.student_calibration.bins_before and stored.content.calibration.bins_after
    assert page.count('<video class="player"') > 10
    report([ReportConfig(roots=[finished.root])])
    assert root.read("report/index.html").decode() == page


def test_the_same_run_works_in_a_bucket(ray_session, s3_server) -> None:
    uri = s3_server.uri("expanded")
    job = tiny_job(uri, "arms=[mke]", "tracking=off")
    metrics = run_stages(job)
    root = open_root(uri)
    assert metrics["counts"]["samples"] == NUM_CLIPS
    assert json.loads(root.read("report/metrics.json"))["arms"]["mke"]["num_test"] == 60
    assert root.exists("report/index.html")
    assert verify(store_below(root, "labels"), Manifest.open(root.child("manifest"))).ok
    assert len(list(root.names("source/clips"))) == NUM_CLIPS
