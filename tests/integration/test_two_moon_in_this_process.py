"""All stages in order on the TwoMoon set, small and in this process."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from composed import composed

from mke_ray.config_schema import JobConfig
from mke_ray.errors import ConfigError, StoreError
from mke_ray.expansion import evaluate, expand, label, train, work
from mke_ray.expansion.checks import open_run
from mke_ray.expansion.stages import teach_stage, train_stage
from mke_ray.expansion.whole import run_stages
from mke_ray.train.fits import FitSpec, FitStore

OVERRIDES = (
    "experiment=two_moon",
    "scaling.launch=local",
    "tracking=off",
    "model_seeds=[0]",
    "fit.num_steps=20",
    "teacher.fit.num_steps=20",
    "arms=[um_student,mke]",
)


@pytest.fixture
def job(tmp_path: Path) -> JobConfig:
    (composed_job,) = composed(*OVERRIDES, f"root={tmp_path / 'run'}")
    return composed_job


def files_below(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and "lease" not in path.parts
    }


def test_a_run_leaves_the_numbers_of_the_design_and_its_figure(job: JobConfig) -> None:
    run_stages(job)
    report = Path(job.root) / "report"
    metrics = json.loads((report / "metrics.json").read_text())
    assert {"teacher", "um_student", "mke", "mm_student"} == set(metrics["arms"])
    assert metrics["arms"]["teacher"]["num_test"] == 200
    assert metrics["arms"]["mm_student"]["value"] == metrics["arms"]["mke"]["value"]
    assert metrics["pseudo_labels"]["num"] == 270
    assert metrics["gate"]["verdict"] == "unverified"
    assert metrics["counts"]["samples"] == metrics["counts"]["ok"] == 500
    assert set(metrics["seconds"]) >= {"label", "train", "total"}
    worth = metrics["contribution"]
    assert worth["arm"] == "mke" and worth["trained_with_gaps"] is False
    assert worth["value"] == metrics["arms"]["mke"]["value"]
    assert worth["modalities"]["a"]["without"] == worth["modalities"]["b"]["alone"]
    assert worth["modalities"]["a"]["lost"] == pytest.approx(
        worth["value"] - worth["modalities"]["a"]["without"]
    )
    assert (report / "figures" / "boundaries.png").stat().st_size > 10_000
    assert not (Path(job.root) / "student").exists()


def test_a_finished_run_started_again_changes_no_file(job: JobConfig) -> None:
    first = run_stages(job)
    before = files_below(Path(job.root))
    assert run_stages(job) == first
    assert files_below(Path(job.root)) == before


def test_the_seconds_of_an_interrupted_start_count_however_few_they_are(
    job: JobConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = work.run_fits

    def interrupted(fits: Sequence[FitSpec], **arguments: Any) -> None:
        if len(fits) == 1:  # the teacher
            trained(fits, **arguments)
            return
        time.sleep(0.2)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(work, "run_fits", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_stages(job)
    first = json.loads((Path(job.root) / "seconds.json").read_text())
    assert set(first) == {"source", "teach", "label", "train"}
    seconds = run_stages(job)["seconds"]
    assert set(seconds) == {*first, "evaluate", "total"}
    assert seconds["train"] > first["train"] >= 0.2
    assert all(seconds[name] == first[name] for name in ("source", "teach", "label"))
    assert seconds["total"] == pytest.approx(sum(seconds.values()) - seconds["total"])


def test_the_teacher_is_named_by_the_folder_of_the_attempt_that_won(job: JobConfig) -> None:
    with open_run(job) as run:
        teacher = teach_stage(run, run.manifest())
        assert teacher.fit is not None
        folder = FitStore(run.root).student_folder(teacher.fit)
    assert teacher.spec["path"] == folder.uri
    assert folder.exists("student.safetensors")
    assert not folder.uri.endswith(teacher.fit)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_was_asked_for_and_is_not_there_is_an_error_with_its_key(job: JobConfig) -> None:
    wrong = replace(job, labelling=replace(job.labelling, num_gpus=0.5))
    with pytest.raises(ConfigError, match=r"device=cuda .*labelling\.num_gpus=0"):
        run_stages(wrong)


def test_another_teacher_rewrites_no_sample_and_no_other_label(job: JobConfig) -> None:
    run_stages(job)
    root = Path(job.root)
    samples, labels = files_below(root / "samples"), files_below(root / "labels")
    run_stages(replace(job, teacher=replace(job.teacher, seed=99)))
    assert files_below(root / "samples") == samples
    assert labels.items() < files_below(root / "labels").items()


def test_a_stage_whose_forerunner_is_missing_says_which_job_to_run(job: JobConfig) -> None:
    with pytest.raises(StoreError, match=r"jobs/teach\.py"):
        label([job])
    with pytest.raises(StoreError, match=r"jobs/teach\.py"):
        train([job])
    with pytest.raises(StoreError, match=r"jobs/teach\.py"):
        evaluate([job])


def test_a_rehearsal_writes_nothing(job: JobConfig, capsys: pytest.CaptureFixture[str]) -> None:
    expand([replace(job, dry_run=True)])
    said = capsys.readouterr().out
    assert "one step, loss" in said
    assert "estimate        for each 1,000 samples, from 16 that were read" in said
    assert "no rows with split=probe" in said
    assert not Path(job.root).exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("teacher.modality=sound", "teacher.modality: 'sound'"),
        ("arms=[mm_labelled_only]", "mm_labelled_only"),
        ("arms=[best]", "best"),
        ("objective._target_=mke_ray.objectives.Best", "Best"),
        ("student.encoders.a.type=magic", "magic"),
        ("fusion.type=glue", "glue"),
        ("scaling.launch=rocket", "scaling.launch='rocket'"),
        ("labelling.runner=snail", "labelling.runner='snail'"),
        ("fit.optimizer.type=guess", "guess"),
        ("gate.confidence=1.5", "gate.confidence=1.5"),
        ("gate.min_groups=0", "gate.min_groups=0"),
        ("gate.min_samples=0", "gate.min_samples=0"),
        ("labelling.unit_size=0", "labelling.unit_size=0"),
        ("fit.num_steps=0", "fit.num_steps=0"),
        ("teacher.fit.optimizer.type=guess", "guess"),
        ("+views.a={_target_: mke_ray.data.views.AudioView, num_samples: 9}", "views.a"),
        ("labelling.sample_timeout_s=0", "labelling.sample_timeout_s=0"),
        ("engine=zero1", "engine.type=deepspeed needs scaling.launch=trainer"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_with_its_key(
    override: str, said: str, tmp_path: Path
) -> None:
    (wrong,) = composed(*OVERRIDES, f"root={tmp_path / 'run'}", override)
    with pytest.raises(ConfigError) as refused:
        run_stages(wrong)
    assert said in str(refused.value)


def test_a_second_driver_is_told_who_works_on_the_root(job: JobConfig) -> None:
    with open_run(job), pytest.raises(StoreError, match="pid"):
        run_stages(job)


def test_a_driver_that_lost_its_lease_trains_nothing(job: JobConfig) -> None:
    with open_run(job) as run:
        taken_over = Path(job.root, "lease", "000002.json")
        taken_over.write_bytes(Path(job.root, "lease", "000001.json").read_bytes())
        with pytest.raises(StoreError, match="took over"):
            train_stage(run, [])


def table_job(tmp_path: Path, splits: list[str], *overrides: str) -> JobConfig:
    """Return a job on a table of random points with some splits."""
    points = np.random.default_rng(0).normal(size=(len(splits), 2))
    labels = (points.sum(axis=1) > 0).astype(int)
    columns = {"x": points[:, 0], "y": points[:, 1], "label": labels, "split": splits}
    pq.write_table(pa.table(columns), tmp_path / "points.parquet")
    (job,) = composed(
        *OVERRIDES,
        "source=table",
        f"source.root={tmp_path}",
        "source.table=points.parquet",
        "+source.modalities={a: [x], b: [y]}",
        "source.classes=[no,yes]",
        f"root={tmp_path / 'run'}",
        *overrides,
    )
    return job


def test_without_a_test_split_nothing_is_begun(tmp_path: Path) -> None:
    job = table_job(tmp_path, ["labelled"] * 8 + ["unlabeled"] * 8)
    with pytest.raises(ConfigError, match="split=test"):
        run_stages(job)
    assert not (tmp_path / "run" / "fits").exists()


def test_without_a_probe_the_default_arms_do_without_it(tmp_path: Path) -> None:
    splits = ["labelled"] * 8 + ["unlabeled"] * 16 + ["test"] * 16
    metrics = run_stages(table_job(tmp_path, splits, "arms=default"))
    assert "mm_labelled_only" not in metrics["arms"]
    assert metrics["gate"]["verdict"] == "unverified"


def test_with_an_empty_select_part_too(tmp_path: Path) -> None:
    splits = ["labelled"] * 8 + ["unlabeled"] * 16 + ["probe"] * 2 + ["test"] * 16
    job = table_job(tmp_path, splits, "arms=default", "gate.select_fraction=0.000001")
    assert "mm_labelled_only" not in run_stages(job)["arms"]


def test_the_model_card_quotes_the_network_that_was_judged(job: JobConfig) -> None:
    metrics = run_stages(replace(job, model_seeds=[3, 4]))
    first = metrics["arms"]["mke"]["seeds"]["3"]
    page = Path(job.root, "report", "index.html").read_text()
    assert f"network of seed 3, which reaches {first:.1%}" in page


def test_a_student_that_was_not_promoted_leaves_none_of_an_earlier_one(job: JobConfig) -> None:
    stale = Path(job.root) / "student" / "student.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("{}")
    run_stages(job)
    assert not stale.exists()
