"""Acts on a run, each in a child process that a fault may meet at a named point."""

import hashlib
import json
import os
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from composed import REPOSITORY

from mke_ray import fault_points
from mke_ray.config import build
from mke_ray.data.manifest import write_manifest
from mke_ray.data.manifest.files import remove_unnamed
from mke_ray.expansion.forget import forget_samples
from mke_ray.fault_points import Fault
from mke_ray.labels.files import table_to_bytes
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.lease import Lease
from mke_ray.labels.plan import LabelPlan, make_plan
from mke_ray.labels.verify import verify
from mke_ray.storage import Root, open_root

NUM_CLIPS = 3
UNIT_SIZE = 1
SPLIT = "unlabeled"


class MeanTeacher:
    """Logits from the mean of each clip; the scale tells one teacher from another."""

    modality = "video"
    needs: Mapping[str, Any] = {"kind": "video"}

    def __init__(self, scale: float) -> None:
        self._scale = scale

    def predict(self, arrays_BX: np.ndarray) -> np.ndarray:
        mean_B1 = np.asarray(arrays_BX, np.float32).mean(axis=(1, 2, 3, 4))[:, None]
        return self._scale * (mean_B1 + np.arange(10, dtype=np.float32))

    def fingerprint(self) -> str:
        return f"mean-{self._scale}"


def demo_spec(folder: Any) -> dict[str, Any]:
    """Return a source of a few real videos, that are written when it is prepared."""
    return {
        "_target_": "mke_ray.data.demo.DemoSource",
        "root": str(folder),
        "num_unlabeled": NUM_CLIPS,
        "num_labelled": 1,
        "num_probe": 1,
        "num_test": 1,
        "num_broken": 0,
        "num_processes": 1,
    }


def plan_at(uri: str, source: dict[str, Any]) -> LabelPlan:
    """Write the manifest of a root where there is none, and return the plan of two teachers."""
    root = open_root(uri)
    built = build(source)
    return make_plan(
        root,
        manifest=write_manifest(root.child("manifest"), built, unit_size=UNIT_SIZE),
        source=source,
        decode=yaml.safe_load((REPOSITORY / "conf" / "decode" / "demo.yaml").read_text()),
        teachers=[{"_target_": "fault_trials.MeanTeacher", "scale": one} for one in (1.0, 2.0)],
    )


def label(uri: str, source: dict[str, Any]) -> LabelPlan:
    """Carry out the whole pass.

    A driver that gave no sign of life for a moment is taken for dead.
    """
    plan = plan_at(uri, source)
    with Lease(plan.root, stale_after_s=0.0).held("label") as lease:
        refs = plan.manifest.unit_refs([SPLIT])
        run_pass(plan, refs, LocalRunner(), lease=lease)
    return plan


def label_without_lease(uri: str, source: dict[str, Any]) -> LabelPlan:
    """Carry out the whole pass with a lease that nobody took, as if there were none."""
    plan = plan_at(uri, source)
    refs = plan.manifest.unit_refs([SPLIT])
    run_pass(plan, refs, LocalRunner(), lease=Lease(plan.root))
    return plan


def label_patiently(uri: str, source: dict[str, Any]) -> LabelPlan:
    """Carry out the whole pass as a job does, which takes nobody for dead before a minute."""
    plan = plan_at(uri, source)
    run_pass(plan, plan.manifest.unit_refs([SPLIT]), LocalRunner())
    return plan


def forget(uri: str, source: dict[str, Any]) -> LabelPlan:
    """Forget one sample of each of two units, and carry out the pass again, for the indexes."""
    Lease.__init__.__kwdefaults__["stale_after_s"] = 0.0  # in this child process alone
    keys = sorted(row.key for row in build(source).rows() if row.split == SPLIT)
    forget_samples(open_root(uri), keys=[keys[0], keys[-1]])
    return label(uri, source)


