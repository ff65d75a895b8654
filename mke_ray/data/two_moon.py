"""The TwoMoon set of the paper: points of a plane, each axis a modality."""

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import make_moons
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from mke_ray.data.sources import Reader, SourceRow
from mke_ray.data.tables import TableSource
from mke_ray.schema import DecodeSpec
from mke_ray.storage import open_root

_TWO_MOON_FILE = "two_moon.parquet"


class TwoMoonSource:
    """The TwoMoon set of the paper: the horizontal axis is modality ``a``, the vertical ``b``.

    Args:
        root: Folder or URI in which the table is written.
        data_seed: Seed of the points and of both splits; the paper's notebook uses 42.
        num_points: Points drawn.
        noise: Standard deviation of the noise on the points.
        storage_options: Options of the file system.

    Source:
        Xue et al., Multimodal Knowledge Expansion, ICCV 2021, section 4.1 and its notebook.
    """

    def __init__(
        self,
        *,
        root: str,
        data_seed: int = 42,
        num_points: int = 500,
        noise: float = 0.1,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._root = open_root(root, storage_options)
        self._drawn = {"data_seed": data_seed, "num_points": num_points, "noise": noise}
        self._table = TableSource(
            root=root,
            table=_TWO_MOON_FILE,
            modalities={"a": ["x"], "b": ["y"]},
            classes=["upper", "lower"],
            storage_options=storage_options,
        )
        self.label_space = self._table.label_space

    def identity(self) -> dict[str, Any]:
        """Return what decides whether a manifest of this source can be used again."""
        return {**self._table.identity(), "source": "two_moon", **self._drawn}

    def preview(self, scratch: str) -> "TwoMoonSource":
        """Return the same set in a scratch folder, for a rehearsal that writes nothing else."""
        source = TwoMoonSource(root=scratch, **self._drawn)
        source.prepare()
        return source

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Write the table if it is not there."""
        sink = io.BytesIO()
        pq.write_table(two_moon_table(**self._drawn), sink)
        self._root.create(_TWO_MOON_FILE, sink.getvalue())

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield one row per point, those behind a cursor where one is given."""
        return self._table.rows(after)

    def reader(self, spec: DecodeSpec) -> Reader:
        """Return what reads the coordinates of a point."""
        return self._table.reader(spec)


def two_moon_table(*, data_seed: int, num_points: int, noise: float) -> pa.Table:
    """Draw the TwoMoon points and their splits: 40% test, of the rest 10% labelled.

    The points are standardised over the whole set, before the split, as the paper's notebook does.

    Returns:
        Table with columns x, y (float32), label (int32) and split.
    """
    points, label_N = make_moons(n_samples=num_points, noise=noise, random_state=data_seed)
    points_N2 = np.asarray(StandardScaler().fit_transform(points), dtype=np.float32)
    rest, test = train_test_split(np.arange(num_points), test_size=0.4, random_state=data_seed)
    labelled, unlabeled = train_test_split(rest, test_size=0.9, random_state=data_seed)
    split_N = np.empty(num_points, dtype=object)
    for name, chosen in (("labelled", labelled), ("unlabeled", unlabeled), ("test", test)):
        split_N[chosen] = name
    return pa.table(
        {
            "x": points_N2[:, 0],
            "y": points_N2[:, 1],
            "label": np.asarray(label_N, dtype=np.int32),
            "split": pa.array(split_N.tolist(), pa.string()),
        }
    )
