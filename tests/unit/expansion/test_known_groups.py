"""Groups that lie in several splits are looked for once, until other rows are in use."""

from collections.abc import Iterator
from typing import Any

import pytest

from mke_ray.data.manifest import Mark, write_manifest
from mke_ray.data.sources import SourceRow
from mke_ray.expansion import known_groups
from mke_ray.expansion.known_groups import known_shared_groups
from mke_ray.schema import LabelSpace
from mke_ray.storage import open_root


class OneActor:
    """A labelled and a test clip of one actor."""

    label_space = LabelSpace(("no", "yes"))

    def identity(self) -> dict[str, Any]:
        return {"source": "one actor"}

    def prepare(self, progress: Any = None) -> None:
        pass

    def reader(self, spec: Any) -> Any:
        raise NotImplementedError

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        for split in ("labelled", "test"):
            yield SourceRow(f"{split}/a", -1, "", None, None, "actor", split, (0,))


@pytest.fixture
def looked(monkeypatch):
    """Manifests that were read for their groups."""
    seen, look = [], known_groups.shared_groups
    monkeypatch.setattr(known_groups, "shared_groups", lambda one: seen.append(one) or look(one))
    return seen


def test_groups_are_looked_for_again_only_when_other_rows_are_in_use(tmp_path, looked):
    root = open_root(str(tmp_path))
    manifest = write_manifest(root.child("manifest"), OneActor(), unit_size=2)
    (said,) = known_shared_groups(root, manifest)
    assert "actor" in said
    assert known_shared_groups(root, manifest) == [said]
    assert len(looked) == 1
    (ref,) = manifest.unit_refs(["labelled"])
    (row,) = manifest.read_unit(ref)
    marked = manifest.add_marks([Mark(row.sample_id, ref.unit, 0, "deleted")])
    assert known_shared_groups(root, marked) == []
    assert len(looked) == 2
