"""Whether a table of a unit holds the samples of the manifest, row by row."""

# B samples of a unit.

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from mke_ray.data.manifest import UnitRef
from mke_ray.errors import StoreError
from mke_ray.schema import ManifestRow


def check_rows(table: pa.Table, uri: str, ref: UnitRef, rows: Sequence[ManifestRow]) -> None:
    """Refuse a table of other rows than the manifest's.

    Raises:
        StoreError: It is one.
    """
    found_B = table.column("sample_id").to_numpy()
    if not np.array_equal(found_B, [row.sample_id for row in rows]):
        raise StoreError(
            f"{uri}: unit {ref.unit} holds other samples than the manifest; it was "
            "made from another source, use another root"
        )
