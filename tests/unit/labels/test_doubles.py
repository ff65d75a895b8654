import io
import os
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mke_ray.data.likeness import Signatures
from mke_ray.data.manifest import Manifest, Mark, write_manifest
from mke_ray.data.sources import SourceRow
from mke_ray.labels.double_index import ReferenceIndex
from mke_ray.labels.doubles import TAUGHT_SPLITS, mark_doubles
from mke_ray.labels.probe import ProbeDivision
from mke_ray.labels.store import UnitStore
from mke_ray.schema import LabelSpace, samples_schema
from mke_ray.storage import open_root

DECODE = {
    "video": {"kind": "video", "num_frames": 8, "height": 32, "width": 32, "quality": 90},
    "audio": {"kind": "audio", "sample_rate_hz": 8000, "seconds": 2.0},
}
NUM_FRAMES, NUM_WORDS = 8, 24


@dataclass
class NamedSource:
    """Rows that are named by their keys, ``SPLIT/NAME``."""

    keys: list[str]
    label_space: LabelSpace = field(default_factory=lambda: LabelSpace(("no", "yes")))

    def identity(self):
        return {"source": "named"}

    def prepare(self, progress=None):
        pass

    def rows(self, after=None):
        for key in self.keys:
            split = key.split("/")[0]
            labels = None if split == "unlabeled" else (0,)
            yield SourceRow(key, 1, "1", None, None, key, split, labels)


def content(name):
    """Return the signatures that stand for some content; ``NAME~`` is ``NAME`` encoded again."""
    original = name.rstrip("~")
    rng = np.random.default_rng(list(original.encode()))
    digest = np.random.default_rng(list(name.encode())).bytes(8)
    frames = rng.integers(1, 1 << 64, NUM_FRAMES, np.uint64, endpoint=False)
    sound = rng.integers(1, 1 << 32, NUM_WORDS, np.uint32, endpoint=False)
    if name != original:
        frames ^= np.uint64(1 << len(name))
        sound ^= np.uint32(1 << len(name))
    return {"video": digest + frames.tobytes(), "audio": digest + sound.tobytes()}


def run_of(root, contents, *, unit_size=3):
    """Write manifest and samples of ``{key: content}``; a content None could not be read."""
    manifest = write_manifest(
        root.child("manifest"), NamedSource(list(contents)), unit_size=unit_size
    )
    samples = UnitStore.open_or_create(
        root.child("samples"), spec={"decode": DECODE}, schema=samples_schema(DECODE)
    )
    committed = samples.committed()
    for ref in manifest.unit_refs():
        if ref.unit not in committed:
            rows = manifest.read_unit(ref)
            samples.commit(ref.unit, table_of(rows, contents), {"split": ref.split})
    samples.write_index(samples.committed())
    return samples, manifest


def table_of(rows, contents):
    named = [contents[row.key] for row in rows]
    columns = {
        "sample_id": [row.sample_id for row in rows],
        "status": ["bad" if one is None else "ok" for one in named],
        "error": [None] * len(rows),
    }
    for modality in DECODE:
        columns[modality] = [None] * len(rows)
        columns[f"{modality}_status"] = ["damaged" if one is None else "ok" for one in named]
        signed = [{} if one is None else content(one) for one in named]
        columns[f"{modality}_signature"] = [one.get(modality) for one in signed]
    return pa.table(columns, schema=samples_schema(DECODE))


def marks_of(manifest):
    rows = [row for ref in manifest.unit_refs() for row in manifest.read_unit(ref)]
    return {row.key: row.mark for row in rows if row.mark}


@pytest.fixture
def root(tmp_path):
    return open_root(str(tmp_path / "run"))


CONTENTS = {
    "test/a": "a", "test/b": "b", "test/c": "c", "test/broken": None,
    "probe/a": "a~", "probe/p": "p", "probe/q": "q",
    "labelled/b": "b~", "labelled/q": "q", "labelled/x": "x",
    "unlabeled/a": "a", "unlabeled/a2": "a~~", "unlabeled/p": "p~", "unlabeled/x": "x~",
    "unlabeled/y": "y", "unlabeled/y2": "y", "unlabeled/z": "z", "unlabeled/broken": None,
    "unlabeled/y3": "y", "unlabeled/a3": "a",
}  # fmt: skip


def test_copies_are_marked_and_test_wins_over_probe_and_probe_over_labelled(root):
    manifest, found = mark_doubles(root, *run_of(root, CONTENTS))
    assert marks_of(manifest) == {
        "probe/a": "copy_of_test",
        "labelled/b": "copy_of_test",
        "labelled/q": "copy_of_probe",
        "unlabeled/a": "copy_of_test",
        "unlabeled/a2": "copy_of_test",
        "unlabeled/a3": "copy_of_test",
        "unlabeled/p": "copy_of_probe",
    }
    assert found.counts == {
        "probe": {"copy_of_test": 1},
        "labelled": {"copy_of_test": 1, "copy_of_probe": 1},
        "unlabeled": {"copy_of_test": 3, "copy_of_probe": 1, "copy_of_labelled": 1, "double": 2},
    }
    assert found.num_excluded == 7
    assert Manifest.open(root.child("manifest")).meta["marked"] == manifest.meta["marked"]


