"""A student over a source whose every sample is known by heart."""

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import dense_world as scenes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from dense_world import write_folders
from label_fakes import DECODE, source_spec
from PIL import Image
from rich.console import Console

from mke_ray.config import build
from mke_ray.config_predict import PredictConfig, StudentFilesConfig
from mke_ray.config_schema import LabellingConfig
from mke_ray.data.manifest import Manifest
from mke_ray.errors import ConfigError, MediaError, StoreError
from mke_ray.evaluation.predictions import stored_batch
from mke_ray.expansion.forget import forget_samples
from mke_ray.labels import teaching
from mke_ray.labels.verify import verify
from mke_ray.models import build_student, load_student, save_student
from mke_ray.predict.answers import AnswerForm, answers_of
from mke_ray.predict.asking import asking_plan
from mke_ray.predict.prediction import predict_all, rehearse
from mke_ray.predict.setting import checked, opened
from mke_ray.schema import LABELS_SCHEMA, LabelKind, LabelSpace, ManifestRow
from mke_ray.storage import open_root

CLASSES = ("zero", "one", "two")
SPEC = {
    "encoders": {
        "x": {"type": "features", "num_inputs": 2, "hidden": [4]},
        "y": {"type": "features", "num_inputs": 1, "hidden": [4]},
    },
    "fusion": {"type": "concat", "num_features": 6},
    "head_hidden": [],
}
NUM = 22
BROKEN = {3: "bad", 5: "no_y", 11: "gone", 17: "io"}


def student_in(folder, *, kind=LabelKind.SINGLE, classes=CLASSES, spec=SPEC, seed=0):
    torch.manual_seed(seed)
    student = build_student(spec, len(classes))
    x = torch.randn(50, 2) * 6 + 10
    arrays = {"x": x, "y": -x[:, :1]}
    student.observe(arrays, {name: torch.ones(50, dtype=torch.bool) for name in arrays})
    student.freeze_normalisation()
    save_student(
        folder,
        student,
        spec=spec,
        label_space=LabelSpace(classes, kind),
        temperature=2.0,
        extra={"decode": DECODE},
    )
    return str(folder)


def job_in(tmp_path, **more) -> PredictConfig:
    student = tmp_path / "student"
    if not student.exists():
        student_in(student)
    keys = {
        "root": str(tmp_path / "answers"),
        "student": StudentFilesConfig(path=str(student)),
        "source": source_spec(NUM, broken=BROKEN, log=str(tmp_path / "reads")),
        "labelling": LabellingConfig(
            unit_size=4, runner="local", sample_timeout_s=None, max_bad_fraction=0.5
        ),
        **more,
    }
    return PredictConfig(**{"data_seed": 0, **keys})


def published(job):
    folder = Path(job.root, "answers")
    about = json.loads((folder / "_about.json").read_text())
    there = sorted(path.name for path in folder.glob("*.parquet"))
    assert there == sorted(about["files"])
    return about, pq.read_table([str(folder / name) for name in about["files"]]).to_pylist()


def expected(job, numbers, *, without=()):
    """Return the calibrated probabilities of the student for samples given by their numbers."""
    loaded = load_student(job.student.path)
    number_B = torch.tensor(numbers, dtype=torch.float32)
    arrays = {"x": torch.stack([number_B, number_B / 2], dim=1), "y": -number_B[:, None]}
    present = {
        name: torch.full((len(numbers),), name not in without, dtype=torch.bool) for name in arrays
    }
    with torch.no_grad():
        return (loaded.student(arrays, present) / 2.0).softmax(dim=1).numpy()


