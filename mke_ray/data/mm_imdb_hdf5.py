"""MM-IMDB as one HDF5 file: posters, features of plots and posters, and genres of every film."""

# G genres.

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mke_ray.data.hdf5 import Hdf5File
from mke_ray.data.lookup import place_of
from mke_ray.data.mm_imdb import GENRES
from mke_ray.data.pictures import PILLOW, resized_picture
from mke_ray.data.places import places_of
from mke_ray.data.reachable import check_file, check_given, check_root
from mke_ray.data.sources import Decoded, Progress, SourceRow
from mke_ray.data.train_shares import TrainShares, labelled_share
from mke_ray.errors import ConfigError
from mke_ray.schema import (
    DecodeSpec,
    FeatureSpec,
    ImageSpec,
    LabelKind,
    LabelSpace,
    ManifestRow,
    Split,
)
from mke_ray.storage import Root

_ROWS_AT_ONCE = 4096
_ARRAYS = {("plot", "features"): "features", ("poster", "image"): "images"}
_ARRAYS |= {("poster", "features"): "vgg_features"}
_ABOUT = (
    "multimodal_imdb.hdf5 with the arrays images [N, 3, H, W], features [N, 300] of the plots, "
    "vgg_features [N, 4096] of the posters and genres [N, 23]. The data are not part of this "
    "project; get them from their authors"
)


@dataclass(frozen=True, slots=True)
class MmImdbHdf5Source:
    """The films of MM-IMDB from the file that its authors publish beside the raw ones.

    Films stand in the order train, dev, test; what they become is as with ``MmImdbSource``. The
    plot is what the file has of it, a mean of word vectors. The poster is its picture, or with
    ``decode.poster.kind=features`` the features that the file has of it.

    Args:
        root: Local folder or URI that holds the file.
        labelled: Share of the training films that is labelled.
        data_seed: Seed of the draw.
        file: Name of the file.
        parts: Films for training, of dev and for the test.
        classes: Names of the columns of ``genres``, which the file does not have.
        endpoint_url: Address of a store other than the provider's own.
        region: Region of the bucket.
        anonymous: Reach the bucket without credentials.
        storage_options: Further options of the file system; never stored.

    Source:
        Arevalo, Solorio, Montes-y-Gomez, Gonzalez, Gated Multimodal Units for Information Fusion,
        ICLR 2017 workshop.
    """

    root: str | None
    labelled: float = 0.2
    data_seed: int = 0
    file: str = "multimodal_imdb.hdf5"
    parts: Sequence[int] = (15_552, 2_608, 7_799)
    classes: Sequence[str] = GENRES
    endpoint_url: str | None = None
    region: str | None = None
    anonymous: bool = False
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check the root and the numbers."""
        check_given(self.root, f"hold {_ABOUT}")
        if len(self.parts) != 3 or min(self.parts) < 0:
            raise ConfigError(
                f"source.parts={list(self.parts)}; give the films for training, of dev and for the "
                "test"
            )
        _ = self._shares

    @property
    def label_space(self) -> LabelSpace:
        """The genres."""
        return LabelSpace(tuple(self.classes), LabelKind.MULTI)

    def identity(self) -> dict[str, Any]:
        """Return what may not change under one root."""
        return {
            "source": "mm_imdb_hdf5",
            "file": self.file,
            "label_space": self.label_space.to_dict(),
            "drawn": [self.labelled, self.data_seed, list(self.parts)],
        }

    def place(self) -> str:
        """Return the URI of the file and its version."""
        return place_of(self._location, (self._location, self.file))

    def prepare(self, progress: Progress | None = None) -> None:
        """Check that the file is there.

        Raises:
            ConfigError: It is not.
        """
        check_root(self._location, given=self.root, holds="file of MM-IMDB")
        where = {"key": "source.file", "given": self.root}
        check_file(self._location, self.file, **where, has_to=f"hold {_ABOUT}")

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield the films in the order of the file.

        Args:
            after: Cursor of the row to go on behind.

        Raises:
            ConfigError: The file has another number of films or genres than is said.
        """
        self.prepare()
        version = self.place().rsplit(" ", 1)[-1]
        genres = Hdf5File(self._location, self.file).dataset("genres")
        wanted = (sum(self.parts), len(self.classes))
        if genres.shape != wanted:
            raise ConfigError(
                f"{self.file}: genres is {list(genres.shape)}, source.parts={list(self.parts)} and "
                f"source.classes want {list(wanted)}; set them as the file is"
            )
        for begin in range(int(after or 0), len(genres), _ROWS_AT_ONCE):
            some = np.asarray(genres[begin : begin + _ROWS_AT_ONCE])
            for number, genre_G in enumerate(some, start=begin):
                yield SourceRow(
                    key=f"{self.file}#{number:06d}",
                    size=-1,
                    etag=version,
                    start_s=None,
                    end_s=None,
                    group=f"{number:06d}",
                    split=self._split(number).value,
                    labels=tuple(np.flatnonzero(genre_G).tolist()),
                    cursor=str(number + 1),
                )

    def reader(self, spec: DecodeSpec) -> "MmImdbReader":
        """Return a reader of films of the file.

        Raises:
            ConfigError: The specification asks for what the file does not have.
        """
        arrays = {}
        for name, one in spec.items():
            if (name, one.kind) not in _ARRAYS:
                raise ConfigError(
                    f"decode.{name}.kind={one.kind}: the file has {[*_ARRAYS]}, a modality and its "
                    "kind each"
                )
            arrays[name] = _ARRAYS[name, one.kind]
        file = Hdf5File(self._location, self.file)
        for name, one in spec.items():
            found = file.dataset(arrays[name]).shape
            if isinstance(one, FeatureSpec) and found[1:] != (one.num_features,):
                raise ConfigError(
                    f"decode.{name}.num_features={one.num_features}: {arrays[name]} of {self.file} "
                    f"is {list(found)}; set it to {found[-1]}"
                )
        return MmImdbReader(Hdf5File(self._location, self.file), spec, arrays)

    @property
    def _location(self) -> Root:
        return places_of(self, self.root or "").root

    @property
    def _shares(self) -> TrainShares:
        return labelled_share(self.labelled, self.data_seed)

    def _split(self, number: int) -> Split:
        """Return the split of a film by its place in the file."""
        if number < self.parts[0]:
            return self._shares.split_of(f"{number:06d}")
        return Split.PROBE if number < self.parts[0] + self.parts[1] else Split.TEST


@dataclass(slots=True)
class MmImdbReader:
    """Reads single films of the file.

    Args:
        file: The file.
        spec: What to decode.
        arrays: Name of the array of each modality.
    """

    file: Hdf5File
    spec: DecodeSpec
    arrays: Mapping[str, str]

    def read(self, row: ManifestRow) -> Decoded:
        """Return the arrays of one film.

        Raises:
            MediaError: The file is damaged where the film lies.
            OSError: The store did not answer.
        """
        number, decoded = int(row.key.rsplit("#", 1)[1]), Decoded({}, {}, decoder=PILLOW)
        for name, one in self.spec.items():
            with self.file.reading(row.key):
                stored = np.asarray(self.file.dataset(self.arrays[name])[number])
            decoded.num_bytes_read += stored.nbytes
            if isinstance(one, ImageSpec):
                pixels_HW3 = np.clip(stored, 0, 255).astype(np.uint8).transpose(1, 2, 0)
                decoded.arrays[name] = resized_picture(pixels_HW3, one)
            else:
                decoded.arrays[name] = stored.astype(np.float32)
        decoded.num_bytes_needed = decoded.num_bytes_read
        return decoded
