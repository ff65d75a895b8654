"""A whole run that keeps no media: the same numbers, and an error where a file is not the same."""

from pathlib import Path
from typing import Any

import pytest
from composed import composed

from mke_ray.config_schema import JobConfig
from mke_ray.errors import StoreError
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
)


def job_of(folder: Path, name: str, *overrides: str) -> JobConfig:
    places = (f"root={folder / name}", f"source.root={folder / 'source'}")
    (job,) = composed(*LOCAL, *places, *overrides)
    return job


def numbers(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name != "seconds"}


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


def _media_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "samples").rglob("*.parquet"))


def _labels_of(folder: Path) -> dict[str, Any]:
    (one,) = (folder / "labels").iterdir()
    store = UnitStore.open(open_root(str(one)))
    return {unit: store.read(unit).to_pydict() for unit in store.read_index().units()}


def _cards(page: Path) -> int:
    return page.read_text().count("data:image/jpeg")