def test_every_sample_has_one_row_with_its_answer_or_the_reason_why_there_is_none(tmp_path):
    job = job_in(tmp_path)
    predict_all(job)
    about, rows = published(job)
    assert [int(os.path.basename(row["uri"])) for row in rows] == list(range(NUM))
    found = {int(row["uri"]): (row["status"], row["reason"], row["missing"]) for row in rows}
    assert found[3] == ("bad", "truncated", ["x", "y"])
    assert found[11] == ("bad", "missing_file", ["x", "y"])
    assert found[17] == ("retry", "io", ["x", "y"])
    assert found[5] == ("partial", "no_sound", ["y"])
    assert found[4] == ("ok", None, [])
    assert [rows[one]["error"] for one in (4, 5)] == [None, "no_sound"]
    assert all(len(rows[one]["error"]) > len(rows[one]["reason"]) for one in (3, 11, 17))
    assert {one: rows[one]["answer"] for one in (3, 11, 17)} == dict.fromkeys((3, 11, 17))
    whole = [number for number in range(NUM) if number not in BROKEN]
    wanted = expected(job, whole)
    said = np.array([rows[number]["probabilities"] for number in whole])
    np.testing.assert_allclose(said, wanted, rtol=1e-5, atol=1e-6)
    assert [rows[one]["answer"] for one in whole] == [CLASSES[one] for one in wanted.argmax(axis=1)]
    np.testing.assert_allclose(
        [rows[one]["probability"] for one in whole], wanted.max(axis=1), 1e-5
    )
    alone = expected(job, [5], without=["y"])[0]
    np.testing.assert_allclose(rows[5]["probabilities"], alone, rtol=1e-5)
    counts = about["counts"]
    assert (counts["ok"], counts["partial"], counts["bad"], counts["retry"]) == (18, 1, 2, 1)
    assert about["temperature"] == 2.0 and about["classes"] == list(CLASSES)


def test_a_finished_run_reads_and_writes_nothing_again(tmp_path):
    job = job_in(tmp_path, verify=True)
    predict_all(job)
    reads = (tmp_path / "reads").read_text()
    assert len(reads.splitlines()) == NUM  # media are not kept, and are read once all the same
    before = {p: p.stat().st_mtime_ns for p in Path(job.root, "answers").iterdir()}
    report, files = predict_all(job)
    assert (report.num_units_run, files.num_written) == (0, 0)
    assert (tmp_path / "reads").read_text() == reads
    assert {p: p.stat().st_mtime_ns for p in Path(job.root, "answers").iterdir()} == before


