"""A whole run that keeps no media: the same numbers, and an error where a file is not the same."""

import json
from pathlib import Path
from typing import Any

import pytest
from composed import composed
from rich.console import Console

from mke_ray.config_schema import JobConfig
from mke_ray.errors import StoreError
from mke_ray.expansion.rehearsal import rehearse
from mke_ray.expansion.whole import run_stages
from mke_ray.labels.store import UnitStore
from mke_ray.storage import open_root

LOCAL = (
    "experiment=tiny",
    "engine=torch",
    "labelling.runner=local",
    "scaling.launch=local",
    "tracking=off",
    "arms=[mke]",
    "source.num_labelled=16",
    "source.num_unlabeled=24",
    "source.num_probe=12",
    "source.num_test=16",
    "fit.num_steps=4",
    "teacher.fit.num_steps=6",
)


def job_of(folder: Path, name: str, *overrides: str) -> JobConfig:
    places = (f"root={folder / name}", f"source.root={folder / 'source'}")
    (job,) = composed(*LOCAL, *places, *overrides)
    return job


def points_job(folder: Path, name: str, *overrides: str) -> JobConfig:
    settings = ("model_seeds=[0]", "fit.num_steps=20", "teacher.fit.num_steps=20", "arms=[mke]")
    common = ("experiment=two_moon", "scaling.launch=local", "tracking=off", *settings)
    (job,) = composed(*common, f"root={folder / name}", *overrides)
    return job


def numbers(metrics: dict[str, Any]) -> dict[str, Any]:
    of_clocks = ("seconds", "throughput")
    return {name: value for name, value in metrics.items() if name not in of_clocks}


def test_a_run_without_media_ends_with_the_same_numbers(tmp_path: Path) -> None:
    kept = run_stages(job_of(tmp_path, "kept"))
    job = job_of(tmp_path, "off", "samples=off")
    assert job.samples is False
    assert numbers(run_stages(job)) == numbers(kept)
    assert _media_bytes(tmp_path / "off") < 0.1 * _media_bytes(tmp_path / "kept")
    assert _labels_of(tmp_path / "off") == _labels_of(tmp_path / "kept")
    page = "report/index.html"
    assert _cards(tmp_path / "off" / page) == _cards(tmp_path / "kept" / page) > 0

    clip = sorted((tmp_path / "source" / "clips").iterdir())[-1]
    for one in (tmp_path / "source" / "clips").iterdir():
        one.write_bytes(clip.read_bytes())
    with pytest.raises(StoreError, match=r"samples=off.*clip-\d+.*refresh=true"):
        run_stages(job_of(tmp_path, "off", "samples=off", "refresh=false", "model_seeds=[7]"))


def test_rows_of_features_need_not_be_kept_either(tmp_path: Path) -> None:
    kept = run_stages(points_job(tmp_path, "kept"))
    assert numbers(run_stages(points_job(tmp_path, "off", "samples=off"))) == numbers(kept)
    figures = [tmp_path / name / "report/figures/boundaries.png" for name in ("kept", "off")]
    assert figures[0].read_bytes() == figures[1].read_bytes()


def test_ray_workers_read_media_again_too(ray_session: Any, tmp_path: Path) -> None:
    """The pass in actors of Ray Data, training in two workers of Ray Train."""
    run_stages(job_of(tmp_path, "kept"))
    on_ray = ("samples=off", "labelling.runner=ray", "scaling.launch=trainer", "engine=torch")
    metrics = run_stages(job_of(tmp_path, "off", *on_ray))
    assert metrics["arms"]["mm_student"]["num_test"] > 0
    assert _media_bytes(tmp_path / "off") < 0.1 * _media_bytes(tmp_path / "kept")
    assert _labels_of(tmp_path / "off") == _labels_of(tmp_path / "kept")
    facts = [json.loads(one.read_text()) for one in (tmp_path / "off/fits").rglob("fit.json")]
    assert {one["spec"]["arm"]: one["world_size"] for one in facts}["mke"] == 2


def test_a_rehearsal_says_that_media_are_read_again(tmp_path: Path) -> None:
    console = Console(record=True, width=200)
    rehearse(points_job(tmp_path, "off", "samples=off"), console)
    assert "media are not kept: training, evaluation and another teacher" in console.export_text()
    assert not (tmp_path / "off").exists()


def _media_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "samples").rglob("*.parquet"))


def _labels_of(folder: Path) -> dict[str, Any]:
    (one,) = (folder / "labels").iterdir()
    store = UnitStore.open(open_root(str(one)))
    return {unit: store.read(unit).to_pydict() for unit in store.read_index().units()}


def _cards(page: Path) -> int:
    return page.read_text().count("data:image/jpeg")
