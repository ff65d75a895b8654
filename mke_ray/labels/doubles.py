"""Copies of test and probe samples among all others, found by their signatures and marked."""

# N samples, P pairs.

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mke_ray.data.likeness import RULES
from mke_ray.data.manifest import Manifest, Mark
from mke_ray.data.manifest.marks import COPY_OF_PROBE, COPY_OF_TEST, DOUBLE
from mke_ray.labels.double_index import ReferenceIndex
from mke_ray.labels.equals import EqualSamples
from mke_ray.labels.probe import GATE, SELECT, ProbeDivision
from mke_ray.labels.signature_columns import Place, SignatureReader, SignedSamples
from mke_ray.labels.store import UnitStore
from mke_ray.schema import Split, fingerprint
from mke_ray.storage import Root

FOLDER = "doubles"
COPY_OF_LABELLED = "copy_of_labelled"
_KIND_OF: dict[str, str] = {
    Split.TEST: COPY_OF_TEST,
    Split.PROBE: COPY_OF_PROBE,
    Split.LABELLED: COPY_OF_LABELLED,
}
KINDS = (COPY_OF_TEST, COPY_OF_PROBE, COPY_OF_LABELLED, DOUBLE)
TAUGHT_SPLITS = (Split.TEST, Split.PROBE, Split.LABELLED)
ALL_SPLITS = (*TAUGHT_SPLITS, Split.UNLABELED)

WITHIN_UNLABELED = KEEP, MARK = "keep", "mark"

