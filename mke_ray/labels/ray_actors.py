"""What Ray Data calls in its actors: whole units, or their decoding and their labelling apart."""

import contextlib
import io
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import ray
import torch

from mke_ray.data.manifest import UnitRef
from mke_ray.errors import MkeRayError, StoreError
from mke_ray.labels.storing import StoredSamples
from mke_ray.labels.unit_report import UnitReport
from mke_ray.labels.worker import UnitWorker, WorkItem, WorkPlan

MAX_TRIES = 4

_REF_TYPE = pa.struct(
    {
        "unit": pa.string(),
        "part": pa.string(),
        "row_group": pa.int64(),
        "split": pa.string(),
        "num_rows": pa.int64(),
    }.items()
)
# What a decoded unit is on its way to the actors that label it.
_DECODED_SCHEMA = pa.schema(
    {
        "ref": _REF_TYPE,
        "samples": pa.large_binary(),
        "revision": pa.int64(),
        "report": pa.string(),
        "error": pa.string(),
        "message": pa.string(),
    }
)


class Gate:
    """Lets many threads in together, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._num_inside = self._num_lonely = 0
        self._is_alone = False

    @contextlib.contextmanager
    def entered(self, *, alone: bool) -> Iterator[None]:
        """Be inside for a block; nobody enters while one waits to be alone."""
        with self._changed:
            self._num_lonely += alone
            self._changed.wait_for(lambda: self._may_enter(alone=alone))
            self._num_lonely -= alone
            self._num_inside += 1
            self._is_alone = alone
        try:
            yield
        finally:
            with self._changed:
                self._num_inside -= 1
                self._is_alone = False
                self._changed.notify_all()

    def _may_enter(self, *, alone: bool) -> bool:
        if alone:
            return self._num_inside == 0
        return not self._is_alone and not self._num_lonely


class Station:
    """One place of work of a pass in an actor: what it does is tried so often and no more.

    Ray starts a dead actor again, and what it worked on, without end; the tries set the end. Work
    that was begun before and not ended may have ended its worker, so it is done alone: nothing
    else is then to blame.

    Args:
        plan: The whole pass.
        tries: Handle of the actor that counts.
        name: Name of the work done here.
        num_threads: Threads of torch.
    """

    def __init__(self, plan: WorkPlan, tries: Any, *, name: str, num_threads: int) -> None:
        self._root_uri = plan.root.uri
        self._tries = tries
        self._name = name
        self._num_threads = num_threads
        self._gate = Gate()

    def work(self, unit: str, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what some work on a unit returns; an error that the user can mend is text."""
        torch.set_num_threads(self._num_threads)  # every thread has a number of its own
        try:
            return {"error": "", "message": "", **self._tried(unit, do)}
        except MkeRayError as error:
            return {"error": type(error).__name__, "message": str(error)}

    def _tried(self, unit: str, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do the work once.

        Raises:
            MkeRayError: It ended every worker that tried it, or its worker met it.
            StoreError: A file could not be read or written.
        """
        name = f"{self._name} {unit}"
        num_begun: int = ray.get(self._tries.count.remote(name))
        with self._gate.entered(alone=num_begun > 0):
            num_tried: int = ray.get(self._tries.begin.remote(name))
            if num_tried >= MAX_TRIES:
                raise MkeRayError(_why_given_up(unit))
            try:
                return do()
            except OSError as error:
                raise StoreError(_why_not_stored(unit, self._root_uri, error)) from error
            finally:
                ray.get(self._tries.end.remote(name))


class UnitActor:
    """A worker as Ray Data calls it: some units, or other items of work, in; their reports out."""

    def __init__(self, plan: WorkPlan, tries: Any, item: Callable[..., WorkItem] = UnitRef) -> None:
        self._worker = plan.worker()
        self._item = item
        self._station = Station(plan, tries, name="unit", num_threads=plan.num_threads)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Bring items to their end, one after the other, up to the first that has an error."""
        reports: list[dict[str, Any]] = []
        for row in batch.to_pylist():
            reports.append(self._done(self._item(**row)))
            if reports[-1]["error"]:
                break
        return pa.Table.from_pylist(reports)

    def _done(self, ref: WorkItem) -> dict[str, Any]:
        """Bring one item to its end."""
        done = self._station.work(ref.unit, lambda: {"report": self._worker.run(ref).to_json()})
        return {"report": "", **done}


class DecodeActor:
    """Decodes units and stores their samples: a unit in, its samples as they are stored out."""

    def __init__(self, plan: Any, tries: Any) -> None:
        self._worker: UnitWorker = plan.worker()
        self._station = Station(plan, tries, name="decode", num_threads=plan.num_threads)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Store the samples of one unit, and hand on those columns that its labels need."""
        ref = UnitRef(**batch.to_pylist()[0])
        done = self._station.work(ref.unit, lambda: self._decoded(ref))
        row = {"ref": asdict(ref), "samples": b"", "revision": 0, "report": "", **done}
        return pa.Table.from_pylist([row], schema=_DECODED_SCHEMA)

    def _decoded(self, ref: UnitRef) -> dict[str, Any]:
        samples, report = self._worker.decode(ref)
        needed = self._worker.to_label(ref, samples, report)
        return {
            "samples": _to_bytes(needed.table),
            "revision": needed.revision,
            "report": report.to_json(),
        }


class LabelActor:
    """Labels what was decoded: the stored samples of a unit in, its report out."""

    def __init__(self, plan: Any, tries: Any) -> None:
        self._worker: UnitWorker = plan.worker()
        self._station = Station(plan, tries, name="label", num_threads=plan.threads_of_teachers)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Store the logits of one unit; an error of its decoding goes on."""
        row = {name: batch.column(name)[0] for name in batch.column_names}
        done = {name: row[name].as_py() for name in ("report", "error", "message")}
        if not done["error"]:
            ref = UnitRef(**row["ref"].as_py())
            table = pa.ipc.open_stream(row["samples"].as_buffer()).read_all()
            samples = StoredSamples(table, row["revision"].as_py(), has_media=True)
            done |= self._station.work(
                ref.unit, lambda: self._labelled(ref, samples, done["report"])
            )
        return pa.Table.from_pylist([done])

    def _labelled(self, ref: UnitRef, samples: StoredSamples, text: str) -> dict[str, Any]:
        report = UnitReport.from_json(text)
        self._worker.label(ref, samples, report)
        return {"report": report.to_json()}


def _to_bytes(table: pa.Table) -> bytes:
    """Return a table as Arrow writes it to a stream."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _why_given_up(unit: str) -> str:
    return (
        f"unit {unit} ended its worker process {MAX_TRIES} times, by a crash of a network or "
        f"for want of memory (now on node {socket.gethostname()}). See the worker's own error in "
        "Ray's logs, or work in this process with labelling.runner=local; where memory was short, "
        "lower labelling.max_actors. What is done stays"
    )


def _why_not_stored(unit: str, root_uri: str, error: OSError) -> str:
    return (
        f"unit {unit} of {root_uri} was not finished on node {socket.gethostname()}: "
        f"{type(error).__name__}: {error}. See that every node reaches the root and that it has "
        "room, then start the same job again; it goes on with what is left"
    )
