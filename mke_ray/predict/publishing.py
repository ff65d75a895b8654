"""Answers as Parquet files that any tool reads: written once each, and named by what is in them."""

import io
import json
import posixpath
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.labels.files import status_columns
from mke_ray.labels.index import Index
from mke_ray.labels.labelling import LocalRunner, PassReport, Runner
from mke_ray.labels.lease import Lease
from mke_ray.labels.same_rows import check_rows
from mke_ray.labels.store import UnitStore, location_of
from mke_ray.labels.unit_report import UnitReport
from mke_ray.predict.answers import AnswerForm, answers_of
from mke_ray.report.progress import Report
from mke_ray.schema import StatusCounts, fingerprint
from mke_ray.storage import Root

ANSWERS_FOLDER = "answers"
ABOUT_NAME = "answers/_about.json"

_FEW_FILES = 4
_OURS = re.compile(r"part-\d{5,}-[0-9a-f]+\.parquet")


@dataclass(frozen=True, slots=True)
class AnswersRef:
    """One file of answers to write.

    Args:
        unit: Its first unit.
        name: Name of the file.
        units: Its units, and for each of them what a ``UnitRef`` holds.
        parts: The same.
        row_groups: The same.
        splits: The same.
        nums_rows: The same.
    """

    unit: str
    name: str
    units: Sequence[str]
    parts: Sequence[str]
    row_groups: Sequence[int]
    splits: Sequence[str]
    nums_rows: Sequence[int]

    @property
    def refs(self) -> list[UnitRef]:
        """The units."""
        columns = (self.units, self.parts, self.row_groups, self.splits, self.nums_rows)
        return [UnitRef(*one) for one in zip(*columns, strict=True)]


@dataclass(frozen=True, slots=True)
class AnswersPlan:
    """What is published, as plain data that crosses from the driver to the workers.

    Args:
        root: Root of the run.
        manifest: The samples.
        form: What the answers say.
        samples: What became of the samples.
        said: The student's logits.
        explained: The part of each modality; None where it is not told.
        num_threads: Threads of torch in a worker.
        units_at_once: Files that a worker writes at once.
        units_per_call: Files that a worker is given at a time.
        decodes: Files are written by the workers that decode.
        computes: Networks look at nothing.
    """

    root: Root
    manifest: Manifest
    form: AnswerForm
    samples: UnitStore
    said: UnitStore
    explained: UnitStore | None = None
    num_threads: int = 1
    units_at_once: int = 1
    units_per_call: int = 1
    decodes: bool = True
    computes: bool = False

    def worker(self) -> "AnswersWorker":
        """Return what writes the files of this plan."""
        return AnswersWorker(self)


class AnswersWorker:
    """Writes one file of answers after the other.

    Args:
        plan: What is published.
    """

    def __init__(self, plan: AnswersPlan) -> None:
        self._plan = plan

    def run(self, ref: AnswersRef) -> UnitReport:
        """Write the file of some units, whole or not at all."""
        began_s = time.perf_counter()
        sink, counts = io.BytesIO(), StatusCounts()
        with pq.ParquetWriter(sink, self._plan.form.schema, compression="zstd") as writer:
            for one in ref.refs:
                writer.write_table(self._answers(one))
        self._plan.root.write(f"{ANSWERS_FOLDER}/{ref.name}", sink.getvalue())
        report = UnitReport(ref.unit, counts, num_units=len(ref.units))
        report.seconds["write"] = time.perf_counter() - began_s
        report.num_bytes_written = sink.tell()
        return report

    def _answers(self, ref: UnitRef) -> pa.Table:
        """Return the answers for a unit."""
        plan = self._plan
        rows = plan.manifest.read_unit(ref)
        record = plan.samples.record(ref.unit)
        tables = {
            "samples": plan.samples.read_small_columns(
                ref.unit, location_of(record), self._columns
            ),
            "said": plan.said.read(ref.unit),
        }
        if plan.explained is not None:
            tables["explained"] = plan.explained.read(ref.unit)
        for name, table in tables.items():
            check_rows(table, f"{plan.root.uri} ({name})", ref, rows)
        return answers_of(plan.form, rows, **tables)

    @cached_property
    def _columns(self) -> list[str]:
        names = self._plan.samples.schema.names
        return ["sample_id", "status", "error", *status_columns(names)]


@dataclass(frozen=True, slots=True)
class Published:
    """The files of answers of a run.

    Args:
        names: Their names.
        num_written: Files that were written now; the others were there.
    """

    names: tuple[str, ...]
    num_written: int