_HALVES = ProbeDivision()
_FACTS = b"mke_ray"
_MAX_LISTED_DOUBLES = 10_000
_PAIRS_SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("is_excluded", pa.bool_(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("sample_id", pa.int64(), nullable=False),
        pa.field("other_split", pa.string(), nullable=False),
        pa.field("other_key", pa.string(), nullable=False),
        pa.field("other_sample_id", pa.int64(), nullable=False),
        pa.field("distance", pa.float32(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class DoublesReport:
    """What was found to occur twice.

    Args:
        counts: Per split, how many rows are of each kind; a row counts once, as the first of
            ``KINDS`` that it is.
        num_excluded: Rows that are marked for it, so that nothing uses them.
        file: Name of the list of pairs below the root of the run.
        pairs: The first rows of that list.
    """

    counts: Mapping[str, Mapping[str, int]]
    num_excluded: int
    file: str
    pairs: Sequence[Mapping[str, Any]] = ()

    @property
    def num_found(self) -> int:
        """Rows that occur twice in some way."""
        return sum(sum(kinds.values()) for kinds in self.counts.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as plain data."""
        return {**self.counts, "excluded": self.num_excluded}


def mark_doubles(
    root: Root,
    samples: UnitStore,
    manifest: Manifest,
    *,
    splits: Sequence[str] = ALL_SPLITS,
    within_unlabeled: str = KEEP,
    division: ProbeDivision = _HALVES,
) -> tuple[Manifest, DoublesReport]:
    """Mark every row that is a copy of a test or probe sample, and list the pairs.

    Test wins over probe, and probe over labelled: the other row is marked. Copies of labelled
    samples in the unlabeled split stay in use. Only signatures are read; those of test, probe and
    labelled samples are held in memory, the unlabeled split streams past them. What was looked
    through already is not looked through again.

    Args:
        root: Root of the run.
        samples: The sample store.
        manifest: Its manifest.
        splits: Splits to look through; units that are not decoded yet are left out.
        within_unlabeled: ``keep`` counts equal samples in the unlabeled split, ``mark`` marks all
            but the first of them.
        division: How the probe is divided; a sample of its select part that is a copy of one in
            its gate part is marked.

    Returns:
        The manifest with the marks, and what was found.
    """
    reader = SignatureReader(samples, manifest)
    splits = [split for split in ALL_SPLITS if split in splits]
    rules = [RULES, within_unlabeled, asdict(division)]
    file = f"{FOLDER}/doubles-{_digest(reader, splits, rules)}.parquet"
    if not root.exists(file):
        with contextlib.ExitStack() as files:
            search = _Search(
                reader, manifest, within_unlabeled=within_unlabeled, division=division, files=files
            )
            search.run(splits)
            manifest = manifest.add_marks(search.findings.marks)
            root.write(file, search.findings.to_bytes())
    return manifest, _read_report(root, file)


def _digest(reader: SignatureReader, splits: Iterable[str], rules: Sequence[Any]) -> str:
    """Return what changes whenever something else could be found."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(fingerprint(rules).encode())
    for split in splits:
        digest.update(f"{split}\n".encode())
        for ref in reader.refs(split):
            digest.update(reader.version(ref))
    return digest.hexdigest()


def _read_report(root: Root, file: str) -> DoublesReport:
    """Read what an earlier search, or this one, found."""
    table = pq.ParquetFile(pa.BufferReader(root.read(file)))
    facts = json.loads(table.schema_arrow.metadata[_FACTS])
    first = next(table.iter_batches(batch_size=50), None)
    pairs = [] if first is None else first.to_pylist()
    return DoublesReport(facts["counts"], facts["excluded"], file, pairs)


class _Search:
    """One search through the splits of a run."""

    def __init__(
        self,
        reader: SignatureReader,
        manifest: Manifest,
        *,
        within_unlabeled: str,
        division: ProbeDivision,
        files: contextlib.ExitStack,
    ) -> None:
        self._reader = reader
        self._division = division
        self._equals = EqualSamples(files)
        self._is_marking_doubles = within_unlabeled == MARK
        self._references: list[tuple[str, SignedSamples, ReferenceIndex]] = []
        self.findings = _Findings(manifest)

    def run(self, splits: Sequence[str]) -> None:
        """Look through the splits, each against those before it."""
        for split in splits:
            if split != Split.UNLABELED:
                some = self._reader.all_of(split)
                is_copy_N = self._find_copies(some, self._references)
                if split == Split.PROBE:
                    self._compare_parts(some.take(np.flatnonzero(~is_copy_N)))
                self._references.append((split, some, ReferenceIndex(some.signatures)))
                continue
            for block in self._reader.blocks_of(split):
                self._equals.add(block, ~self._find_copies(block, self._references))
            self._find_doubles()

    def _compare_parts(self, probe: SignedSamples) -> None:
        """Find the samples of the probe's select part that are copies of some in its gate part."""
        part_of = {
            (ref.unit, number): self._division.part_of(row.group)
            for ref in probe.refs
            for number, row in enumerate(self.findings.manifest.read_unit(ref))
        }
        units, rows = probe.unit_names().astype(str).tolist(), probe.row_N.tolist()
        parts_N = np.array([part_of[place] for place in zip(units, rows, strict=True)], dtype=str)
        select, gate = (probe.take(np.flatnonzero(parts_N == one)) for one in (SELECT, GATE))
        self._find_copies(select, [(Split.PROBE, gate, ReferenceIndex(gate.signatures))])

    def _find_copies(
        self, samples: SignedSamples, known: Iterable[tuple[str, SignedSamples, ReferenceIndex]]
    ) -> np.ndarray:
        """Find the references that samples are copies of; return which are, bool [N]."""
        is_copy_N = np.zeros(len(samples), dtype=bool)
        for split, references, index in known:
            matches = index.find(samples.signatures)
            is_new_P = ~is_copy_N[matches.query_P]
            is_copy_N[matches.query_P] = True
            for query, reference, distance in zip(
                matches.query_P[is_new_P].tolist(),
                matches.reference_P[is_new_P].tolist(),
                matches.distance_P[is_new_P].tolist(),
                strict=True,
            ):
                pair = samples.place(query), references.place(reference)
                kind = _KIND_OF[split]
                self.findings.add(kind, pair, distance, is_excluded=kind != COPY_OF_LABELLED)
        return is_copy_N

    def _find_doubles(self) -> None:
        """Find samples of the unlabeled split that are equal, and keep the first of each."""
        for place, first in self._equals.pairs():
            self.findings.add(DOUBLE, (place, first), is_excluded=self._is_marking_doubles)


@dataclass(slots=True)
class _Findings:
    """The pairs that were found: counted, listed, and the rows to mark.

    Args:
        manifest: Where the keys of rows are.
        marks: The rows to mark.
    """

    manifest: Manifest
    marks: list[Mark] = field(default_factory=list)
    _counts: dict[str, Counter[str]] = field(default_factory=dict)
    _listed: list[tuple[str, bool, Place, Place, float]] = field(default_factory=list)

    def add(
        self, kind: str, pair: tuple[Place, Place], distance: float = 0.0, *, is_excluded: bool
    ) -> None:
        """Add a sample and what it is a copy of."""
        place, other = pair
        counts = self._counts.setdefault(place.split, Counter())
        counts[kind] += 1
        if is_excluded:
            self.marks.append(Mark(place.sample_id, place.unit, place.row, kind))
        if kind != DOUBLE or counts[kind] <= _MAX_LISTED_DOUBLES:
            self._listed.append((kind, is_excluded, place, other, distance))

    def to_bytes(self) -> bytes:
        """Return the list of pairs as a Parquet file that also holds the counts."""
        keys = self._keys()
        rows = [
            {
                "kind": kind,
                "is_excluded": is_excluded,
                "split": place.split,
                "key": keys[place],
                "sample_id": place.sample_id,
                "other_split": other.split,
                "other_key": keys[other],
                "other_sample_id": other.sample_id,
                "distance": distance,
            }
            for kind, is_excluded, place, other, distance in self._listed
        ]
        facts = {"counts": self._counts, "excluded": len(self.marks)}
        schema = _PAIRS_SCHEMA.with_metadata({_FACTS: json.dumps(facts)})
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink, compression="zstd")
        return sink.getvalue().to_pybytes()

    def _keys(self) -> dict[Place, str]:
        """Return the keys of all samples that are listed; each unit is read once."""
        wanted: dict[str, set[Place]] = {}
        for _, _, *places, _ in self._listed:
            for place in places:
                wanted.setdefault(place.unit, set()).add(place)
        splits = {place.split for places in wanted.values() for place in places}
        keys = {}
        for ref in self.manifest.unit_refs(splits):
            if ref.unit in wanted:
                rows = self.manifest.read_unit(ref)
                keys |= {place: rows[place.row].key for place in wanted[ref.unit]}
        return keys
