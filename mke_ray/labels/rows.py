"""One sample of a unit, read and encoded for the store, or the reason why it cannot be."""

from dataclasses import dataclass, field

from mke_ray.data.codec import encode_modality
from mke_ray.data.signatures import signature
from mke_ray.data.sources import Reader
from mke_ray.errors import MISSING_FILE, MediaError
from mke_ray.schema import DecodeSpec, ManifestRow, Status

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
        duration_s: Seconds of media decoded.
        signatures: Per modality that is there, what its copies are found by.
        decoder: Library and version that decoded it.
        num_bytes_needed: Bytes of what was fetched that hold the sample.
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


def decode_row(reader: Reader, row: ManifestRow, spec: DecodeSpec) -> StoredRow:
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
        ", ".join(dict.fromkeys(missing.values())) or None,
        {m: encode_modality(decoded.arrays[m], spec[m]) for m in spec if m not in missing},
        missing,
        decoded.num_bytes_read,
        decoded.duration_s,
        {m: signature(decoded.arrays[m], spec[m]) for m in spec if m not in missing},
        decoded.decoder,
        decoded.num_bytes_needed,
    )


def unreadable(status: Status, reason: str, error: str, spec: DecodeSpec) -> StoredRow:
    """Return the row of a sample of which nothing could be read."""
    return StoredRow(status, error, {}, dict.fromkeys(spec, reason))


def _status_of(missing: dict[str, str], spec: DecodeSpec) -> Status:
    """Return the status of a sample that could be decoded, by what it lacks."""
    if not missing:
        return Status.OK
    return Status.BAD if len(missing) == len(spec) else Status.PARTIAL
