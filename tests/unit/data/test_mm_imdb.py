"""Tests of MM-IMDB on a few films, as raw files and as one HDF5 file."""

import pickle
from collections import Counter

import numpy as np
import pytest
from published_data import picture, put, write_mm_imdb, write_mm_imdb_hdf5

from mke_ray.data.manifest import manifest_row
from mke_ray.data.mm_imdb import GENRES, MmImdbSource
from mke_ray.data.mm_imdb_hdf5 import MmImdbHdf5Source
from mke_ray.data.text_files import TextFiles, hashed_words
from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import LabelKind, decode_spec_from_dict

POSTER = {"kind": "image", "height": 60, "width": 40, "lossless": True}
SPEC = decode_spec_from_dict({"poster": POSTER, "plot": {"kind": "features", "num_features": 256}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mm_imdb")
    write_mm_imdb(folder)
    return folder


@pytest.fixture(scope="module")
def hdf5_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mm_imdb_hdf5")
    write_mm_imdb_hdf5(folder)
    return folder


def film(number):
    return f"{10_000 + number:07d}"


def test_the_official_lists_are_the_splits_and_genres_are_those_that_count(folder):
    of = MmImdbSource(str(folder), labelled=0.4)
    rows = {row.key: row for row in of.rows()}
    counts = Counter(row.split for row in rows.values())
    assert (counts["probe"], counts["test"]) == (24, 16)
    assert counts["labelled"] + counts["unlabeled"] == 38 and counts["labelled"] > 5
    assert of.label_space.kind is LabelKind.MULTI and len(set(GENRES)) == 23
    names = [[GENRES[one] for one in rows[film(n)].labels or ()] for n in (0, 1, 2, 11)]
    assert names == [["Drama"], ["Drama", "Comedy"], ["Western"], ["Comedy"]]
    assert of.notes() == [
        "MM-IMDB: 1 films are left out: it has none of the 23 genres",
        "MM-IMDB: 1 films are left out: its description is not there",
    ]
    listed = list(of.rows())
    assert list(of.rows(after=listed[20].cursor)) == listed[21:]


def test_a_film_has_its_poster_and_the_words_of_its_plots(folder):
    of = MmImdbSource(str(folder))
    rows = {row.key: manifest_row(row) for row in of.rows()}
    reader = of.reader(SPEC)
    whole = reader.read(rows[film(0)])
    assert whole.arrays["poster"].shape == (60, 40, 3)
    same = hashed_words("A drama of number 0. Nobody knows how it ends.", 256)
    assert np.array_equal(whole.arrays["plot"], same)
    assert reader.read(rows[film(3)]).missing == {"poster": "missing_file"}
    assert reader.read(rows[film(9)]).missing == {"plot": "empty"}


def test_hashed_words_tell_texts_apart_and_case_counts_for_nothing():
    one = hashed_words("The man comes around", 512)
    assert np.array_equal(one, hashed_words("the MAN comes around", 512))
    assert np.mean(one**2) == pytest.approx(1.0, abs=1e-5) and one.dtype == np.float32
    assert one @ hashed_words("the man comes home", 512) > one @ hashed_words("a dog barks", 512)
    assert not np.array_equal(one, hashed_words("around comes man the", 512))
    with pytest.raises(MediaError, match="no word"):
        hashed_words(" . ", 512)
    assert TextFiles().text(b"as it is") == "as it is"
    with pytest.raises(MediaError, match="field plot"):
        TextFiles("plot").text(b'{"title": "x"}')


def test_the_hdf5_file_says_the_same_by_the_order_of_its_films(hdf5_folder):
    of = MmImdbHdf5Source(str(hdf5_folder), labelled=0.4, parts=[40, 24, 16])
    rows = list(of.rows())
    counts = Counter(row.split for row in rows)
    assert (counts["probe"], counts["test"]) == (24, 16) and counts["labelled"] > 5
    assert rows[3].labels == (0, 3) and rows[2].labels == (2,)
    assert list(of.rows(after=rows[50].cursor)) == rows[51:]
    spec = decode_spec_from_dict(
        {"poster": POSTER, "plot": {"kind": "features", "num_features": 300}}
    )
    reader = pickle.loads(pickle.dumps(of.reader(spec)))
    read = reader.read(manifest_row(rows[3]))
    assert np.array_equal(read.arrays["poster"], picture(3)) and read.arrays["plot"].any()
    vgg = decode_spec_from_dict({"poster": {"kind": "features", "num_features": 4096}})
    assert of.reader(vgg).read(manifest_row(rows[3])).arrays["poster"].shape == (4096,)


@pytest.mark.parametrize("name", ["../elsewhere/b", "/b", "b/../b", "b\\u0000", ""])
def test_a_name_that_is_no_film_is_left_out_and_never_a_path(tmp_path, name):
    for film in ("dataset/a", "elsewhere/b", "dataset/b"):
        (tmp_path / film).parent.mkdir(exist_ok=True)
        put(tmp_path / f"{film}.json", b'{"genres": ["Drama"], "plot": ["x"]}')
    put(tmp_path / "split.json", f'{{"train": ["a", "{name}"], "dev": [], "test": []}}'.encode())
    of = MmImdbSource(str(tmp_path))
    assert [row.key for row in of.rows()] == ["a"]
    assert of.notes() == [
        "MM-IMDB: 1 films are left out: its name has other signs than letters, digits, _ and -"
    ]


def test_a_share_that_is_none_is_named_by_the_keys_that_there_are(tmp_path):
    for of in (MmImdbSource, MmImdbHdf5Source):
        with pytest.raises(ConfigError, match=r"source\.labelled=1\.5: shares") as error:
            of(str(tmp_path), labelled=1.5)
        assert "probe" not in str(error.value)


def test_what_is_missing_is_named_with_the_way_out(folder, hdf5_folder, tmp_path):
    with pytest.raises(ConfigError, match=r"source\.root is not set.*split\.json"):
        MmImdbSource(None)
    (tmp_path / "dataset").mkdir()
    put(tmp_path / "dataset/a.json", b"{}")
    with pytest.raises(ConfigError, match=r"official split=split\.json is not in source\.root"):
        list(MmImdbSource(str(tmp_path)).rows())
    put(tmp_path / "split.json", b'{"train": ["a", "b"]}')
    with pytest.raises(ConfigError, match=r"lists \['train', 'dev', 'test'\]"):
        list(MmImdbSource(str(tmp_path)).rows())
    put(tmp_path / "split.json", b'{"train": ["a", "b"], "dev": [], "test": []}')
    with pytest.raises(ConfigError, match=r"no film of split\.json.*cannot be read.*not there"):
        list(MmImdbSource(str(tmp_path)).rows())
    with pytest.raises(ConfigError, match=r"source\.file=multimodal_imdb\.hdf5 is not in"):
        list(MmImdbHdf5Source(str(tmp_path)).rows())
    with pytest.raises(ConfigError, match=r"genres is \[80, 23\].*want \[25959, 23\]"):
        list(MmImdbHdf5Source(str(hdf5_folder)).rows())
    with pytest.raises(ConfigError, match=r"decode\.plot\.num_features=256.*set it to 300"):
        MmImdbHdf5Source(str(hdf5_folder)).reader(SPEC)
