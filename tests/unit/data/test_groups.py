from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mke_ray.data.manifest import (
    Mark,
    count_groups,
    group_sizes,
    shared_groups,
    write_manifest,
)
from mke_ray.data.sources import Progress, Reader, SourceRow
from mke_ray.schema import DecodeSpec, LabelSpace
from mke_ray.storage import open_root


@dataclass
class Actors:
    """A source of one clip per split and actor."""

    actors: dict[str, str]
    label_space = LabelSpace(("no", "yes"))

    def identity(self) -> dict[str, Any]:
        return {"source": "actors"}

    def prepare(self, progress: Progress | None = None) -> None:
        pass

    def reader(self, spec: DecodeSpec) -> Reader:
        raise NotImplementedError

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        for split, names in self.actors.items():
            for name in names:
                yield SourceRow(f"{split}/{name}", -1, "", None, None, name, split, (0,))


def manifest_of(tmp_path, **actors: str):
    root = open_root(str(tmp_path / "manifest"))
    return write_manifest(root, Actors(actors), unit_size=2)


def test_splits_with_actors_of_their_own_share_nothing(tmp_path):
    manifest = manifest_of(tmp_path, labelled="ab", unlabeled="cde", probe="fg", test="hi")
    assert shared_groups(manifest) == []


def test_actors_in_several_splits_are_counted_and_named(tmp_path):
    manifest = manifest_of(tmp_path, labelled="ab", unlabeled="cdefh", probe="fg", test="ahi")
    found = {
        (one.first, one.second): (one.num_groups, one.example) for one in shared_groups(manifest)
    }
    assert found == {
        ("test", "labelled"): (1, "a"),
        ("test", "unlabeled"): (1, "h"),
        ("probe", "unlabeled"): (1, "f"),
    }


def test_a_marked_row_shares_nothing(tmp_path):
    manifest = manifest_of(tmp_path, labelled="a", test="a")
    (ref,) = manifest.unit_refs(["labelled"])
    (row,) = manifest.read_unit(ref)
    assert len(shared_groups(manifest)) == 1
    marked = manifest.add_marks([Mark(row.sample_id, ref.unit, 0, "deleted")])
    assert shared_groups(marked) == []


def test_rows_of_every_group_are_counted_as_far_as_they_may_be_held(tmp_path):
    manifest = manifest_of(tmp_path, unlabeled="abcd", test="x")
    assert group_sizes(manifest, "unlabeled", most=4) == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert group_sizes(manifest, "unlabeled", most=3) is None
    assert count_groups(manifest, "unlabeled", enough=10) == 4
    assert count_groups(manifest, "unlabeled", enough=1) >= 1
    assert count_groups(manifest, "probe", enough=3) == 0
