"""AV-MNIST as it is handed on ready-made: six arrays of pictures, spectrograms and digits."""

# N rows, X pixels of a picture or values of a spectrogram.

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mke_ray.data.av_mnist_pairing import CLASSES
from mke_ray.data.cpu_slots import waiting
from mke_ray.data.lookup import place_of_files, version_of_files
from mke_ray.data.npy_rows import NpyRows
from mke_ray.data.pictures import PILLOW, resized_picture
from mke_ray.data.places import places_of
from mke_ray.data.reachable import check_file, check_given, check_root
from mke_ray.data.sources import Decoded, Progress, SourceRow
from mke_ray.data.train_shares import TrainShares, labelled_share
from mke_ray.errors import ConfigError
from mke_ray.schema import DecodeSpec, FeatureSpec, ImageSpec, LabelSpace, ManifestRow, Split
from mke_ray.storage import Root

SIDES = {"image": 28, "audio": 112}

_TRAIN, _TEST = "train", "test"
_ROWS_AT_ONCE = 4096
_ROWS_LOOKED_AT, _MIN_POSITIVE = 64, 0.01
_BLACK = 3  # of 255; what is scaled to 1 and has noise reaches a little beyond
_MOST_CUT = 0.25  # of their spread; pictures without most of their principal components have 0.1
_ABOUT = (
    "AV-MNIST as arrays: image/train_data.npy [60000, 784], audio/train_data.npy "
    "[60000, 112, 112], train_labels.npy [60000], and the same of test. The data are not part of "
    "this project; get them from those who publish them"
)


@dataclass(frozen=True, slots=True)
class AvMnistArraysSource:
    """Pictures of handwritten digits, each with the spectrogram of a spoken one.

    The arrays of test are the test split. Of those of train the last ``num_probe`` rows, which are
    published as the ones for validation, are the probe; ``data_seed`` draws the share of the others
    that is labelled, the rest is unlabeled. Nothing says who spoke: a row is a group of its own.

    Args:
        root: Local folder or URI.
        labelled: Share of the training rows that is labelled.
        num_probe: Rows at the end of train that are the probe.
        data_seed: Seed of the draw.
        endpoint_url: Address of a store other than the provider's own.
        region: Region of the bucket.
        anonymous: Reach the bucket without credentials.
        storage_options: Further options of the file system; never stored.

    Source:
        Vielzeuf, Lechervy, Pateux, Jurie, CentralNet: a Multilayer Approach for Multimodal Fusion,
        ECCV 2018 workshops (the data); Liang et al., MultiBench, NeurIPS 2021 datasets and
        benchmarks (the arrays and the rows for validation).
    """

    root: str | None
    labelled: float = 0.01
    num_probe: int = 5000
    data_seed: int = 0
    endpoint_url: str | None = None
    region: str | None = None
    anonymous: bool = False
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check the root and the numbers."""
        check_given(self.root, f"hold {_ABOUT}")
        num: Any = self.num_probe
        if not isinstance(num, int) or isinstance(num, bool) or num < 0:
            raise ConfigError(
                f"source.num_probe={num}; give a number of rows, a whole one from 0, as 5000"
            )
        _ = self._shares

    @property
    def label_space(self) -> LabelSpace:
        """The ten digits."""
        return LabelSpace(CLASSES)

    def identity(self) -> dict[str, Any]:
        """Return what may not change under one root."""
        drawn = [self.labelled, self.num_probe, self.data_seed]
        return {"source": "av_mnist_arrays", "drawn": drawn}

    def place(self) -> str:
        """Return the URI of the root, and the six files with their versions."""
        return place_of_files(self._location, _FILES)

    def prepare(self, progress: Progress | None = None) -> None:
        """Check that the root and its six files are there.

        Raises:
            ConfigError: One is not, or has another shape than it should.
        """
        root = self._location
        check_root(root, given=self.root, holds=f"files of {_ABOUT}")
        for part in (_TRAIN, _TEST):
            for name in _files(part):
                check_file(root, name, key="array", given=self.root, has_to=f"hold {_ABOUT}")
            self._check_shapes(part)

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield the rows of train, then those of test.

        Args:
            after: Cursor of the row to go on behind.

        Raises:
            ConfigError: A file is not what it should be, or a label is no digit.
        """
        self.prepare()
        begin = int(after or 0)
        version = version_of_files(self._location, _FILES)
        num_train = NpyRows(self._location, f"{_TRAIN}_labels.npy").shape[0]
        if self.num_probe >= num_train:
            raise ConfigError(
                f"source.num_probe={self.num_probe}, but {_TRAIN}_labels.npy has {num_train} rows, "
                "and some have to be labelled or unlabeled; set it to fewer, or take whole arrays"
            )
        for part, first in ((_TRAIN, 0), (_TEST, num_train)):
            for number, digit in self._labels(part, max(begin - first, 0)):
                yield SourceRow(
                    key=f"{part}#{number:05d}",
                    size=-1,
                    etag=version,
                    start_s=None,
                    end_s=None,
                    group=f"{part}-{number:05d}",
                    split=self._split(part, number, num_train).value,
                    labels=(digit,),
                    cursor=str(first + number + 1),
                )

    def reader(self, spec: DecodeSpec) -> "AvMnistArraysReader":
        """Return a reader of single rows.

        Raises:
            ConfigError: The specification asks for what there is not, or for pictures of values
                that are no greys.
        """
        for name, one in spec.items():
            num = SIDES.get(name, 0) ** 2
            is_known = isinstance(one, ImageSpec) or (
                isinstance(one, FeatureSpec) and one.num_features == num
            )
            if not (num and is_known):
                raise ConfigError(
                    f"decode.{name}.kind={one.kind}: there are {list(SIDES)}, each of kind image, "
                    f"or features with num_features={num or [s**2 for s in SIDES.values()]}"
                )
            if isinstance(one, ImageSpec):
                _refuse_no_greys(NpyRows(self._location, _file(name, _TRAIN)))
        return AvMnistArraysReader(self._location, spec)

    @property
    def _location(self) -> Root:
        return places_of(self, self.root or "").root

    @property
    def _shares(self) -> TrainShares:
        return labelled_share(self.labelled, self.data_seed)

    def _split(self, part: str, number: int, num_train: int) -> Split:
        if part == _TEST:
            return Split.TEST
        is_probe = number >= num_train - self.num_probe
        return Split.PROBE if is_probe else self._shares.split_of(f"{number:05d}")

    def _check_shapes(self, part: str) -> None:
        """Refuse arrays that are not rows of pictures and spectrograms, as many as labels."""
        labels = NpyRows(self._location, f"{part}_labels.npy").shape
        if math.prod(labels[1:]) != 1:
            raise ConfigError(
                f"{part}_labels.npy in source.root={self.root} is {list(labels)}, and has to be "
                f"[{labels[0]}]: a digit for each row; of labels in columns take argmax(axis=1)"
            )
        for name, side in SIDES.items():
            found = NpyRows(self._location, _file(name, part)).shape
            if found[:1] != labels[:1] or math.prod(found[1:]) != side**2:
                raise ConfigError(
                    f"{_file(name, part)} in source.root={self.root} is {list(found)}, and has to "
                    f"be [{labels[0]}, {side}, {side}] or [{labels[0]}, {side**2}], a row for each "
                    f"of {part}_labels.npy"
                )

    def _labels(self, part: str, begin: int) -> Iterator[tuple[int, int]]:
        """Yield number and digit of the rows of an array from one on."""
        array = NpyRows(self._location, f"{part}_labels.npy")
        for first in range(begin, array.shape[0], _ROWS_AT_ONCE):
            some_N = array.rows(first, min(first + _ROWS_AT_ONCE, array.shape[0])).reshape(-1)
            for number, value in enumerate(some_N.tolist(), start=first):
                if value not in range(len(CLASSES)):
                    raise ConfigError(f"row {number} of {part}_labels.npy is {value}, no digit")
                yield number, int(value)


