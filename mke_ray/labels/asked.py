"""Samples that people are asked for: what was drawn and how, and the labels that came back."""

import codecs
import csv
import io
import json
import logging
import posixpath
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mke_ray.data.roles import parse_labels
from mke_ray.data.sources import Progress, Reader, Source, SourceRow
from mke_ray.errors import ConfigError
from mke_ray.schema import DecodeSpec, LabelSpace, Split, sample_id
from mke_ray.storage import Root, open_root

ASKED_FOLDER = "asked"
RECORD_NAME, TABLE_NAME = "drawn.json", "labels.csv"
PAGE_NAME, PICTURE_NAME = "index.html", "sheet.png"
COLUMNS = ("id", "key", "start_s", "end_s", "group", "label")
NOBODY_KNOWS = "?"

logger = logging.getLogger(__name__)

_LEAST_ANSWERED = 0.9
_LEAST_OF_STRATUM = 2


@dataclass(frozen=True, slots=True)
class AskedSample:
    """A sample that was asked for.

    Args:
        id: Its name in the table, a text that no spreadsheet takes for a number.
        sample_id: The sample.
        key: Key in the source.
        start_s: Start of its span, None for the whole.
        end_s: End of its span.
        group: Its group, all of which is asked for.
        stratum: Stratum that it was drawn from, "" where its chance does not count.
    """

    id: str
    sample_id: int
    key: str
    start_s: float | None
    end_s: float | None
    group: str
    stratum: str


@dataclass(frozen=True, slots=True)
class AskRecord:
    """What was drawn at one time.

    Args:
        name: Its folder below ``asked/``.
        purpose: ``settle`` or ``learn``.
        fit: Student by which the strata were made.
        seed: Seed of the draw.
        worth: How many samples drawn without strata one of these is worth, fixed before any label.
        shares: Per stratum the share of the samples that were drawn from.
        samples: What was asked for.
        num: Samples that were wanted; 0 in records of versions before.
    """

    name: str
    purpose: str
    fit: str
    seed: int
    worth: float
    shares: Mapping[str, float]
    samples: tuple[AskedSample, ...]
    num: int = 0

    def write(self, root: Root) -> None:
        """Keep it below the root of its run."""
        content = json.dumps(asdict(self), indent=1).encode()
        root.child(ASKED_FOLDER, self.name).write(RECORD_NAME, content)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "AskRecord":
        """Build a record from plain data."""
        samples = tuple(AskedSample(**one) for one in plain["samples"])
        return cls(**{**plain, "samples": samples})


def records_of(root: Root) -> list[AskRecord]:
    """Return what was drawn so far below the root of a run."""
    folder = root.child(ASKED_FOLDER)
    names = [one for one in folder.names() if posixpath.basename(one) == RECORD_NAME]
    return [AskRecord.from_dict(json.loads(folder.read(name))) for name in names]


def answered_records(records: Sequence[AskRecord], source: Source) -> list[AskRecord]:
    """Return the draws whose labels came back, and are in a source."""
    answers = source.answers if isinstance(source, MoreProbe) else {}
    return [one for one in records if all(each.sample_id in answers for each in one.samples)]


