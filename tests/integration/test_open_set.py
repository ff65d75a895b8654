"""Weights of unlabeled samples from end to end: swapped views count less, good data as ever."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_expanding_by_witnesses import job_of, metrics_of, write_table

from mke_ray.data.manifest import Manifest
from mke_ray.expansion.whole import run_stages
from mke_ray.labels.store import UnitStore
from mke_ray.schema import WEIGHT, Split
from mke_ray.storage import open_root

SMALL = ("fit.num_steps=80", "arms=[mke]", "expansion.rounds=1", "expansion.members=2")


def swap_views(path: Path) -> None:
    """Let the first half of the unlabeled rows have the witness's view of another row."""
    table = pq.read_table(path)
    split = np.asarray(table["split"].to_pylist())
    order = np.arange(len(split))
    swapped = np.flatnonzero(split == "unlabeled")[:300]
    order[swapped] = np.roll(swapped, 7)
    for name in ("b_0", "b_1", "b_2"):
        column = table[name].take(pa.array(order))
        table = table.set_column(table.column_names.index(name), name, column)
    is_swapped = [one in set(swapped.tolist()) for one in range(len(split))]
    keys = [f"{'swapped' if one else 'whole'}-{n}" for n, one in enumerate(is_swapped)]
    pq.write_table(table.append_column("key", pa.array(keys)), path)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoilt")
    write_table(folder / "rows.parquet", teacher=3.0, witness=4.0)
    swap_views(folder / "rows.parquet")
    job = job_of(
        folder,
        *SMALL,
        "expansion.open_set=on",
        "++source.columns={label: label, split: split, group: group, key: key}",
    )
    run_stages(job)
    return job


def label_stores(root: str) -> dict[str, UnitStore]:
    stores = [UnitStore.open(open_root(str(one))) for one in (Path(root) / "labels").iterdir()]
    return {one.spec["derivation"]["type"]: one for one in stores if "derivation" in one.spec}


def test_samples_with_the_view_of_another_count_less(spoilt):
    manifest = Manifest.open(open_root(spoilt.root).child("manifest"))
    found: dict[str, list[float]] = {"swapped": [], "whole": []}
    refined = label_stores(spoilt.root)["refinement"]
    for ref in manifest.unit_refs([Split.UNLABELED]):
        weights = refined.read(ref.unit).column(WEIGHT).to_pylist()
        for row, weight in zip(manifest.read_unit(ref), weights, strict=True):
            found[row.key.partition("#")[2].partition("-")[0]].append(weight)
    assert np.mean(found["swapped"]) < 0.85 * np.mean(found["whole"])


def test_the_student_learns_with_the_weights_of_the_refined_labels(spoilt):
    stores = label_stores(spoilt.root)
    mean, refined = stores["ensemble"], stores["refinement"]
    units = list(mean.read_index().units("unlabeled"))
    for unit in units:
        assert mean.read(unit).column(WEIGHT).equals(refined.read(unit).column(WEIGHT))
    fits = [json.loads(one.read_text()) for one in Path(spoilt.root).glob("fits/*/*/fit.json")]
    (student,) = {
        one["spec"]["labels"]
        for one in fits
        if one["spec"]["arm"] == "mm_student" and one["spec"]["labels"] in mean.root.uri
    }
    assert mean.root.uri.endswith(student)


def test_the_report_says_how_many_look_irrelevant(spoilt):
    found = metrics_of(spoilt)["refinement"][-1]["open_set"]
    assert found["is_certain"] and 0.05 < found["share"] < 0.5
    assert found["slopes"]["log_ratio"] > 0
    page = (Path(spoilt.root) / "report" / "index.html").read_text()
    assert "of the unlabeled samples look irrelevant" in page


def test_where_nothing_is_wrong_nothing_is_trained_otherwise(tmp_path):
    write_table(tmp_path / "rows.parquet")
    run_stages(job_of(tmp_path, *SMALL))
    before = {one.name for one in (Path(tmp_path) / "run" / "fits").iterdir()}
    job = job_of(tmp_path, *SMALL, "expansion.open_set=on")
    run_stages(job)
    assert {one.name for one in (Path(tmp_path) / "run" / "fits").iterdir()} == before
    (found,) = metrics_of(job)["refinement"]
    assert found["open_set"]["is_certain"] is False and found["open_set"]["share"] == 0.0
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "all of them count alike" in page
