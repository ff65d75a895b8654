"""Sources of feature rows."""

import collections
import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mke_ray.data.table_files import TableFile
from mke_ray.data.tables import TableSource
from mke_ray.data.two_moon import SizedTwoMoonSource, TwoMoonSource
from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import FeatureSpec, ManifestRow
from mke_ray.storage import open_root

READ = TableFile.read
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


CSV = (
    "mfcc1,mfcc2,au1,who,mood,clip\n1,2,3,ann,no,a\n4,,5,ben,yes,b\n6,8,,cid,no,c\n,,7,dan,yes,d\n"
)


def csv_source(folder, text=CSV, **changes) -> TableSource:
    (folder / "t.csv").write_text(text)
    arguments = {
        "table": "t.csv",
        "modalities": {"voice": ["mfcc*"], "face": "au?"},
        "columns": {"label": "mood", "group": "who", "key": "clip"},
        "splits": {"labelled": 1, "unlabeled": 2, "test": 1},
    }
    return table_source(folder, **{**arguments, **changes})


WIDE = {"voice": FeatureSpec(2), "face": FeatureSpec(1)}


def test_patterns_groups_keys_and_drawn_splits_make_rows(tmp_path) -> None:
    rows = list(csv_source(tmp_path).rows())
    assert [row.key for row in rows] == ["t.csv#a", "t.csv#b", "t.csv#c", "t.csv#d"]
    assert [row.group for row in rows] == ["ann", "ben", "cid", "dan"]
    assert [row.labels for row in rows] == [(0,), (1,), (0,), (1,)]
    drawn = {tuple(r.split for r in csv_source(tmp_path, data_seed=s).rows()) for s in range(8)}
    assert len(drawn) > 1
    assert all(sorted(one) == ["labelled", "test", "unlabeled", "unlabeled"] for one in drawn)
    (last,) = csv_source(tmp_path).rows(after=rows[2].cursor)
    assert last == rows[3]


def test_means_fill_what_is_asked_for_and_an_empty_modality_stays_missing(tmp_path) -> None:
    column = CSV.replace("clip\n", "clip,split\n").replace(",a\n", ",a,labelled\n")
    column = column.replace(",b\n", ",b,test\n").replace(",c\n", ",c,unlabeled\n")
    column = column.replace(",d\n", ",d,unlabeled\n")
    source = csv_source(tmp_path, column, splits=None, missing={"voice": "mean"})
    reader = source.reader(WIDE)
    assert reader.read(manifest_row("t.csv#b")).arrays["voice"].tolist() == [4, 8]
    assert reader.read(manifest_row("t.csv#c")).missing == {"face": "no_value"}
    assert reader.read(manifest_row("t.csv#d")).missing == {"voice": "no_value"}
    filled, *lacking = source.notes()
    assert "filled 1 of 8 values of voice" in filled and "mfcc2 1" in filled
    assert lacking == [
        "1 of 4 rows lack voice for want of values: mfcc1 1, mfcc2 1",
        "1 of 4 rows lack face for want of values: au1 1",
    ]


def test_rows_that_lack_a_modality_for_one_blank_value_are_counted_by_column(tmp_path) -> None:
    voice, _ = csv_source(tmp_path).notes()
    assert voice == (
        "2 of 4 rows lack voice for want of values: mfcc2 2, mfcc1 1; "
        "source.missing=mean would fill 1 of them"
    )
    whole = csv_source(tmp_path, CSV.replace(",,", ",9,").replace("\n,", "\n9,"))
    assert whole.notes() == []


def test_a_filled_value_is_part_of_the_version_of_a_row(tmp_path) -> None:
    def version(text: str) -> str:
        return [row.etag for row in csv_source(tmp_path, text, missing="mean").rows()][1]

    before = version(CSV)
    assert version(CSV) == before
    assert version(CSV.replace("\n6,8", "\n6,80").replace("\n1,2", "\n1,20")) != before


def test_a_row_that_changed_since_it_was_listed_is_not_taken_for_it(tmp_path) -> None:
    row = next(iter(csv_source(tmp_path).rows()))
    listed = replace(manifest_row(row.key), etag=row.etag)
    reader = csv_source(tmp_path, CSV.replace("\n1,2", "\n9,2")).reader(WIDE)
    with pytest.raises(MediaError, match=r"changed: .*not as it was listed"):
        reader.read(listed)
    assert csv_source(tmp_path).reader(WIDE).read(listed).arrays["voice"].tolist() == [1, 2]


def test_the_table_is_read_once_for_all_rows_and_readers(tmp_path, monkeypatch) -> None:
    reads = []
    monkeypatch.setattr(TableFile, "read", lambda self, **k: reads.append(1) or READ(self, **k))
    source = csv_source(tmp_path)
    for row in source.rows():
        source.reader(WIDE).read(manifest_row(row.key))
    assert len(reads) == 1


