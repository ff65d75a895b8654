"""The TwoMoon set of the paper, and one of any size: points of a plane, each axis a modality."""

# N points.

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import make_moons
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from mke_ray.data.made_files import claim
from mke_ray.data.sources import Reader, SourceRow
from mke_ray.data.tables import TableSource
from mke_ray.errors import ConfigError
from mke_ray.schema import DecodeSpec, LabelSpace
from mke_ray.storage import open_root

_TWO_MOON_FILE = "two_moon.parquet"
_SETTINGS = "sized_two_moon.json"
_CLASSES = ("upper", "lower")
_PLACES = ("root", "storage_options")

# Mean and variance of the two half circles themselves, without noise.
_MEAN_2 = np.array([0.5, 0.25])
_VARIANCE_2 = np.array([0.75, 0.5 - 4 / np.pi**2 + (2 / np.pi - 0.25) ** 2])


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
        self._table = _table_source(root, storage_options)
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


@dataclass(frozen=True, slots=True)
class SizedTwoMoonSource:
    """TwoMoon with splits of any size, to see what a size is worth.

    The points are standardised by mean and deviation of the distribution, not of the points. So a
    larger split holds the points of a smaller one of the same seed, and the other splits stay as
    they are.

    Args:
        root: Folder or URI in which the table is written.
        data_seed: Seed of the points.
        noise: Standard deviation of the noise on the points.
        num_labelled: Labelled points.
        num_unlabeled: Unlabeled points.
        num_test: Test points.
        storage_options: Options of the file system.

    Raises:
        ConfigError: A size is below 1.
    """

    root: str
    data_seed: int = 0
    noise: float = 0.1
    num_labelled: int = 30
    num_unlabeled: int = 1000
    num_test: int = 2000
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check the sizes."""
        for name in ("num_labelled", "num_unlabeled", "num_test"):
            if (size := getattr(self, name)) < 1:
                raise ConfigError(f"source.{name}={size}; give a number from 1 upwards")

    @property
    def label_space(self) -> LabelSpace:
        """The two half circles."""
        return self._table.label_space

    @property
    def _drawn(self) -> dict[str, Any]:
        """What determines the points."""
        return {one: getattr(self, one) for one in self.__slots__ if one not in _PLACES}

    def identity(self) -> dict[str, Any]:
        """Return what decides whether a manifest of this source can be used again."""
        return {**self._table.identity(), "source": "sized_two_moon", **self._drawn}

    def preview(self, scratch: str) -> "SizedTwoMoonSource":
        """Return the same set in a scratch folder, for a rehearsal that writes nothing else."""
        source = SizedTwoMoonSource(root=scratch, **self._drawn)
        source.prepare()
        return source

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Write the table if it is not there.

        Raises:
            ConfigError: The root holds another draw, or other sizes.
        """
        root = open_root(self.root, self.storage_options)
        drawn = {"source": "sized_two_moon", **self._drawn}
        claim(root, drawn, settings=_SETTINGS, key="source.root")
        sink = io.BytesIO()
        pq.write_table(self._draw(), sink)
        root.create(_TWO_MOON_FILE, sink.getvalue())

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield one row per point, those behind a cursor where one is given."""
        return self._table.rows(after)

    def reader(self, spec: DecodeSpec) -> Reader:
        """Return what reads the coordinates of a point."""
        return self._table.reader(spec)

    @property
    def _table(self) -> TableSource:
        return _table_source(self.root, self.storage_options)

    def _draw(self) -> pa.Table:
        """Return the points with columns x, y (float32), label (int32) and split."""
        sizes = (self.num_labelled, self.num_unlabeled, self.num_test)
        drawn = [
            _moons(size, noise=self.noise, seed=(self.data_seed, stream))
            for stream, size in enumerate(sizes)
        ]
        points_N2 = np.concatenate([points for points, _ in drawn])
        names = ("labelled", "unlabeled", "test")
        return pa.table(
            {
                "x": points_N2[:, 0],
                "y": points_N2[:, 1],
                "label": np.concatenate([label_N for _, label_N in drawn]),
                "split": [one for one, size in zip(names, sizes, strict=True) for _ in range(size)],
            }
        )


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


def _table_source(root: str, storage_options: Mapping[str, Any] | None) -> TableSource:
    """Return what reads the table of either set."""
    return TableSource(
        root=root,
        table=_TWO_MOON_FILE,
        modalities={"a": ["x"], "b": ["y"]},
        classes=list(_CLASSES),
        storage_options=storage_options,
    )


def _moons(num: int, *, noise: float, seed: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return standardised points of both half circles in turn [N, 2] and their classes [N]."""
    angle_N = np.random.default_rng([*seed, 0]).uniform(0.0, np.pi, num)
    noise_N2 = np.random.default_rng([*seed, 1]).normal(0.0, noise, (num, 2))
    label_N = np.arange(num, dtype=np.int32) % 2
    upper_N2 = np.stack([np.cos(angle_N), np.sin(angle_N)], axis=1)
    lower_N2 = np.stack([1.0 - np.cos(angle_N), 0.5 - np.sin(angle_N)], axis=1)
    points_N2 = np.where(label_N[:, None] == 0, upper_N2, lower_N2) + noise_N2
    standard_N2 = (points_N2 - _MEAN_2) / np.sqrt(_VARIANCE_2 + noise**2)
    return standard_N2.astype(np.float32), label_N
