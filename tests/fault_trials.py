"""Acts on a run, each in a child process that a fault may meet at a named point."""

import gc
import hashlib
import json
import os
import signal
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from label_fakes import DECODE, source_spec, teacher_spec

from mke_ray import fault_points
from mke_ray.config import build
from mke_ray.data.manifest import Manifest, write_manifest
from mke_ray.data.manifest.files import remove_unnamed
from mke_ray.expansion.forget import forget_samples
from mke_ray.fault_points import Fault
from mke_ray.labels.files import table_to_bytes
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.lease import Lease
from mke_ray.labels.plan import LabelPlan, make_plan
from mke_ray.labels.scrub import stores_below
from mke_ray.labels.verify import verify
from mke_ray.local_files import is_unfinished
from mke_ray.storage import Root, open_root

SOURCE = source_spec(6)
SCALES = (1.0, 2.0)

_CHILD_S = 200  # a child that hangs is to end a test, and not to outlive it


def list_source(uri: str) -> Manifest:
    """Write the manifest of a root."""
    return write_manifest(open_root(uri).child("manifest"), build(SOURCE), unit_size=2)


def label(uri: str) -> LabelPlan:
    """Carry out the whole pass.

    A driver that gave no sign of life for a moment is taken for dead.
    """
    plan = plan_at(uri)
    with Lease(plan.root, stale_after_s=0.0).held("label") as lease:
        run_pass(plan, plan.manifest.unit_refs(), LocalRunner(), lease=lease)
    return plan


def label_without_lease(uri: str) -> LabelPlan:
    """Carry out the whole pass with a lease that nobody took, as if there were none."""
    plan = plan_at(uri)
    run_pass(plan, plan.manifest.unit_refs(), LocalRunner(), lease=Lease(plan.root))
    return plan


def label_patiently(uri: str) -> LabelPlan:
    """Carry out the whole pass as a job does, which takes nobody for dead before a minute."""
    plan = plan_at(uri)
    run_pass(plan, plan.manifest.unit_refs(), LocalRunner())
    return plan


def forget(uri: str) -> LabelPlan:
    """Forget one sample of each of two units, and carry out the pass again, for the indexes."""
    remove(uri)
    return label(uri)


def remove(uri: str) -> None:
    """Forget one sample of each of two units, be they labelled or not."""
    Lease.__init__.__kwdefaults__["stale_after_s"] = 0.0  # in this child process alone
    forget_samples(open_root(uri), keys=["00000", "00005"])


def plan_at(uri: str) -> LabelPlan:
    """Return the plan of two teachers at a root that has a manifest."""
    root = open_root(uri)
    return make_plan(
        root,
        manifest=Manifest.open(root.child("manifest")),
        source=SOURCE,
        decode=DECODE,
        teachers=[teacher_spec(scale=one) for one in SCALES],
        max_bad_fraction=0.5,  # a driver that slept does not know which samples are forgotten
    )


