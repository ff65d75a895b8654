"""Tests of the manifest of a source that changes, and of a listing that was interrupted."""

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mke_ray.data.manifest import META, Manifest, Mark, write_manifest
from mke_ray.data.sources import SourceRow
from mke_ray.errors import StoreError
from mke_ray.schema import LabelSpace, sample_id
from mke_ray.storage import Root, open_root

SPLITS = ("labelled", "unlabeled", "test")


@dataclass
class ChangingSource:
    """A source of rows that are given; it can go on after a row, and stop at one.

    Args:
        given: The rows.
        breaks_at: Row before which the listing fails.
        asked: From where the rows were wanted, one entry per listing.
    """

    given: list[SourceRow]
    breaks_at: int | None = None
    is_resumable: bool = True

    def __post_init__(self):
        self.asked: list[str | None] = []
        self.label_space = LabelSpace(("a", "b"))

    def identity(self) -> dict[str, Any]:
        return {"source": "changing"}

    def rows(self, after: str | None = None):
        self.asked.append(after)
        start = int(after) + 1 if after else 0
        for number, row in list(enumerate(self.given))[start:]:
            if number == self.breaks_at:
                raise ConnectionError("the line was cut")
            yield replace(row, cursor=str(number) if self.is_resumable else "")


def row(number, split="unlabeled", **keys):
    row = SourceRow(f"clip-{number}.mp4", number, "e", None, None, f"g{number}", split, None)
    return replace(row, **keys)


def id_of(number):
    return sample_id(f"clip-{number}.mp4")


@pytest.fixture
def root(tmp_path):
    return open_root(str(tmp_path / "manifest"))


def write(root: Root, rows, **keys) -> Manifest:
    return write_manifest(root, ChangingSource(list(rows)), unit_size=3, **keys)


def all_rows(manifest):
    return [one for ref in manifest.unit_refs() for one in manifest.read_unit(ref)]


def usable(manifest):
    return sorted((one.key, one.etag, one.split) for one in all_rows(manifest) if not one.mark)


def marks_of(manifest):
    return {(one.key, one.etag): one.mark for one in all_rows(manifest) if one.mark}


def files_of(root):
    return {name: root.read(name) for name in root.names()}


def kinds(names):
    """Return names without what tells one driver from another."""
    return sorted(re.sub(r"-[0-9a-f]{12}\.parquet$", "", name) for name in names)


def test_a_source_that_did_not_change_writes_nothing(root):
    rows = [row(number, SPLITS[number % 3], labels=(number % 2,)) for number in range(20)]
    first = write(root, rows)
    before = files_of(root)
    again = write(root, reversed(rows))
    assert files_of(root) == before
    assert again == first


def test_only_new_changed_and_deleted_rows_make_a_new_generation(root):
    first = write(root, [row(number) for number in range(9)])
    before = files_of(root)
    units = {ref.unit for ref in first.unit_refs()}
    now = [row(n, etag="new" if n == 4 else "e") for n in range(9) if n != 7] + [row(20)]
    second = write(root, now)
    assert second.generation == 1
    assert {name: root.read(name) for name in before} == before
    assert kinds(set(root.names()) - set(before)) == [
        "marks-00001",
        "meta-00001.json",
        "part-00001-00000",
    ]
    assert usable(second) == sorted((one.key, one.etag, one.split) for one in now)
    assert marks_of(second) == {("clip-4.mp4", "e"): "changed", ("clip-7.mp4", "e"): "deleted"}
    new = [ref for ref in second.unit_refs() if ref.unit not in units]
    assert [one.key for ref in new for one in second.read_unit(ref)] == [
        "clip-4.mp4",
        "clip-20.mp4",
    ]
    assert second.meta["counts"]["unlabeled"] == 9
    assert second.meta["marked"] == {"changed": 1, "deleted": 1}
    assert Manifest.open(root) == second
    assert write(root, now) == second


