"""Files of features: every format gives the same columns, and what is wrong is named."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mke_ray.data.table_files import TableFile
from mke_ray.errors import ConfigError
from mke_ray.storage import open_root


def table_file(folder, name, content) -> TableFile:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return TableFile(open_root(str(folder)), name)


def parquet(**columns) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def npz(**arrays) -> bytes:
    sink = io.BytesIO()
    np.savez(sink, **arrays)
    return sink.getvalue()


FORMATS = {
    "t.csv": "\ufeffx,y,who\n1,2.5,ann\n,3,ben\n",
    "t.tsv": "x\ty\twho\n1\t2.5\tann\nnan\t3\tben\n",
    "t.parquet": parquet(x=[1, None], y=[2.5, 3.0], who=["ann", "ben"]),
    "t.npz": npz(x=np.array([1, np.nan]), y=np.array([2.5, 3]), who=np.array(["ann", "ben"])),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_columns(tmp_path, name) -> None:
    file = table_file(tmp_path, name, FORMATS[name])
    assert file.names() == ["x", "y", "who"]
    read = file.read(features=["y", "x"], values=["who"])
    np.testing.assert_array_equal(read.features["x"], np.float32([[1], [np.nan]]))
    np.testing.assert_array_equal(read.features["y"], np.float32([[2.5], [3]]))
    assert read.features["x"].dtype == np.float32
    assert read.values == {"who": ["ann", "ben"]}


def test_a_column_of_lists_and_an_array_of_two_axes_hold_several_features(tmp_path) -> None:
    wide = np.arange(6, dtype=np.float32).reshape(3, 2)
    wide[1] = np.nan
    lists = [[0.0, 1.0], None, [4.0, 5.0]]
    for name, content in (
        ("a.parquet", parquet(voice=lists)),
        ("b.npz", npz(voice=wide)),
    ):
        read = table_file(tmp_path, name, content).read(features=["voice"], values=[])
        np.testing.assert_array_equal(read.features["voice"], wide)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.xlsx", "", r"t\.xlsx must end in one of"),
        ("t.parquet", "no footer at all", r"t\.parquet"),
        ("t.npz", "no zip", r"t\.npz cannot be read"),
        ("t.csv", "x,x\n1,2\n", r"columns \['x'\] twice"),
        ("t.csv", "a,x\n1,2\n1,much\n", r"column x in line 3: .*'much'.*source\.modalities"),
        ("t.parquet", parquet(x=["much"]), "column x is string"),
        ("t.parquet", parquet(x=[[1.0], [1.0, 2.0]]), r"column x holds lists of \[1, 2\]"),
        ("t.npz", npz(x=np.zeros((2, 3, 4))), r"array x is float64\[2, 3, 4\]"),
        ("t.npz", npz(x=np.array([{}], dtype=object)), r"t\.npz cannot be read: Object arrays"),
        ("t.npz", npz(x=np.zeros(2), y=np.zeros(3)), r"\{'x': 2, 'y': 3\} rows"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, said) -> None:
    file = table_file(tmp_path, name, content)
    with pytest.raises(ConfigError, match=said):
        file.read(features=[one for one in file.names() if one in "xy"], values=[])


def test_a_column_of_lists_of_fixed_size_is_read_too(tmp_path) -> None:
    fixed = pa.array([[0.0, 1.0], [2.0, 3.0]], pa.list_(pa.float32(), 2))
    read = table_file(tmp_path, "t.parquet", parquet(voice=fixed)).read(
        features=["voice"], values=[]
    )
    assert read.features["voice"].tolist() == [[0.0, 1.0], [2.0, 3.0]]