def publish(
    plan: AnswersPlan,
    refs: Sequence[UnitRef],
    report: PassReport,
    runner: Runner,
    *,
    progress: Report | None = None,
    lease: Lease | None = None,
) -> Published:
    """Write the answers for all units; files that are there already are left alone.

    Files are named by their content, the list of those that belong together is written when all
    are there, and files of before are deleted then. Until then both are in the folder, so whoever
    reads takes what the list names. What others put there stays.

    Args:
        plan: What is published.
        refs: All units of the manifest, in order.
        report: What a finished pass left behind.
        runner: Where files are written; a few are written in this process.
        progress: Called with units done and units wanted.
        lease: The lease on the root.

    Raises:
        StoreError: Another driver took over, or a store is damaged.
    """
    files = list(_files(plan, refs, report))
    there = set(plan.root.names(ANSWERS_FOLDER))
    todo = [one for one in files if f"{ANSWERS_FOLDER}/{one.name}" not in there]
    _write(plan, todo, runner, progress=progress, lease=lease)
    names = [one.name for one in files]
    if lease is not None:
        lease.check(now=True)
    _write_about(plan, names, report)
    ours = {name for name in there if _OURS.fullmatch(posixpath.basename(name))}
    for name in sorted(ours - {f"{ANSWERS_FOLDER}/{name}" for name in names}):
        plan.root.delete(name)
    return Published(tuple(names), len(todo))


def _write(
    plan: AnswersPlan,
    todo: Sequence[AnswersRef],
    runner: Runner,
    *,
    progress: Report | None,
    lease: Lease | None,
) -> None:
    """Write files, few of them in this process, since workers take longer to start."""
    if not todo:
        return
    done, total = 0, sum(len(one.units) for one in todo)
    carried_out_by = runner if len(todo) > _FEW_FILES else LocalRunner()
    for one in carried_out_by.run(plan, todo):
        if lease is not None:
            lease.check()
        done += one.num_units
        if progress is not None:
            progress(done, total)


def _write_about(plan: AnswersPlan, names: Sequence[str], report: PassReport) -> None:
    """Write which files belong together, and what they hold, if that is not there."""
    counts = report.counts
    about: dict[str, Any] = {
        **plan.form.to_dict(),
        "files": list(names),
        "counts": {
            "samples": counts.samples,
            "ok": counts.ok,
            "partial": counts.partial,
            "bad": counts.bad,
            "retry": counts.retry,
            "reasons": counts.reasons,
            "partial_reasons": counts.partial_reasons,
        },
    }
    content = json.dumps(about, indent=1).encode()
    if not plan.root.exists(ABOUT_NAME) or plan.root.read(ABOUT_NAME) != content:
        plan.root.write(ABOUT_NAME, content)


def _files(plan: AnswersPlan, refs: Sequence[UnitRef], report: PassReport) -> Iterator[AnswersRef]:
    """Yield the files, each of consecutive units; new units at the end change no file before."""
    some: list[UnitRef] = []
    number, num_rows, most = 0, 0, plan.form.rows_per_file
    for ref in refs:
        some.append(ref)
        num_rows += ref.num_rows
        if num_rows >= most:
            yield _file(plan, some, report, number)
            some, number, num_rows = [], number + 1, 0
    if some:
        yield _file(plan, some, report, number)


def _file(
    plan: AnswersPlan, refs: Sequence[UnitRef], report: PassReport, number: int
) -> AnswersRef:
    """Return a file of some units, with a name that changes with what it says."""
    marks = plan.manifest.mark_table()
    indexes: list[Index] = [report.samples, *report.labels]
    made_of = [
        [one.unit, *(index.content_id(one.unit) for index in indexes), _marked(marks, one.unit)]
        for one in refs
    ]
    known = [plan.form.to_dict(), plan.form.root, plan.form.is_explained, made_of]
    return AnswersRef(
        refs[0].unit,
        f"part-{number:05d}-{fingerprint(known)}.parquet",
        [one.unit for one in refs],
        [one.part for one in refs],
        [one.row_group for one in refs],
        [one.split for one in refs],
        [one.num_rows for one in refs],
    )


def _marked(marks: Any, unit: str) -> str:
    """Return which rows of a unit are not in use, as text."""
    marked_B = marks.mask(unit)
    return "" if marked_B is None else marked_B.tobytes().hex()