@pytest.mark.parametrize(
    "change",
    [{"size": 5}, {"etag": "f"}, {"split": "probe"}, {"labels": (1,)}, {"group": "other"}],
)
def test_each_part_of_a_row_makes_a_new_version(root, change):
    write(root, [row(1), row(2)])
    manifest = write(root, [row(1), row(2, **change)])
    old, new = (one for one in all_rows(manifest) if one.key == "clip-2.mp4")
    assert (old.mark, new.mark) == ("changed", "")
    assert all(getattr(new, name) == value for name, value in change.items())


def test_a_row_that_comes_back_gets_a_new_row_in_a_unit_of_its_own(root):
    rows = [row(1), row(2)]
    write(root, rows)
    write(root, rows[:1])
    manifest = write(root, rows)
    assert usable(manifest) == usable(write(open_root(f"{root.uri}-2"), rows))
    assert len({ref.unit for ref in manifest.unit_refs()}) == 2
    assert marks_of(write(root, rows[1:]))["clip-1.mp4", "e"] == "deleted"


def test_units_of_the_same_rows_differ_from_generation_to_generation(root):
    """Else the store would take the samples of the old version for those of the new one."""
    manifest = None
    for etag in ("a", "b", "a"):
        manifest = write(root, [row(0)] + [row(number, etag=etag) for number in (1, 2, 3)])
    assert manifest is not None
    refs = list(manifest.unit_refs())
    assert len({ref.unit for ref in refs}) == len(refs) == 4


@settings(max_examples=10, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.integers(0, 40), st.tuples(st.integers(0, 2), st.sampled_from(SPLITS)), min_size=1
        ),
        min_size=1,
        max_size=4,
    )
)
def test_after_any_changes_the_unmarked_rows_are_those_of_the_source(tmp_path_factory, states):
    root = open_root(str(tmp_path_factory.mktemp("manifest")))
    kept = row(99)  # a source that lost everything is refused
    for state in states:
        rows = [kept, *(row(n, split, etag=str(etag)) for n, (etag, split) in state.items())]
        manifest = write(root, rows, units_per_part=2, accept_loss=True)
        assert usable(manifest) == sorted((one.key, one.etag, one.split) for one in rows)
        for split in SPLITS:
            assert manifest.meta["counts"][split] == sum(one.split == split for one in rows)
        marked = [one.mark for one in all_rows(manifest) if one.mark]
        assert manifest.meta["marked"] == {m: marked.count(m) for m in sorted(set(marked))}
        assert manifest.meta["num_units"] == len(list(manifest.unit_refs()))


def test_a_source_that_lost_every_sample_is_refused(root):
    write(root, [row(1), row(2)])
    before = files_of(root)
    for rows in ([], [row(3)]):
        with pytest.raises(StoreError, match=r"none of the 2 samples.*source\.root"):
            write(root, rows)
    assert files_of(root) == before


def test_a_sample_that_occurs_twice_in_a_later_listing_is_refused_by_its_key(root):
    write(root, [row(1), row(2)])
    with pytest.raises(StoreError, match=r"occurs 2 times.*clip-2\.mp4"):
        write(root, [row(1), row(2), row(2, "test")])