def files_after(folder: Path, *acts: Callable[[str], Any]) -> dict[str, bytes]:
    """Return the files of a root after some acts in this process.

    What these load, the children need not load each.
    """
    for act in acts:
        act(str(folder))
    root = open_root(str(folder))
    return {name: root.read(name) for name in root.names()}


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
        act: What they do at the URI of a root.
        before: Files of a root by name, that are there first.
    """

    folder: Path
    act: Callable[[str], Any]
    before: Mapping[str, bytes] = field(default_factory=dict)

    def start(self, uri: str, fault: Fault | None = None) -> Child:
        """Fork a child that does the act on a new root and meets a fault in it."""
        return self._fork(lambda: self._act_on_new(uri, fault))

    def finish(self, uri: str) -> dict[str, Any]:
        """Do the act on a root in a child that must end well, and return the state it finds."""
        return self._done(lambda: (self.act(uri), state_of(uri))[1])

    def do(self, *acts: Callable[[str], Any], uri: str) -> None:
        """Do acts on a root in a child that must end well."""
        self._done(lambda: [act(uri) for act in acts] and None)

    def look(self, uri: str) -> dict[str, Any]:
        """Return the state of a root that a child finds."""
        return self._done(lambda: state_of(uri))

    def points(self, uri: str) -> Counter[str]:
        """Return how often each point is reached by an act that nothing disturbs."""
        file = self.folder / f"points-{uuid.uuid4().hex}"
        child = self.start(uri, Fault("record", file=str(file)))
        assert child.wait() == 0 and "error" not in child.result(), child.result()
        return Counter(file.read_text().split())

    def _act_on_new(self, uri: str, fault: Fault | None) -> None:
        """Put the files that are there first, and do the act with a fault."""
        root = open_root(uri)
        for name, content in self.before.items():
            root.write(name, content)
        fault_points.arm(fault)
        self.act(uri)

    def _done(self, work: Callable[[], Any]) -> Any:
        """Do some work in a child that must end well, and return what it returned."""
        child = self._fork(work)
        assert child.wait() == 0
        result = child.result()
        assert "error" not in result, result["trace"]
        return result["returned"]

    def _fork(self, work: Callable[[], Any]) -> Child:
        """Fork a child that does some work."""
        answer = self.folder / f"answer-{uuid.uuid4().hex}.json"
        pid = os.fork()
        if pid == 0:
            _be_child(work, answer)
        return Child(pid, answer)


def state_of(uri: str) -> dict[str, Any]:
    """Return what is wrong at a root and what it holds, and sweep it.

    ``content`` has the digest of each unit of the manifest and of each store, ``files`` how many
    files of each kind there are once all is removed that anybody may remove long after the last
    writer; those that are half written among them.
    """
    root = open_root(uri)
    manifest = Manifest.open(root.child("manifest"))
    rows = {ref.unit: manifest.read_unit(ref) for ref in manifest.unit_refs()}
    content = {"manifest": {unit: _digest(repr(some).encode()) for unit, some in rows.items()}}
    problems = []
    _let_time_pass(root)
    for store in [one for name in ("samples", "labels") for one in stores_below(root.child(name))]:
        report = verify(store, manifest)
        problems += [f"{one.kind} {one.unit} {one.detail}" for one in report.problems]
        if store.read_index().table != store.index().table:
            problems.append(f"the index file of {store.root.uri} is not of what is committed")
        tables = {unit: table_to_bytes(store.read(unit)) for unit in sorted(rows)}
        name = "/".join(store.root.uri.split("/")[-2:])
        content[name] = {unit: _digest(one) for unit, one in tables.items()}
        store.sweep(rows)
    with Lease(root, stale_after_s=0.0).held("after"):
        remove_unnamed(manifest.root, manifest.meta)
    return {"problems": problems, "content": content, "files": _files_of(root)}


def _digest(content: bytes) -> str:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(content).hexdigest()


def _let_time_pass(root: Root) -> None:
    """Make all that is half written look as if its writer had been dead for long."""
    for path in Path(root.path()).rglob(".*.tmp") if root.is_local else ():
        os.utime(path, (0, 0))


def _files_of(root: Root) -> dict[str, int]:
    """Return how many files of each kind there are in all, those that are half written too."""
    if root.is_local:
        names = [str(path) for path in Path(root.path()).rglob("*") if path.is_file()]
    else:
        names = list(root.names())
    kinds = ("unfinished" if is_unfinished(one) else fault_points.kind_of(one) for one in names)
    return dict(Counter(kinds))


def _be_child(work: Callable[[], Any], answer: Path) -> None:
    """Do some work as a forked child, leave the answer and end without any cleaning up."""
    signal.alarm(_CHILD_S)
    gc.disable()  # it would touch, and so copy, all that the child shares with its parent
    torch.set_num_threads(1)
    os.fsync = lambda _: None  # a killed process loses nothing that the kernel holds
    try:
        result = {"returned": work()}
    except Exception as error:  # noqa: BLE001  # the parent judges it
        result = {"error": type(error).__name__, "trace": traceback.format_exc()}
    fault_points.arm(None)
    answer.write_text(json.dumps(result))
    os._exit(0)