def table_of(samples: Sequence[AskedSample]) -> str:
    """Return the table that people fill in."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in samples:
        span = ["" if end is None else f"{end:g}" for end in (one.start_s, one.end_s)]
        writer.writerow([one.id, one.key, *span, one.group, ""])
    return text.getvalue()


def forget_asked(root: Root, sample_ids: Collection[int]) -> bool:
    """Take samples out of all that was asked for: their names, and the pages that show them.

    Their place in a draw stays, so that the others keep their chances.

    Args:
        root: Root of the run.
        sample_ids: The samples.

    Returns:
        Whether there was any.
    """
    of_any = False
    for record in records_of(root):
        gone = {one.id for one in record.samples if one.sample_id in sample_ids}
        if not gone:
            continue
        of_any, folder = True, root.child(ASKED_FOLDER, record.name)
        for name in (PAGE_NAME, PICTURE_NAME):
            folder.delete(name)
        samples = tuple(
            replace(one, key="", group="") if one.id in gone else one for one in record.samples
        )
        replace(record, samples=samples).write(root)
        if folder.exists(TABLE_NAME):
            _forget_in_table(folder, gone)
    return of_any


def _forget_in_table(folder: Root, gone: Collection[str]) -> None:
    """Take samples out of the table of a draw, or the table away where it is none."""
    table = _without(folder.read(TABLE_NAME), gone)
    if table is not None:
        folder.write(TABLE_NAME, table)
        return
    folder.delete(TABLE_NAME)
    logger.warning(
        "%s/%s was no table of rows, so nobody can tell whether it shows what is forgotten; it was "
        "deleted",
        folder.uri,
        TABLE_NAME,
    )


def _without(table: bytes, gone: Collection[str]) -> bytes | None:
    """Return a table whose rows of some samples have nothing but their id and label.

    It is read as whatever a spreadsheet saves, since it has to be forgotten from that too.

    Returns:
        The table; None where it is no text of rows.
    """
    try:
        text, encoding = table.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        text, encoding = table.decode("latin-1"), "latin-1"  # every byte stays what it is
    if "\0" in text:
        return None
    delimiter = _delimiter_of(text)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error:
        return None
    kept = {rows[0].index(name) for name in ("id", "label") if name in rows[0]} if rows else set()
    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter, lineterminator="\n")
    for row in rows:
        is_gone = any(cell.strip() in gone for cell in row)
        writer.writerow(
            [cell if place in kept else "" for place, cell in enumerate(row)] if is_gone else row
        )
    mark = codecs.BOM_UTF8 if table.startswith(codecs.BOM_UTF8) else b""
    return mark + written.getvalue().encode(encoding)


def _delimiter_of(text: str) -> str:
    """Return what the cells of a table are separated by, from its first row."""
    return max(",;\t", key=text.partition("\n")[0].count)


def read_answers(
    tables: Sequence[str], records: Sequence[AskRecord], space: LabelSpace
) -> dict[int, tuple[int, ...] | None]:
    """Return the classes of the samples that were labelled; None where nobody knew them.

    Args:
        tables: Filled-in tables, local paths or URIs.
        records: What was asked for.
        space: The classes.

    Raises:
        ConfigError: A table or a row of it is not what was asked for; the error names both.
    """
    asked = {one.id: one for record in records for one in record.samples}
    answers: dict[str, tuple[int, ...] | None] = {}
    for table in tables:
        for number, row in _rows_of(table):
            where = f"probe.more={table}, row {number}"
            name = (row["id"] or "").strip()
            if name not in asked:
                raise ConfigError(
                    f"{where}: id {name!r} was never asked for in this root; keep the column id as "
                    "jobs/ask.py wrote it, and use the root that it was written for"
                )
            if name in answers:
                raise ConfigError(f"{where}: id {name} occurs twice; keep one of the rows")
            is_forgotten = not asked[name].key
            label = (row["label"] or "").strip() or (NOBODY_KNOWS if is_forgotten else "")
            answers[name] = _answer(label, space, where)
    _check_whole(answers, records)
    _check_once([asked[name] for name in answers])
    return {asked[name].sample_id: one for name, one in answers.items()}


def _rows_of(table: str) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Yield the number and the cells of every row, as a spreadsheet counts them."""
    folder, name = posixpath.split(table)
    try:
        content = open_root(folder or ".", key="probe.more").read(name)
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"probe.more={table}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"probe.more={table}: {error}; save it as CSV in UTF-8") from None
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=_delimiter_of(text))
    missing = {"id", "label"} - set(rows.fieldnames or ())
    if missing:
        raise ConfigError(
            f"probe.more={table} has no column {', '.join(sorted(missing))}; its columns are "
            f"{list(rows.fieldnames or ())}, and jobs/ask.py wrote {list(COLUMNS)}"
        )
    try:
        for row in rows:
            if any((cell or "") for cell in row.values() if not isinstance(cell, list)):
                yield rows.line_num, row
    except csv.Error as error:
        raise ConfigError(f"probe.more={table}, row {rows.line_num}: {error}") from None


