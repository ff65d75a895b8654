"""Looks for bytes in all files of a run, below their compression too."""

import io
import re

import pyarrow as pa
import pyarrow.parquet as pq

from mke_ray.storage import Root

_FRACTION = re.compile(rb"\d+\.\d+(e-?\d+)?")


def traces(root: Root, needles: list[bytes]) -> set[str]:
    """Return the folders with files that hold one of some bytes."""
    found = set()
    for name in root.names():
        content = root.read(name)
        if name.startswith("progress/"):
            content = _FRACTION.sub(b"", content)  # seconds may hold the digits of a key
        if name.endswith(".parquet"):
            content += _unpacked(content)
        if any(needle in content for needle in needles):
            found.add(name.split("/")[0])
    return found


def _unpacked(content: bytes) -> bytes:
    """Return all that a Parquet file holds; nothing where it is none."""
    try:
        table = pq.read_table(io.BytesIO(content))
    except pa.ArrowInvalid:
        return b""
    chunks = [chunk for column in table.columns for chunk in column.chunks]
    return b"".join(part.to_pybytes() for one in chunks for part in one.buffers() if part)