def test_a_column_of_flags_per_class_names_the_classes(tmp_path) -> None:
    text = "x,rain,wind,split\n1,1,1,test\n2,0,0,unlabeled\n3,,,\n"
    columns = {"label": ["rain", "wind"]}
    settings = {"modalities": {"a": "x"}, "classes": None, "columns": columns, "splits": None}
    source = csv_source(tmp_path, text, label_kind="multi", **settings)
    assert source.label_space.classes == ("rain", "wind")
    assert [row.labels for row in source.rows()] == [(0, 1), (), None]
    assert [row.split for row in source.rows()] == ["test", "unlabeled", "unlabeled"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"modalities": {"voice": "mel*"}}, r"source\.modalities\.voice: t\.csv has no columns"),
        ({"modalities": {"voice": ["mood"]}}, "the network would read the answer"),
        ({"modalities": {}}, "names no column"),
        ({"modalities": {"voice": []}}, "names no column"),
        ({"columns": {"label": "mod"}}, r"source\.columns\.label: t\.csv has no columns \['mod'\]"),
        ({"columns": {"split": "s"}}, r"source\.columns\.split=s and source\.splits both"),
        ({"splits": None}, r"no columns \['split'\].*source\.splits="),
        ({"columns": {"label": "mood", "key": "mood"}}, r"source\.columns\.key=mood: t\.csv has"),
        ({"classes": None}, r"source\.classes is not given"),
        ({"about": "Ask Ann for it.", "table": "u.csv"}, r"source\.root=DIR .*u\.csv\. Ask Ann"),
        ({"root": None, "table": "/nowhere/u.csv"}, "u.csv is not in /nowhere"),
    ],
)
def test_a_configuration_that_does_not_fit_the_table_is_refused(tmp_path, changes, said) -> None:
    with pytest.raises(ConfigError, match=said):
        list(csv_source(tmp_path, **changes).rows())


def test_identity_holds_the_draw_only_where_there_is_one(tmp_path) -> None:
    drawn = csv_source(tmp_path, data_seed=7).identity()
    assert (drawn["splits"], drawn["data_seed"]) == ({"labelled": 1, "unlabeled": 2, "test": 1}, 7)
    assert set(table_source(tmp_path, data_seed=7).identity()) == {
        "source", "table", "modalities", "label_space", "columns",
    }  # fmt: skip


def sized_rows(folder, **sizes) -> dict[str, list[tuple]]:
    source = SizedTwoMoonSource(root=str(folder), **sizes)
    source.prepare()
    reader = source.reader(SPEC)
    found: dict[str, list[tuple]] = {}
    for row in source.rows():
        arrays = reader.read(manifest_row(row.key)).arrays
        found.setdefault(row.split, []).append((row.labels, *arrays["a"], *arrays["b"]))
    return found


def test_a_larger_two_moon_holds_the_points_of_a_smaller_one(tmp_path) -> None:
    small = sized_rows(tmp_path / "small", num_labelled=4, num_unlabeled=10, num_test=6)
    large = sized_rows(tmp_path / "large", num_labelled=4, num_unlabeled=25, num_test=6)
    assert {name: len(rows) for name, rows in large.items()} == {
        "labelled": 4,
        "unlabeled": 25,
        "test": 6,
    }
    assert large["unlabeled"][:10] == small["unlabeled"]
    assert large["labelled"] == small["labelled"]
    assert large["test"] == small["test"]


def test_a_two_moon_of_any_size_is_standardised_and_has_half_of_each_class(tmp_path) -> None:
    drawn = sized_rows(tmp_path, num_labelled=1, num_unlabeled=4000, num_test=1)["unlabeled"]
    points_N2 = np.array([row[1:] for row in drawn])
    assert points_N2.mean(axis=0) == pytest.approx([0, 0], abs=0.05)
    assert points_N2.std(axis=0) == pytest.approx([1, 1], abs=0.02)
    assert collections.Counter(row[0] for row in drawn) == {(0,): 2000, (1,): 2000}
    upper_N2 = points_N2[[row[0] == (0,) for row in drawn]]
    assert upper_N2.mean(axis=0)[0] < 0 < upper_N2.mean(axis=0)[1]


def test_a_size_below_one_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"source\.num_unlabeled=0"):
        SizedTwoMoonSource(root=str(tmp_path), num_unlabeled=0)


def test_a_two_moon_of_another_size_in_the_same_folder_is_refused(tmp_path) -> None:
    SizedTwoMoonSource(root=str(tmp_path), num_unlabeled=10).prepare()
    SizedTwoMoonSource(root=str(tmp_path), num_unlabeled=10).prepare()
    with pytest.raises(ConfigError, match=r"source\.root=.* holds a sized_two_moon with other"):
        SizedTwoMoonSource(root=str(tmp_path), num_unlabeled=20).prepare()
