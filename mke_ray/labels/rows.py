"""One sample of a unit, read and encoded for the store, or the reason why it cannot be."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from mke_ray.data.codec import encode_modality
from mke_ray.data.signatures import signature
from mke_ray.data.sources import Reader
from mke_ray.errors import MISSING_FILE, MediaError
from mke_ray.schema import MASK, DecodeSpec, ManifestRow, Status, without_mask
from mke_ray.storage import TRAFFIC

GONE = "gone"

_NO_REASON = "missing"


@dataclass(slots=True)
class StoredRow:
    """One decoded sample, encoded for the store.

    Args:
        status: What became of it.
        error: Why it is not whole, for a person.
        pieces: Per modality that is there, its encoded pieces.
        missing: Per modality that is not there, the reason.
        num_bytes_read: Bytes fetched from the source.
        duration_s: Seconds of media that the sample is long.
        signatures: Per modality that is there, what its copies are found by.
        decoder: Library and version that decoded it.
        num_bytes_needed: Bytes of what was fetched that hold the sample.
        fetch_s: Seconds spent waiting for the files of the source.
        spent_s: Seconds spent on the sample, fetching, decoding and encoding together.
    """

    status: Status
    error: str | None
    pieces: dict[str, list[bytes]]
    missing: dict[str, str]
    num_bytes_read: int = 0
    duration_s: float = 0.0
    signatures: dict[str, bytes] = field(default_factory=dict)
    decoder: str = ""
    num_bytes_needed: int = 0
    fetch_s: float = field(default=0.0, compare=False)
    spent_s: float = field(default=0.0, compare=False)


def decode_row(reader: Reader, row: ManifestRow, spec: DecodeSpec) -> StoredRow:
    """Decode and encode one sample, and say what that took."""
    start_s, reading_s = time.perf_counter(), TRAFFIC.reading_s
    stored = _decoded(reader, row, spec)
    stored.fetch_s = TRAFFIC.reading_s - reading_s
    stored.spent_s = time.perf_counter() - start_s
    return stored


def _decoded(reader: Reader, row: ManifestRow, spec: DecodeSpec) -> StoredRow:
    """Decode and encode one sample; the one place where a broken sample becomes a status."""
    if row.mark:
        return unreadable(Status.BAD, GONE, f"{GONE}: {row.mark}", spec)
    try:
        decoded = reader.read(row)
    except MediaError as error:
        return unreadable(Status.BAD, error.reason, str(error), spec)
    except FileNotFoundError as error:
        return unreadable(Status.BAD, MISSING_FILE, f"{MISSING_FILE}: {error}", spec)
    except OSError as error:
        return unreadable(Status.RETRY, "io", f"io: {type(error).__name__}: {error}", spec)
    missing = {m: decoded.missing.get(m, _NO_REASON) for m in spec if m not in decoded.arrays}
    status = _status_of(missing, spec)
    return StoredRow(
        status,
        ", ".join(dict.fromkeys(missing[m] for m in missing if m != MASK)) or None,
        {m: encode_modality(decoded.arrays[m], spec[m]) for m in spec if m not in missing},
        missing,
        decoded.num_bytes_read,
        _length_s(row, decoded.duration_s),
        {m: signature(decoded.arrays[m], spec[m]) for m in spec if m not in missing},
        decoded.decoder,
        decoded.num_bytes_needed,
    )


def fetch_share(rows: Iterable[StoredRow]) -> float:
    """Return the share of the time spent on some samples in which their files were fetched."""
    fetch_s, spent_s = 0.0, 0.0
    for row in rows:
        fetch_s, spent_s = fetch_s + row.fetch_s, spent_s + row.spent_s
    return fetch_s / spent_s if spent_s > 0 else 0.0


def _length_s(row: ManifestRow, duration_s: float) -> float:
    """Return how long a sample is: of a span, its part of the file."""
    end_s = duration_s if row.end_s is None else min(row.end_s, duration_s)
    return max(end_s - (row.start_s or 0.0), 0.0)


def unreadable(status: Status, reason: str, error: str, spec: DecodeSpec) -> StoredRow:
    """Return the row of a sample of which nothing could be read."""
    return StoredRow(status, error, {}, dict.fromkeys(spec, reason))


def _status_of(missing: dict[str, str], spec: DecodeSpec) -> Status:
    """Return the status of a sample that could be decoded, by what it lacks of its modalities."""
    lacking = without_mask(missing)
    if not lacking:
        return Status.OK
    return Status.BAD if len(lacking) == len(without_mask(spec)) else Status.PARTIAL
