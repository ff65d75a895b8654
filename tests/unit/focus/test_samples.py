"""Samples as batches: streamed from a table and from a store, put together anew, none lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from training_stores import DECODE, SAMPLES, make_run

from mke_ray.config import build
from mke_ray.errors import ConfigError, StoreError
from mke_ray.focus.left_out import LeftOut
from mke_ray.focus.samples import (
    joined,
    labelled,
    rebatched,
    sample_store,
    source_batches,
    stored_batches,
    version_of_rows,
)
from mke_ray.schema import Batch, FeatureSpec, Split
from mke_ray.storage import open_root

ALL = [str(one) for one in Split]


def numbered(*sizes: int) -> Iterator[Batch]:
    """Batches whose samples are numbered through."""
    first = 0
    for size in sizes:
        ids_B = torch.arange(first, first + size)
        first += size
        has_B = torch.ones(size, dtype=torch.bool)
        arrays = {"a": ids_B[:, None].float()}
        yield Batch(ids_B, arrays, {"a": has_B}, torch.zeros(size, 2), torch.ones(size))


@pytest.mark.parametrize("sizes", [(3,), (8, 8), (5, 1, 1, 7, 20), (1,) * 37, (100,)])
def test_batches_are_put_together_anew_and_no_sample_is_lost(sizes: tuple[int, ...]) -> None:
    found = list(rebatched(numbered(*sizes), 8))
    assert joined(found).sample_id_B.tolist() == list(range(sum(sizes)))
    assert all(one.num_samples == 8 for one in found[:-1])
    assert found[-1].num_samples < 16
    assert len(found) == 1 or found[-1].num_samples >= 8


def test_no_more_than_a_few_batches_are_read_ahead() -> None:
    given = 0

    def counted() -> Iterator[Batch]:
        nonlocal given
        for one in numbered(*[4] * 100):
            given += one.num_samples
            yield one

    taken = 0
    for one in rebatched(counted(), 8):
        taken += one.num_samples
        assert given - taken <= 16


def test_a_table_is_streamed_by_split_and_without_rows_that_lack_a_modality(tmp_path: Path) -> None:
    rows = ["x,y,label,split"]
    rows += [f"{n},{'' if n % 5 == 4 else n + 0.5},c{n % 2},unlabeled" for n in range(20)]
    rows += ["100,101,c0,test", "102,103,,unlabeled"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    spec = {
        "_target_": "mke_ray.data.tables.TableSource",
        "root": str(tmp_path),
        "table": "t.csv",
        "modalities": {"a": ["x"], "b": ["y"]},
        "classes": ["c0", "c1"],
        "columns": {"label": "label", "split": "split"},
    }
    decode = {"a": FeatureSpec(1), "b": FeatureSpec(1)}
    left_out = LeftOut()
    (found,) = source_batches(build(spec), decode, [Split.UNLABELED], left_out=left_out)
    assert (left_out.num_read, sum(left_out.reasons.values())) == (21, 4)
    assert all(why.startswith("b: ") for why in left_out.reasons)
    assert found.arrays["a"][:, 0].tolist() == [*[n for n in range(20) if n % 5 != 4], 102]
    torch.testing.assert_close(
        found.arrays["b"], found.arrays["a"] + torch.where(found.arrays["a"] == 102, 1.0, 0.5)
    )
    known = labelled(found)
    assert known.num_samples == 16
    assert known.target_BC.argmax(dim=1).tolist() == [n % 2 for n in range(20) if n % 5 != 4]


def test_a_store_of_a_run_is_streamed_unit_by_unit(tmp_path: Path) -> None:
    root = open_root(str(tmp_path))
    make_run(root, {Split.UNLABELED: 40, Split.TEST: 9}, unit_size=8)
    store, manifest = sample_store(f"{tmp_path}/samples/{SAMPLES}", {})
    left_out = LeftOut()
    found = list(stored_batches(store, manifest, DECODE, [Split.UNLABELED], 3, left_out=left_out))
    assert len(found) == 5
    assert max(one.num_samples for one in found) <= 8
    whole = joined(found)
    lacking = {n for n in range(40) if n % 7 == 6 or n % 11 == 10}
    assert whole.num_samples == 40 - len(lacking)
    assert sum(left_out.reasons.values()) == len(lacking)
    left_out.check(3 / 40)
    with pytest.raises(ConfigError, match=r"3 of 40 samples.*labelling\.max_bad_fraction=0\.05"):
        left_out.check(0.05)
    assert len(set(whole.sample_id_B.tolist())) == whole.num_samples
    assert whole.target_BC.sum(dim=1).tolist() == [1.0] * whole.num_samples
    assert {name: one.shape[1] for name, one in whole.arrays.items()} == {"a": 3, "b": 2}


def test_a_store_of_other_arrays_is_refused_by_its_key(tmp_path: Path) -> None:
    root = open_root(str(tmp_path))
    manifest = make_run(root, {Split.UNLABELED: 8})
    store, _ = sample_store(f"{tmp_path}/samples/{SAMPLES}", {})
    with pytest.raises(StoreError, match=r"focus\.samples=.*\['a'\]"):
        list(stored_batches(store, manifest, {"a": FeatureSpec(4)}, ALL, 3))


def test_the_version_of_rows_changes_with_what_they_hold_and_not_with_other_splits(
    tmp_path: Path,
) -> None:
    def version(*rows: str) -> str:
        (tmp_path / "t.csv").write_text("\n".join(["x,label,split", *rows]))
        source = build(
            {
                "_target_": "mke_ray.data.tables.TableSource",
                "root": str(tmp_path),
                "table": "t.csv",
                "modalities": {"a": ["x"]},
                "classes": ["c0", "c1"],
                "columns": {"label": "label", "split": "split"},
            }
        )
        source.prepare()
        return version_of_rows(source, [Split.UNLABELED])

    first = version("1,c0,unlabeled", "2,c1,test")
    assert version("1,c0,unlabeled", "3,c0,test") == first
    others = {version("5,c0,unlabeled"), version("1,c1,unlabeled"), version("1,c0,probe")}
    assert len(others | {first}) == 4
