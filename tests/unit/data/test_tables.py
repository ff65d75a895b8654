"""Sources of feature rows."""

import collections
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mke_ray.data.tables import TableSource
from mke_ray.data.two_moon import TwoMoonSource
from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import FeatureSpec, ManifestRow
from mke_ray.storage import open_root

SPEC = {"a": FeatureSpec(1), "b": FeatureSpec(1)}


def manifest_row(key: str) -> ManifestRow:
    return ManifestRow(0, "u", key, -1, "", None, None, "g", "test", None)


def write_table(folder, **columns) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    (folder / "t.parquet").write_bytes(sink.getvalue())


def table_source(folder, **changes) -> TableSource:
    arguments = {
        "root": str(folder),
        "table": "t.parquet",
        "modalities": {"a": ["x"], "b": ["y"]},
        "classes": ["no", "yes"],
    }
    return TableSource(**{**arguments, **changes})


def test_two_moon_has_the_splits_of_the_paper(tmp_path) -> None:
    source = TwoMoonSource(root=str(tmp_path))
    source.prepare()
    rows = list(source.rows())
    splits = collections.Counter(row.split for row in rows)
    assert splits == {"test": 200, "unlabeled": 270, "labelled": 30}
    assert all(row.labels in {(0,), (1,)} for row in rows)


def test_two_moon_is_the_same_for_the_same_seed_and_another_for_another(tmp_path) -> None:
    points = []
    for number, seed in enumerate((42, 42, 7)):
        root = tmp_path / str(number)
        source = TwoMoonSource(root=str(root), data_seed=seed)
        source.prepare()
        reader = source.reader(SPEC)
        points.append([reader.read(manifest_row(row.key)).arrays["a"][0] for row in source.rows()])
    assert points[0] == points[1]
    assert points[0] != points[2]
    assert np.std(points[0]) == pytest.approx(1.0, abs=1e-4)


def test_preparing_twice_keeps_the_first_table(tmp_path) -> None:
    source = TwoMoonSource(root=str(tmp_path))
    source.prepare()
    before = open_root(str(tmp_path)).read("two_moon.parquet")
    source.prepare()
    assert open_root(str(tmp_path)).read("two_moon.parquet") == before


def test_labels_may_be_names_or_indices_or_unknown(tmp_path) -> None:
    write_table(tmp_path, x=[0.0, 1.0], y=[1.0, 2.0], label=["yes", None], split=["test", ""])
    assert [row.labels for row in table_source(tmp_path).rows()] == [(1,), None]
    write_table(tmp_path, x=[0.0], y=[1.0], label=[1], split=["test"])
    assert [row.labels for row in table_source(tmp_path).rows()] == [(1,)]


def test_a_label_outside_the_classes_is_refused(tmp_path) -> None:
    write_table(tmp_path, x=[0.0], y=[1.0], label=[2], split=["test"])
    with pytest.raises(ConfigError, match=r"label 2 of t\.parquet"):
        list(table_source(tmp_path).rows())


def test_a_missing_column_and_a_missing_table_are_named(tmp_path) -> None:
    write_table(tmp_path, x=[0.0], label=[1], split=["test"])
    with pytest.raises(ConfigError, match=r"no columns \['y'\]"):
        list(table_source(tmp_path).rows())
    with pytest.raises(ConfigError, match=r"source\.table=other\.parquet"):
        list(table_source(tmp_path, table="other.parquet").rows())
    with pytest.raises(ConfigError, match="lable"):
        table_source(tmp_path, columns={"lable": "label"})


def test_a_value_that_is_not_finite_makes_its_modality_missing(tmp_path) -> None:
    write_table(tmp_path, x=[0.5, None], y=[float("nan"), None], label=[1, 1], split=["test"] * 2)
    reader = table_source(tmp_path).reader(SPEC)
    decoded = reader.read(manifest_row("t.parquet#0"))
    assert decoded.arrays["a"].tolist() == [0.5]
    assert decoded.missing == {"b": "no_value"}
    with pytest.raises(MediaError, match="no complete modality"):
        reader.read(manifest_row("t.parquet#1"))


def test_a_decode_specification_of_another_width_is_refused(tmp_path) -> None:
    write_table(tmp_path, x=[0.0], y=[1.0], label=[1], split=["test"])
    with pytest.raises(ConfigError, match=r"decode\.a wants 2 features"):
        table_source(tmp_path).reader({"a": FeatureSpec(2), "b": FeatureSpec(1)})