@dataclass(frozen=True)
class AvMnistArraysReader:
    """Reads single rows of the arrays, a request each.

    Args:
        root: Root of the source.
        spec: What to decode.
    """

    root: Root
    spec: DecodeSpec
    fetches_apart: bool = True
    _arrays: dict[str, NpyRows] = field(default_factory=dict, repr=False, compare=False)

    def read(self, row: ManifestRow) -> Decoded:
        """Return the arrays of one row.

        Raises:
            MediaError: A file ends before it.
            OSError: The store did not answer.
        """
        part, number = row.key.split("#")
        decoded = Decoded({}, {}, decoder=PILLOW)
        for name, one in self.spec.items():
            file = _file(name, part)
            array = self._arrays.setdefault(file, NpyRows(self.root, file))
            with waiting():
                values_X = array.rows(int(number), int(number) + 1).reshape(-1)
            decoded.num_bytes_read += values_X.nbytes
            if np.isfinite(values_X).all():
                decoded.arrays[name] = _decoded(values_X, SIDES[name], one)
            else:
                decoded.missing[name] = "damaged"
        decoded.num_bytes_needed = decoded.num_bytes_read
        return decoded


def _decoded(values_X: np.ndarray, side: int, spec: Any) -> np.ndarray:
    """Return values as they are, or as a grey picture: rounded, and no less than 0 nor over 255."""
    if isinstance(spec, FeatureSpec):
        return values_X.astype(np.float32)
    grey_HW = np.rint(values_X.astype(np.float64)).clip(0, 255).astype(np.uint8).reshape(side, side)
    return resized_picture(np.repeat(grey_HW[:, :, None], 3, axis=2), spec)


def _refuse_no_greys(array: NpyRows) -> None:
    """Refuse values that are no greys from 0 to 255: as pictures they would be black or cut.

    Raises:
        ConfigError: The first rows are of another range.
    """
    some_NX = array.rows(0, min(_ROWS_LOOKED_AT, array.shape[0]))
    some = some_NX[np.isfinite(some_NX)].astype(np.float64)
    if not some.size or _are_greys(some, is_whole=array.is_whole):
        return
    name, num = array.name.partition("/")[0], math.prod(array.shape[1:])
    raise ConfigError(
        f"{array.name} in {array.root.uri} has values from {some.min():.3g} to {some.max():.3g}; "
        f"as pictures (decode.{name}.kind=image) they have to be greys from 0 to 255: scale them, "
        f"or read them as they are: ~decode.{name} "
        f"'+decode.{name}={{kind: features, num_features: {num}}}' ~student.encoders.{name} "
        f"'+student.encoders.{name}={{type: features, num_inputs: {num}, hidden: [64]}}'"
    )


def _are_greys(some: np.ndarray, *, is_whole: bool) -> bool:
    """Tell whether values run from 0 to 255, but for noise beyond the ends.

    Args:
        some: Finite values.
        is_whole: Whether they are whole numbers, which may be few and dark.
    """
    if np.abs(some - some.clip(0, 255)).mean() > _MOST_CUT * some.std():
        return False
    return is_whole or bool(some.max() > _BLACK and (some > 0).mean() > _MIN_POSITIVE)


def _file(name: str, part: str) -> str:
    return f"{name}/{part}_data.npy"


def _files(part: str) -> list[str]:
    return [f"{part}_labels.npy", *(_file(one, part) for one in SIDES)]


_FILES = (*_files(_TRAIN), *_files(_TEST))