def test_a_copy_across_the_parts_of_the_probe_leaves_the_select_part(root):
    """The labelled-only student learns from the select part and is scored on the gate part."""
    division = ProbeDivision()
    keys = [f"probe/{number}" for number in range(20)]
    select = [key for key in keys if division.part_of(key) == "select"]
    gate = [key for key in keys if division.part_of(key) == "gate"]
    contents = {key: key for key in keys} | {"test/t": "t"}
    contents |= {select[0]: "a", gate[0]: "a~", select[1]: "b", select[2]: "b~"}
    samples, manifest = run_of(root, contents)
    manifest, found = mark_doubles(root, samples, manifest)
    assert marks_of(manifest) == {select[0]: "copy_of_probe"}
    assert found.pairs[0]["other_key"] == gate[0]
    everything = ProbeDivision(select_fraction=1.0)
    _, other = mark_doubles(root, samples, manifest, division=everything)
    assert other.file != found.file and other.num_found == 0


def test_the_pairs_are_listed_with_both_keys_and_their_distance(root):
    _, found = mark_doubles(root, *run_of(root, CONTENTS))
    pairs = pq.read_table(io.BytesIO(root.read(found.file))).to_pylist()
    by_key = {pair["key"]: pair for pair in pairs}
    assert len(pairs) == 10 == found.num_found
    assert by_key["unlabeled/a"]["other_key"] == "test/a"
    assert by_key["unlabeled/a"]["distance"] == 0.0
    assert by_key["unlabeled/a2"]["distance"] == pytest.approx(1 / 32)
    assert by_key["unlabeled/x"]["other_key"] == "labelled/x"
    assert not by_key["unlabeled/x"]["is_excluded"]
    assert {pair["other_key"] for pair in pairs if pair["kind"] == "double"} == {"unlabeled/y"}
    assert [pair["key"] for pair in found.pairs] == [pair["key"] for pair in pairs]


def test_a_second_search_writes_nothing_and_says_the_same(root):
    samples, manifest = run_of(root, CONTENTS)
    manifest, found = mark_doubles(root, samples, manifest)
    before = {name: os.stat(root.path(name)).st_mtime_ns for name in root.names()}
    again, same = mark_doubles(root, samples, manifest)
    assert {name: os.stat(root.path(name)).st_mtime_ns for name in root.names()} == before
    assert same == found and again.generation == manifest.generation


def test_equal_unlabeled_samples_are_left_out_but_for_the_first_if_that_is_wanted(root):
    manifest, found = mark_doubles(root, *run_of(root, CONTENTS), within_unlabeled="mark")
    doubles = {key for key, mark in marks_of(manifest).items() if mark == "double"}
    assert doubles == {"unlabeled/y2", "unlabeled/y3"}
    assert found.num_excluded == 9


def test_before_teaching_the_unlabeled_split_is_left_alone(root):
    manifest, found = mark_doubles(root, *run_of(root, CONTENTS), splits=TAUGHT_SPLITS)
    assert set(marks_of(manifest)) == {"probe/a", "labelled/b", "labelled/q"}
    assert "unlabeled" not in found.counts
    samples = UnitStore.open(root.child("samples"))
    manifest, found = mark_doubles(root, samples, manifest)
    assert len(marks_of(manifest)) == 7
    assert found.num_excluded == 7


def test_copies_of_a_test_sample_that_is_gone_are_no_copies_of_test(root):
    samples, manifest = run_of(root, CONTENTS)
    ref = next(iter(manifest.unit_refs(["test"])))
    gone = manifest.read_unit(ref)[0]
    manifest = manifest.add_marks([Mark(gone.sample_id, gone.unit, 0, "deleted")])
    manifest, _ = mark_doubles(root, samples, manifest)
    assert marks_of(manifest)["unlabeled/a"] == "copy_of_probe"
    assert "probe/a" not in marks_of(manifest)


def signatures_of(names):
    return {name: Signatures.parse([content(one)[name] for one in names], name) for name in DECODE}


def test_bands_find_every_pair_that_comparing_all_would_find():
    rng = np.random.default_rng(0)
    names = [f"n{number}" for number in range(200)]
    references = signatures_of(names)
    wanted = rng.integers(0, 200, 300)
    asked = signatures_of([names[number] for number in wanted])
    for one in asked.values():
        num_flips = 6 if one.kind == "video" else 3
        for _ in range(num_flips):
            bit = rng.integers(0, one.words_NK.dtype.itemsize * 8, one.words_NK.shape)
            one.words_NK[...] ^= (1 << bit.astype(np.uint64)).astype(one.words_NK.dtype)
        one.digest_N[...] = rng.integers(1, 1 << 62, len(one))
    matches = ReferenceIndex(references).find(asked)
    assert matches.query_P.tolist() == list(range(300))
    assert matches.reference_P.tolist() == wanted.tolist()
    assert 0.05 < matches.distance_P.mean() < 0.15


def test_samples_that_share_one_modality_are_compared_in_that_one():
    references = signatures_of(["a", "b", "c"])
    references["video"].has_N[1] = False
    asked = signatures_of(["b", "c", "d"])
    asked["audio"].has_N[1] = False
    matches = ReferenceIndex(references).find(asked)
    assert matches.query_P.tolist() == [0, 1]
    assert matches.reference_P.tolist() == [1, 2]


def test_of_several_references_the_most_alike_one_is_named():
    matches = ReferenceIndex(signatures_of(["a~", "a", "a~~"])).find(signatures_of(["a"]))
    assert matches.reference_P.tolist() == [1]
    assert matches.distance_P.tolist() == [0.0]