@dataclass(slots=True)
class Child:
    """A process that was forked to do something.

    Args:
        pid: Its process.
        answer: File in which it leaves what it returned or raised.
    """

    pid: int
    answer: Path

    def wait(self) -> int:
        """Wait until it ended or was stopped; return the number of the signal, 0 for an end."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return os.WSTOPSIG(status)
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0

    def wake(self) -> None:
        """Let it go on after a stop."""
        os.kill(self.pid, signal.SIGCONT)

    def result(self) -> dict[str, Any]:
        """Return what it left: ``returned``, or ``error`` with ``trace``."""
        return json.loads(self.answer.read_text())


@dataclass(slots=True)
class Trials:
    """Children that act on roots, one root per trial.

    Args:
        folder: Local folder for what the children say.
        act: What they do, with the URI of a root and the source.
        source: Specification of the source.
        before: Files of a root by name, that are there first.
    """

    folder: Path
    act: Callable[[str, dict[str, Any]], LabelPlan]
    source: dict[str, Any]
    before: Mapping[str, bytes] = field(default_factory=dict)
    num_children: int = 0

    def start(self, uri: str, fault: Fault | None = None) -> Child:
        """Fork a child that does the act on a new root and meets a fault in it."""
        return self._fork(lambda: self._act_on_new(uri, fault))

    def finish(self, uri: str, *, sweep: bool) -> dict[str, Any]:
        """Do the act on a root in a child that must end well, and return the state it finds."""
        return self._done(lambda: state_of(self.act(uri, self.source), sweep=sweep))

    def look(self, uri: str) -> dict[str, Any]:
        """Return the state of a root that a child finds."""
        return self._done(lambda: state_of(plan_at(uri, self.source), sweep=True))

    def points(self, uri: str) -> Counter[str]:
        """Return how often each point is reached by an act that nothing disturbs."""
        file = self.folder / "points"
        child = self.start(uri, Fault("record", file=str(file)))
        assert child.wait() == 0 and "error" not in child.result(), child.result()
        return Counter(file.read_text().split())

    def _act_on_new(self, uri: str, fault: Fault | None) -> None:
        """Put the files that are there first, and do the act with a fault."""
        root = open_root(uri)
        for name, content in self.before.items():
            root.write(name, content)
        fault_points.arm(fault)
        self.act(uri, self.source)

    def _done(self, work: Callable[[], Any]) -> Any:
        """Do some work in a child that must end well, and return what it returned."""
        child = self._fork(work)
        assert child.wait() == 0
        result = child.result()
        assert "error" not in result, result["trace"]
        return result["returned"]

    def _fork(self, work: Callable[[], Any]) -> Child:
        """Fork a child that does some work."""
        self.num_children += 1
        answer = self.folder / f"answer-{self.num_children}.json"
        pid = os.fork()
        if pid == 0:
            _be_child(work, answer)
        return Child(pid, answer)


def state_of(plan: LabelPlan, *, sweep: bool) -> dict[str, Any]:
    """Return what is wrong at a root and what its stores hold.

    ``content`` has the digest of each unit's table by store, ``files`` how many files of each kind
    there are, those that are half written among them; nothing where it is not swept first.
    """
    manifest = plan.manifest
    units = {ref.unit for ref in manifest.unit_refs([SPLIT])}
    problems, content = [], {}
    for store in plan.stores:
        report = verify(store, manifest, splits=[SPLIT])
        problems += [f"{one.kind} {one.unit} {one.detail}" for one in report.problems]
        problems += [f"extra {one}" for one in store.committed() - units]
        if store.read_index().table != store.index().table:
            problems.append(f"the index file of {store.root.uri} is not of what is committed")
        found = {unit: table_to_bytes(store.read(unit)) for unit in sorted(units)}
        name = "/".join(store.root.uri.split("/")[-2:])
        content[name] = {unit: hashlib.sha256(one).hexdigest() for unit, one in found.items()}
    files = _files_after_sweep(plan, units) if sweep else {}
    return {"problems": problems, "content": content, "files": files}


def _files_after_sweep(plan: LabelPlan, units: set[str]) -> dict[str, int]:
    """Remove all that anybody may remove long after the last writer, and count what is left."""
    _let_time_pass(plan.root)
    for store in plan.stores:
        store.sweep(units)
    with Lease(plan.root, stale_after_s=0.0).held("after"):
        remove_unnamed(plan.manifest.root, plan.manifest.meta)
    return files_of(plan.root)


def _let_time_pass(root: Root) -> None:
    """Make all that is half written look as if its writer had been dead for long."""
    for path in Path(root.path()).rglob(".*.tmp") if root.is_local else ():
        os.utime(path, (0, 0))


def files_of(root: Root) -> dict[str, int]:
    """Return how many files of each kind there are in all, those that are half written too."""
    if root.is_local:
        names = [str(path) for path in Path(root.path()).rglob("*") if path.is_file()]
    else:
        names = list(root.names())
    return dict(Counter("unfinished" if ".tmp" in name else kind_of(name) for name in names))


def kind_of(name: str) -> str:
    """Return the kind of a file as the points name it."""
    return fault_points.kind_of(name)


def _be_child(work: Callable[[], Any], answer: Path) -> None:
    """Do some work as a forked child, leave the answer and end without any cleaning up."""
    torch.set_num_threads(1)
    os.fsync = lambda _: None  # a killed process loses nothing that the kernel holds
    try:
        result = {"returned": work()}
    except Exception as error:  # noqa: BLE001  # the parent judges it
        result = {"error": type(error).__name__, "trace": traceback.format_exc()}
    fault_points.arm(None)
    answer.write_text(json.dumps(result))
    os._exit(0)
