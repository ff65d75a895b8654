"""The pass that chaos.py disturbs: its plan, its driver, and the proof of what it left."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import yaml

from mke_ray.config import build
from mke_ray.data.manifest import write_manifest
from mke_ray.labels.capacity import ActorPool
from mke_ray.labels.decode_process import SampleLimits
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.plan import LabelPlan, make_plan
from mke_ray.labels.ray_runner import RayDataRunner
from mke_ray.labels.store import UnitStore
from mke_ray.labels.verify import verify
from mke_ray.storage import open_root

CONF = Path(__file__).parents[1] / "conf"
UNIT_SIZE = 4
NUM_ACTORS = 2
SCALES = (1.0, 2.0)


class SlowTeacher:
    """Logits from the mean of each clip; it takes its time, so that there is some to be killed in.

    Args:
        scale: What tells one teacher from another.
        delay_s: How long a unit takes.
    """

    modality = "video"
    needs: Mapping[str, Any] = {"kind": "video"}

    def __init__(self, scale: float, delay_s: float = 0.0) -> None:
        self._scale = scale
        self._delay_s = delay_s

    def predict(self, arrays_BX: np.ndarray) -> np.ndarray:
        """Return logits [B, 10]."""
        time.sleep(self._delay_s)
        mean_B1 = np.asarray(arrays_BX, np.float32).mean(axis=(1, 2, 3, 4))[:, None]
        return self._scale * (mean_B1 + np.arange(10, dtype=np.float32))

    def fingerprint(self) -> str:
        """Return what tells the teacher from others."""
        return f"mean-{self._scale}"


@dataclass(frozen=True, slots=True)
class Lost:
    """What is wrong with the stores of a root, in rows; and files that nothing names.

    Args:
        lost: Rows of the manifest that a store does not hold.
        twice: Rows that a store holds more than once.
        mixed: Rows that differ from those of an undisturbed pass of the same teacher.
        problems: What ``verify`` found besides.
        orphans: Files that killed workers left, harmless.
    """

    lost: int = 0
    twice: int = 0
    mixed: int = 0
    problems: int = 0
    orphans: int = 0

    def __add__(self, other: "Lost") -> "Lost":
        """Return both together."""
        return Lost(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


def source_spec(root: str, num_clips: int) -> dict[str, Any]:
    """Return the source of the clips."""
    few = dict.fromkeys(("num_labelled", "num_probe", "num_test"), 1)
    return {
        "_target_": "mke_ray.data.demo.DemoSource",
        "root": root,
        "num_unlabeled": num_clips,
        **few,
    }


def plan_at(uri: str, source: dict[str, Any], delay_s: float) -> LabelPlan:
    """Return the plan of a pass of two teachers, with a process for decoding."""
    root = open_root(uri)
    manifest = write_manifest(root.child("manifest"), build(source), unit_size=UNIT_SIZE)
    name = "chaos_pass.SlowTeacher"
    plan = make_plan(
        root,
        manifest=manifest,
        source=source,
        decode=yaml.safe_load((CONF / "decode" / "demo.yaml").read_text()),
        teachers=[{"_target_": name, "scale": one, "delay_s": delay_s} for one in SCALES],
        max_bad_fraction=1.0,
    )
    return replace(plan, limits=SampleLimits(timeout_s=60.0, memory_bytes=2 << 30))


def drive(address: str, uri: str, clips: str, num_clips: int, delay_s: float) -> None:
    """Carry out the pass on a cluster, as the driver that may be killed at any time."""
    ray.init(
        address=address,
        runtime_env={"env_vars": {"PYTHONPATH": ":".join(filter(None, sys.path))}},
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    plan = plan_at(uri, source_spec(clips, num_clips), delay_s)
    runner = RayDataRunner(ActorPool(min_actors=1, max_actors=NUM_ACTORS))
    run_pass(plan, plan.manifest.unit_refs(), runner)


def reference(uri: str, clips: str, num_clips: int) -> list[dict[int, Any]]:
    """Return what an undisturbed pass stores, by store and sample."""
    plan = plan_at(uri, source_spec(clips, num_clips), 0.0)
    run_pass(plan, plan.manifest.unit_refs(), LocalRunner())
    return [dict(_rows(store)) for store in plan.stores]


def examine(uri: str, clips: str, num_clips: int, wanted: list[dict[int, Any]]) -> Lost:
    """Compare the stores of a root with those of an undisturbed pass, row by row."""
    plan = plan_at(uri, source_spec(clips, num_clips), 0.0)
    total = Lost()
    for store, rows in zip(plan.stores, wanted, strict=True):
        report = verify(store, plan.manifest)
        found = list(_rows(store))
        counts = Counter(sample for sample, _ in found)
        total += Lost(
            lost=len(rows.keys() - counts.keys()),
            twice=sum(counts.values()) - len(counts),
            mixed=sum(row != rows.get(sample) for sample, row in found),
            problems=len(report.problems),
            orphans=report.num_orphans,
        )
    return total


def _rows(store: UnitStore) -> list[tuple[int, Any]]:
    """Return every row of a store with its sample, as its index has it."""
    index = store.read_index()
    tables = [store.read(unit, location=index.location(unit)) for unit in index.units()]
    return [(row["sample_id"], row) for table in tables for row in table.to_pylist()]


if __name__ == "__main__":
    address, uri, clips, num_clips, delay_s = sys.argv[1:]
    drive(address, uri, clips, int(num_clips), float(delay_s))