def test_an_interrupted_run_goes_on_and_holds_every_row_once(tmp_path, monkeypatch):
    job, num_units = job_in(tmp_path), []
    table = teaching.Teaching.table

    def interrupted(self, ref, *arguments):
        num_units.append(ref.unit)
        if len(num_units) == 3:
            raise KeyboardInterrupt
        return table(self, ref, *arguments)

    job.labelling.units_ahead = 0
    with monkeypatch.context() as patch:
        patch.setattr(teaching.Teaching, "table", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict_all(job)
    assert not Path(job.root, "answers").exists()
    report, _ = predict_all(job)
    assert report.num_units_run == 4
    with opened(job) as setting:
        manifest = Manifest.open(setting.root.child("manifest"))
        for store in asking_plan(setting, manifest).stores:
            assert verify(store, manifest).ok
    assert len(published(job)[1]) == NUM


def test_what_each_modality_does_sums_to_the_answer(tmp_path):
    job = job_in(tmp_path, explain=True)
    predict_all(job)
    _, rows = published(job)
    whole, only_x, only_y = (expected(job, [8], without=one)[0] for one in ((), ("y",), ("x",)))
    top = int(whole.argmax())
    x = ((only_x[top] - 1 / 3) + (whole[top] - only_y[top])) / 2  # Shapley, by hand
    assert rows[8]["contribution"]["x"] == pytest.approx(x, abs=1e-5)
    assert sum(rows[8]["contribution"].values()) == pytest.approx(whole[top] - 1 / 3, abs=1e-5)
    assert rows[8]["changed_without"] == {
        "x": float(only_y.argmax() != top),
        "y": float(only_x.argmax() != top),
    }
    assert rows[5]["contribution"]["y"] == 0.0 and rows[5]["changed_without"]["x"] == 1.0
    assert rows[3]["contribution"] is None


def test_explanations_are_added_to_answers_that_are_there(tmp_path):
    job = job_in(tmp_path)
    predict_all(job)
    _, plain = published(job)
    predict_all(replace(job, explain=True))
    _, explained = published(job)
    assert [row["probabilities"] for row in plain] == [row["probabilities"] for row in explained]
    assert explained[0]["contribution"] and "contribution" not in plain[0]


def test_a_student_of_many_classes_names_those_that_are_likely(tmp_path):
    space = LabelSpace(("a", "b", "c"), LabelKind.MULTI)
    row = ManifestRow(7, "u", "k/1.mp4", -1, "", None, None, "g", "unlabeled", None)
    samples = pa.table({"sample_id": [7], "status": ["ok"], "error": [None], "x_status": ["ok"]})
    said = pa.table(
        {"sample_id": [7], "status": ["ok"], "logits": [[3.0, 0.0, -1.0]]}, schema=LABELS_SCHEMA
    )
    form = AnswerForm(space, ("x",), 2.0, "student", root="s3://bucket/in")
    (one,) = answers_of(form, [row], samples, said).to_pylist()
    assert one["answers"] == ["a", "b"]
    assert (one["key"], one["uri"]) == ("k/1.mp4", "s3://bucket/in/k/1.mp4")
    assert one["probabilities"][0] == pytest.approx(1 / (1 + np.exp(-1.5)))
    assert answers_of(form, [replace(row, mark="gone")], samples, said).num_rows == 0


def test_a_forgotten_sample_is_in_no_file_of_answers(tmp_path):
    job = job_in(tmp_path)
    predict_all(job)
    forget_samples(open_root(job.root), keys=["00004"])
    assert not list(Path(job.root).glob("answers/*"))
    predict_all(job)
    assert "00004" not in {row["uri"] for row in published(job)[1]}


def test_another_student_writes_its_own_answers_in_the_place_of_the_first(tmp_path):
    job = job_in(tmp_path)
    predict_all(job)
    _, before = published(job)
    student_in(tmp_path / "other", seed=5)
    predict_all(replace(job, student=StudentFilesConfig(path=str(tmp_path / "other"))))
    _, after = published(job)
    assert len(after) == NUM
    assert [row["probabilities"] for row in before] != [row["probabilities"] for row in after]


def test_files_of_others_stay_and_those_of_before_go_last(tmp_path, monkeypatch):
    job = job_in(tmp_path)
    predict_all(job)
    folder = Path(job.root, "answers")
    for name in ("summary.csv", "part-mine.parquet"):
        (folder / name).write_bytes(b"mine")
    before = set(published_names(job))
    student_in(tmp_path / "other", seed=5)
    other = replace(job, student=StudentFilesConfig(path=str(tmp_path / "other")))
    with monkeypatch.context() as changed:
        changed.setattr("mke_ray.predict.publishing._write_about", killed)
        with pytest.raises(KeyboardInterrupt):
            predict_all(other)
    assert set(published_names(job)) == before  # the list still names whole answers
    assert before < {path.name for path in folder.glob("part-*-*.parquet")}
    predict_all(other)
    left = {path.name for path in folder.iterdir()}
    assert left == {*published_names(job), "_about.json", "summary.csv", "part-mine.parquet"}
    assert not before & left


def published_names(job):
    return json.loads(Path(job.root, "answers", "_about.json").read_text())["files"]


def killed(*_):
    raise KeyboardInterrupt


def test_classes_of_the_source_are_those_of_the_student_or_refused(tmp_path):
    student = student_in(tmp_path / "pets", classes=("cat", "dog", "owl"))
    job = job_in(tmp_path, student=StudentFilesConfig(path=student))
    with pytest.raises(ConfigError, match=r"classes \[zero, one, two\].*student \[cat, dog, owl\]"):
        predict_all(job)
    told = {"_target_": "mke_ray.data.videos.VideosSource", "root": "/", "classes": None}
    setting = checked(replace(job, source={**told, "label_kind": "single"}))
    assert setting.source.label_space == LabelSpace(("cat", "dog", "owl"))


def test_a_class_of_the_users_is_used_only_where_it_is_named(tmp_path):
    spec = {
        "encoders": {
            "x": {"_target_": "faulty_encoders.HangsOnce", "num_inputs": 2, "marker": "/nowhere"},
            "y": SPEC["encoders"]["y"],
        },
        "fusion": {"type": "concat"},
    }
    student = build_student(spec, 3, build=build)
    extra, space = {"decode": DECODE}, LabelSpace(CLASSES)
    save_student(tmp_path / "student", student, spec=spec, label_space=space, extra=extra)
    job = job_in(tmp_path)
    with pytest.raises(ConfigError, match=r"faulty_encoders\.HangsOnce"):
        predict_all(job)
    job.student.classes = ["faulty_encoders.HangsOnce"]
    predict_all(job)
    assert sum(row["answer"] is not None for row in published(job)[1]) == NUM - 3


def test_more_bad_samples_than_allowed_end_the_run(tmp_path):
    job = job_in(tmp_path)
    job.labelling.max_bad_fraction = 0.01
    with pytest.raises(MediaError, match="max_bad_fraction"):
        predict_all(job)


def test_of_a_few_samples_those_that_can_be_read_are_answered(tmp_path):
    job = job_in(tmp_path, source=source_spec(5, broken={1: "bad", 3: "gone"}))
    job.labelling.max_bad_fraction = 0.1
    predict_all(job)
    assert [row["answer"] is not None for row in published(job)[1]] == [True, False] * 2 + [True]
    none = {
        "source": source_spec(3, broken=dict.fromkeys(range(3), "bad")),
        "labelling": job.labelling,
    }
    with pytest.raises(MediaError, match="3 of 3 samples cannot be read"):
        predict_all(job_in(tmp_path, root=str(tmp_path / "none"), **none))


def test_a_source_without_samples_is_an_error(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    videos = {"_target_": "mke_ray.data.videos.VideosSource", "classes": None}
    source = {**videos, "root": str(folder), "split_of_all": "unlabeled", "label_kind": "single"}
    extra = {"decode": {"x": {"kind": "video", "num_frames": 1, "height": 8, "width": 8}}}
    spec = {"encoders": {"x": {"type": "frames", "channels": [4]}}, "fusion": {"type": "concat"}}
    network, space = build_student(spec, 3), LabelSpace(CLASSES)
    save_student(tmp_path / "student", network, spec=spec, label_space=space, extra=extra)
    job = job_in(tmp_path, source=source)
    with pytest.raises(ConfigError, match=r"clips does not exist or is empty"):
        predict_all(job)
    (folder / "notes.txt").write_text("nothing here")
    with pytest.raises(ConfigError, match=r"source\.root=.*clips lists no samples"):
        predict_all(job)
    assert not Path(job.root, "answers").exists()


def test_a_folder_without_a_student_is_named(tmp_path):
    job = job_in(tmp_path, student=StudentFilesConfig(path=str(tmp_path / "nothing")))
    with pytest.raises(
        StoreError,
        match=r"student\.path=.*/nothing holds no student: student\.json is missing.*the teacher",
    ):
        predict_all(job)


def test_a_dry_run_answers_two_samples_and_writes_nothing(tmp_path):
    job = job_in(tmp_path)
    console = Console(record=True, width=200)
    rehearse(job, console)
    said = console.export_text()
    assert said.count("sample ") == 2 and "00000: " in said and "reads x, y" in said
    assert not Path(job.root).exists()


def test_a_dense_student_writes_a_class_map_for_every_scene(tmp_path):
    write_folders(tmp_path / "scenes")
    spec = {
        "encoders": {
            "rgb": {"type": "pyramid", "reads": "picture", "channels": [3, 4]},
            "depth": {"type": "pyramid", "reads": "hha", "channels": [3, 4]},
        },
        "fusion": {"type": "add"},
        "decoder": {"channels": [3]},
    }
    source = scenes.source_spec(tmp_path / "scenes")
    space = build(source).label_space
    torch.manual_seed(0)
    student = build_student(spec, space.num_classes).eval()
    folder = tmp_path / "student"
    save_student(folder, student, spec=spec, label_space=space, extra={"decode": scenes.DECODE})
    job = job_in(tmp_path, student=StudentFilesConfig(path=str(folder)), source=source)
    job.explain = job.samples = True
    predict_all(job)
    _, rows = published(job)
    assert len(rows) == scenes.NUM_TRAIN + scenes.NUM_TEST
    with opened(job) as setting:
        plan = asking_plan(setting, Manifest.open(setting.root.child("manifest")))
        ref = next(plan.manifest.unit_refs())
        stored = plan.samples.read(ref.unit)
    arrays, present = stored_batch(stored, setting.decode)
    with torch.inference_mode():
        probability_BCHW = student(arrays, present).softmax(dim=1).numpy()
    by_id = {row["sample_id"]: row for row in rows}
    for place, one in enumerate(stored.column("sample_id").to_pylist()):
        row, class_HW = by_id[one], probability_BCHW[place].argmax(axis=0)
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(row["class_map"]))), class_HW
        )
        assert row["probability"] == pytest.approx(probability_BCHW[place].max(axis=0).mean(), 1e-2)
        assert row["shares"][0] == pytest.approx((class_HW == 0).mean())
        whole = probability_BCHW[place].max(axis=0).mean() - 1 / space.num_classes
        assert sum(row["contribution"].values()) == pytest.approx(whole, abs=1e-4)