def _answer(said: str, space: LabelSpace, where: str) -> tuple[int, ...] | None:
    """Return the classes that a cell names, None where nobody knows."""
    if not said:
        raise ConfigError(
            f"{where}: the label is empty; fill it in, or write {NOBODY_KNOWS} where nobody can "
            "tell. A row that is left out at will would spoil the draw"
        )
    return None if said == NOBODY_KNOWS else parse_labels(said, space, where=where)


def _check_once(samples: Sequence[AskedSample]) -> None:
    """Refuse draws that have a sample in common.

    Raises:
        ConfigError: Two have.
    """
    names: dict[int, str] = {}
    for one in samples:
        before = names.setdefault(one.sample_id, one.id)
        if before != one.id:
            raise ConfigError(
                f"probe.more has one sample twice, as {before} and {one.id}: two draws asked for "
                "it; give the table of one of the two"
            )


def _check_whole(
    answers: Mapping[str, tuple[int, ...] | None], records: Sequence[AskRecord]
) -> None:
    """Refuse a draw of which a part was chosen by whoever labelled.

    Raises:
        ConfigError: Rows are missing, or too many are answered by nothing.
    """
    for record in records:
        given = [one.id in answers for one in record.samples]
        if any(given) and not all(given):
            raise ConfigError(
                f"probe.more has {sum(given)} of the {len(given)} samples of {record.name}; give "
                f"the whole table, with {NOBODY_KNOWS} where nobody can tell"
            )
        if not all(given):
            continue
        asked = [one for one in record.samples if one.key]  # what is forgotten was nobody's choice
        known = Counter(one.stratum for one in asked if answers[one.id] is not None)
        drawn = Counter(one.stratum for one in asked)
        for stratum, number in drawn.items() if record.purpose == "settle" else ():
            if known[stratum] < max(_LEAST_ANSWERED * number, min(number, _LEAST_OF_STRATUM)):
                raise ConfigError(
                    f"probe.more: of {record.name}, {number - known[stratum]} of {number} samples "
                    f"are {NOBODY_KNOWS}; at most one in ten may be, or those that were labelled "
                    "are not by chance. Ask for others with another ask.seed"
                )


@dataclass(frozen=True)
class MoreProbe:
    """A source some of whose unlabeled samples have labels by now, and are in the probe.

    Args:
        source: The source.
        answers: Classes by sample; None where nobody knew them, which leaves the sample out of the
            training of those that stay unlabeled, and out of every comparison.
    """

    source: Source
    answers: Mapping[int, tuple[int, ...] | None] = field(repr=False)

    def __getattr__(self, name: str) -> Any:
        """Return what else the source has, for ``Placed``, ``Previewed`` and ``Noted``."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.source, name)

    @property
    def label_space(self) -> LabelSpace:
        """The classes of the labels."""
        return self.source.label_space

    def identity(self) -> dict[str, Any]:
        """Return that of the source."""
        return self.source.identity()

    def prepare(self, progress: Progress | None = None) -> None:
        """Prepare the source."""
        self.source.prepare(progress)

    def reader(self, spec: DecodeSpec) -> Reader:
        """Return that of the source."""
        return self.source.reader(spec)

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield the rows of the source, those with an answer in the probe.

        Raises:
            ConfigError: The source has one of them in another split than the unlabeled one.
        """
        for row in self.source.rows(after):
            one = sample_id(row.key, row.start_s, row.end_s)
            if one not in self.answers:
                yield row
                continue
            if row.split != Split.UNLABELED:
                raise ConfigError(
                    f"probe.more has {row.key}, which the source has in {row.split!r} by now; take "
                    "it out of one of them"
                )
            yield replace(row, split=Split.PROBE.value, labels=self.answers[one])
