"""Requests to an object store by kind, counted at the two clients that make them."""

import importlib
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import s3fs

from mke_ray.data.manifest import UnitRef
from mke_ray.labels.compaction import CompactionPlan, compact
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.plan import LabelPlan
from mke_ray.object_client import ObjectClient
from mke_ray.storage import Root

sys.path.append(str(Path(__file__).parents[1] / "tests"))

ROWS_OF_A_UNIT = 4
KINDS = {
    "read": "get",
    "read_range": "get",
    "exists": "get",  # a HEAD costs what a GET does
    "write": "put",
    "create": "put",
    "get_object": "get",
    "head_object": "get",
    "put_object": "put",
    "list_objects_v2": "list",
    "delete_object": "delete",
    "delete_objects": "delete",
}
STEPS = ("pass", "again", "compaction", "read")


class Requests:
    """Counts what is asked of S3 inside a block, by kind."""

    def __init__(self) -> None:
        self.number: Counter[str] = Counter()
        self._own = {name: getattr(ObjectClient, name) for name in KINDS if name in _OF_CLIENT}
        self._call = s3fs.S3FileSystem._call_s3

    def __enter__(self) -> "Requests":
        """Begin to count."""
        for name, method in self._own.items():
            setattr(ObjectClient, name, self._counted(name, method))

        async def call(filesystem: Any, method: str, *args: Any, **more: Any) -> Any:
            self.number[KINDS.get(method, method)] += 1
            return await self._call(filesystem, method, *args, **more)

        setattr(s3fs.S3FileSystem, "_call_s3", call)  # noqa: B010 - for the type checker
        return self

    def __exit__(self, *_: object) -> None:
        """Stop counting."""
        for name, method in self._own.items():
            setattr(ObjectClient, name, method)
        setattr(s3fs.S3FileSystem, "_call_s3", self._call)  # noqa: B010

    def _counted(self, name: str, method: Any) -> Any:
        def asked(client: ObjectClient, *args: Any, **more: Any) -> Any:
            self.number[KINDS[name]] += 1
            return method(client, *args, **more)

        return asked


def requests_of(root: Root, num_units: int) -> dict[str, Counter[str]]:
    """Return the requests of each step over so many units, with one teacher and without sources."""
    make_world = importlib.import_module("label_fakes").make_world
    plan: LabelPlan = make_world(root, num_units * ROWS_OF_A_UNIT, unit_size=ROWS_OF_A_UNIT)
    refs = list(plan.manifest.unit_refs())
    found = {}
    for step in STEPS:
        with Requests() as requests:
            _STEPS[step](plan, refs)
        found[step] = requests.number
    return found


def per_unit(root: Root, few: int, many: int) -> dict[str, Counter[str]]:
    """Return what each step asks for a unit: what more units ask more, by their number."""
    less, more = (requests_of(root.child(str(number)), number) for number in (few, many))
    return {
        step: Counter(
            {
                kind: round((number - less[step][kind]) / (many - few), 2)
                for kind, number in more[step].items()
            }
        )
        for step in STEPS
    }


def _pass(plan: LabelPlan, refs: Sequence[UnitRef]) -> None:
    run_pass(plan, refs, LocalRunner())


def _compaction(plan: LabelPlan, refs: Sequence[UnitRef]) -> None:
    stores = plan.stores
    indexes = [store.read_index() for store in stores]
    compact(CompactionPlan(plan.root, stores), refs, indexes, LocalRunner(), part_bytes=1 << 24)


def _read(plan: LabelPlan, refs: Sequence[UnitRef]) -> None:
    for store in plan.stores:
        index = store.read_index()
        for ref in refs:
            store.read(ref.unit, location=index.location(ref.unit))


_STEPS = {"pass": _pass, "again": _pass, "compaction": _compaction, "read": _read}
_OF_CLIENT = ("read", "read_range", "exists", "write", "create")