def test_a_refresh_that_was_cut_short_leaves_the_old_generation_and_no_rest(root, monkeypatch):
    write(root, [row(number) for number in range(4)])
    create = Root.create
    with monkeypatch.context() as patch:
        patch.setattr(Root, "create", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write(root, [row(number) for number in range(40)], units_per_part=1)
    assert Root.create is create
    assert len(all_rows(Manifest.open(root))) == 4
    manifest = write(root, [row(number) for number in range(5)])
    assert len(all_rows(manifest)) == 5
    parts = [name for name in root.names() if name.startswith("part-00001")]
    assert kinds(parts) == ["part-00001-00000"]


def test_marks_from_elsewhere_make_a_generation_and_are_kept_once(root):
    first = write(root, [row(number) for number in range(5)])
    ref = next(first.unit_refs())
    marks = [
        Mark(id_of(1), ref.unit, 1, "copy_of_test"),
        Mark(id_of(1), ref.unit, 1, "copy_of_probe"),
        Mark(id_of(2), ref.unit, 2, "double"),
    ]
    second = first.add_marks(marks)
    assert second.generation == 1
    assert np.array_equal(second.marks(ref.unit), [False, True, True])
    assert first.marks(ref.unit) is None
    assert second.meta["counts"]["unlabeled"] == 3
    assert second.meta["marked"] == {"copy_of_test": 1, "double": 1}
    assert second.add_marks(marks) is second
    assert second.add_marks([]) is second
    third = write(root, [row(number) for number in range(5) if number != 2])
    assert third.meta["marked"] == {"copy_of_test": 1, "deleted": 1}
    assert third.meta["counts"]["unlabeled"] == 3


def test_a_copy_that_is_still_in_the_source_is_not_added_again(root):
    rows = [row(number) for number in range(3)]
    first = write(root, rows)
    ref = next(first.unit_refs())
    second = first.add_marks([Mark(id_of(1), ref.unit, 1, "copy_of_test")])
    assert write(root, rows) == second
    changed = write(root, [row(0), row(1, etag="new"), row(2)])
    assert ("clip-1.mp4", "new", "unlabeled") in usable(changed)


def test_a_mark_of_no_row_is_refused(root):
    manifest = write(root, [row(1)])
    ref = next(manifest.unit_refs())
    for wrong in (Mark(1, ref.unit, 1, "double"), Mark(1, "f" * 16, 0, "double")):
        with pytest.raises(StoreError, match="no such row"):
            manifest.add_marks([wrong])
    with pytest.raises(StoreError, match="choose one of"):
        Mark(1, ref.unit, 0, "ugly")


def test_of_two_drivers_that_add_a_generation_the_second_is_told(root):
    first = write(root, [row(1), row(2)])
    ref = next(first.unit_refs())
    first.add_marks([Mark(id_of(1), ref.unit, 0, "double")])
    before = files_of(root)
    with pytest.raises(StoreError, match="another driver"):
        first.add_marks([Mark(id_of(2), ref.unit, 1, "double")])
    assert files_of(root) == before


def test_a_forgotten_sample_and_its_spans_are_never_added_again(root):
    rows = [row(1), row(2, start_s=0.0, end_s=1.0), row(3)]
    first = write(root, rows)
    ref = next(first.unit_refs())
    marks = [
        Mark(id_of(1), ref.unit, 0, "forgotten"),
        Mark(sample_id("clip-2.mp4", 0.0, 1.0), ref.unit, 1, "forgotten"),
        Mark(id_of(2), "", -1, "forgotten"),
    ]
    second = first.add_marks(marks)
    assert second.add_marks(marks) is second
    longer = [*rows, row(2, start_s=1.0, end_s=2.0), row(4)]
    third = write(root, longer)
    assert [one[0] for one in usable(third)] == ["clip-3.mp4", "clip-4.mp4"]
    assert write(root, [row(3), row(4)]) == third


def test_the_digest_of_a_split_changes_with_its_usable_rows_alone(root):
    rows = [row(1, "labelled", labels=(0,)), row(2), row(3)]
    first = write(root, rows)
    added = write(root, [*rows, row(4)])
    assert added.digest(["labelled"]) == first.digest(["labelled"])
    assert added.digest(["unlabeled"]) != first.digest(["unlabeled"])
    assert added.digest(["labelled", "unlabeled"]) != first.digest(["labelled", "unlabeled"])
    ref = next(first.unit_refs(["unlabeled"]))
    marked = added.add_marks([Mark(id_of(2), ref.unit, 0, "double")])
    assert marked.digest(["unlabeled"]) != added.digest(["unlabeled"])
    gone = write(root, [rows[0], rows[2], row(4)])
    assert gone.digest(["unlabeled"]) == marked.digest(["unlabeled"])


def test_the_digest_depends_on_content_and_not_on_the_place(root, tmp_path):
    rows = [row(number) for number in range(7)]
    other = open_root(str(tmp_path / "other"))
    assert write(root, rows).digest(["unlabeled"]) == write(other, rows).digest(["unlabeled"])
    third = open_root(str(tmp_path / "third"))
    changed = [*rows[:6], row(6, etag="x")]
    assert write(third, changed).digest(["unlabeled"]) != write(other, rows).digest(["unlabeled"])


def test_an_interrupted_listing_goes_on_after_its_last_part(root, tmp_path):
    rows = [row(number, SPLITS[number % 3]) for number in range(50)]
    source = ChangingSource(rows, breaks_at=31)
    keys = {"unit_size": 3, "units_per_part": 2}
    with pytest.raises(ConnectionError):
        write_manifest(root, source, **keys)
    with pytest.raises(StoreError, match="no finished manifest"):
        Manifest.open(root)
    source.breaks_at = None
    manifest = write_manifest(root, source, **keys)
    (start, after) = source.asked
    assert start is None and int(after) >= 20
    whole = open_root(str(tmp_path / "whole"))
    write_manifest(whole, ChangingSource(rows), **keys)
    assert kinds(root.names()) == kinds(whole.names())
    assert [root.read(part) for part in manifest.parts()] == [
        whole.read(part) for part in Manifest.open(whole).parts()
    ]
    assert manifest.meta["counts"]["test"] == 16


def test_a_listing_that_cannot_go_on_begins_anew(root, tmp_path):
    rows = [row(number) for number in range(20)]
    source = ChangingSource(rows, breaks_at=15, is_resumable=False)
    with pytest.raises(ConnectionError):
        write_manifest(root, source, unit_size=2, units_per_part=2)
    source.breaks_at = None
    write_manifest(root, source, unit_size=2, units_per_part=2)
    assert source.asked == [None, None]
    assert len(all_rows(Manifest.open(root))) == 20


def test_a_listing_that_was_interrupted_with_other_settings_begins_anew(root):
    rows = [row(number) for number in range(20)]
    source = ChangingSource(rows, breaks_at=15)
    with pytest.raises(ConnectionError):
        write_manifest(root, source, unit_size=2, units_per_part=2)
    source.breaks_at = None
    manifest = write_manifest(root, source, unit_size=5, units_per_part=3)
    assert source.asked == [None, None]
    assert [ref.num_rows for ref in manifest.unit_refs()] == [5, 5, 5, 5]
    assert kinds(root.names()) == [META, "part-00000-00000", "part-00000-00001"]


def test_a_sample_that_occurs_twice_on_both_sides_of_an_interruption_is_found(root):
    rows = [*(row(number) for number in range(20)), row(1)]
    source = ChangingSource(rows, breaks_at=18)
    with pytest.raises(ConnectionError):
        write_manifest(root, source, unit_size=2, units_per_part=2)
    source.breaks_at = None
    with pytest.raises(StoreError, match=r"occurs 2 times.*clip-1\.mp4"):
        write_manifest(root, source, unit_size=2, units_per_part=2)
    source.given = rows[:-1]
    assert len(all_rows(write_manifest(root, source, unit_size=2))) == 20


def test_rows_whose_files_are_away_stay_as_they_are(root):
    """A folder that is unmounted for one start must not rewrite the manifest twice."""
    rows = [row(number) for number in range(6)]
    first = write(root, rows)
    away = [row(n, size=-1, etag="") if n < 3 else row(n) for n in range(6)]
    assert write(root, away) == first
    assert write(root, rows) == first


def test_a_row_that_never_had_a_file_gets_a_new_version_when_it_comes(root):
    write(root, [row(1), row(2, size=-1, etag="")])
    assert ("clip-2.mp4", "e", "unlabeled") in usable(write(root, [row(1), row(2)]))


def test_a_loss_of_most_samples_is_refused_unless_it_is_accepted(root):
    rows = [row(number) for number in range(6)]
    first = write(root, rows)
    away = [row(n, size=-1, etag="") for n in range(6)]
    for none in (away, away[:3]):
        with pytest.raises(StoreError, match=r"none of the 6 samples.*refresh=false"):
            write(root, none, accept_loss=True)
    for most in (rows[:2], [*away[:4], *rows[4:]], [*away[:2], *rows[4:]]):
        with pytest.raises(StoreError, match=r"lost 4 of the 6.*another root.*accept_loss=true"):
            write(root, most)
    assert Manifest.open(root) == first
    assert len(usable(write(root, rows[:2], accept_loss=True))) == 2


def meanwhile(monkeypatch, method, step):
    """Let a step happen once, right before a method of the root is next called."""
    original, waiting = getattr(Root, method), [step]

    def interleaved(self, *args):
        if waiting:
            waiting.pop()()
        return original(self, *args)

    monkeypatch.setattr(Root, method, interleaved)


@pytest.mark.parametrize("method", ["write", "create"])
def test_a_driver_that_wakes_late_takes_nothing_from_the_one_that_was_faster(
    root, monkeypatch, method
):
    """Late before it writes its part, and late between its marks and its meta."""
    rows = [row(number) for number in range(6)]
    write(root, rows)
    theirs = [row(n, etag="b") if n == 1 else row(n) for n in range(6)] + [row(7)]
    mine = [row(n, etag="c") if n in (3, 4) else row(n) for n in range(6)]
    after = {}

    def other_driver():
        write(root, theirs)
        after.update(files_of(root))

    meanwhile(monkeypatch, method, other_driver)
    with pytest.raises(StoreError, match="another driver"):
        write(root, mine)
    now = files_of(root)
    assert {name: now.get(name) for name in after} == after
    winner = Manifest.open(root)
    assert usable(winner) == sorted((one.key, one.etag, one.split) for one in theirs)
    assert marks_of(winner) == {("clip-1.mp4", "e"): "changed"}
    assert kinds(now) == kinds(
        [META, "meta-00001.json", *winner.meta["parts"], *winner.meta["marks"]]
    )


@pytest.mark.parametrize("method", ["write", "create"])
def test_of_two_drivers_that_list_for_the_first_time_one_wins_whole(root, monkeypatch, method):
    mine = ChangingSource([row(number) for number in range(20)])
    theirs = ChangingSource([row(number, etag="b") for number in range(20)])
    keys = {"unit_size": 2, "units_per_part": 2}
    meanwhile(monkeypatch, method, lambda: write_manifest(root, theirs, **keys))
    with pytest.raises(StoreError, match="another driver"):
        write_manifest(root, mine, **keys)
    etags = {etag for _, etag, _ in usable(Manifest.open(root))}
    assert etags == ({"b"} if method == "write" else {"e"})  # the second one goes on from progress
    assert len(all_rows(Manifest.open(root))) == 20


def test_a_listing_gone_on_with_by_two_drivers_is_never_mixed(root, monkeypatch):
    rows = [row(number) for number in range(30)]
    keys = {"unit_size": 2, "units_per_part": 2}
    with pytest.raises(ConnectionError):
        write_manifest(root, ChangingSource(rows, breaks_at=14), **keys)
    changed = [*rows[:20], *(row(number, etag="b") for number in range(20, 30))]
    other = ChangingSource(changed)
    meanwhile(monkeypatch, "write", lambda: write_manifest(root, other, **keys))
    with pytest.raises(StoreError, match="another driver"):
        write_manifest(root, ChangingSource(rows), **keys)
    assert usable(Manifest.open(root)) == sorted((o.key, o.etag, o.split) for o in changed)


def test_a_listing_that_was_interrupted_at_another_place_begins_anew(root):
    @dataclass
    class Somewhere(ChangingSource):
        where: str = ""

        def place(self):
            return self.where

    rows = [row(number) for number in range(20)]
    keys = {"unit_size": 2, "units_per_part": 2}
    for number, (where, asked) in enumerate([("s3://a", [None]), ("s3://b", [None])]):
        source = Somewhere(rows, breaks_at=15 if number == 0 else 17, where=where)
        with pytest.raises(ConnectionError):
            write_manifest(root, source, **keys)
        assert source.asked == asked
    again = Somewhere(rows, where="s3://b")
    assert len(all_rows(write_manifest(root, again, **keys))) == 20
    assert again.asked != [None]
