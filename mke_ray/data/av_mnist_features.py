"""AV-MNIST as rows of features: principal components of pixels and of log-mels, with noise."""

# N samples, R recordings, X pixels or cells of a spectrogram, D features.

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mke_ray.data.av_mnist_files import list_recordings, read_pictures, read_sound
from mke_ray.data.av_mnist_pairing import CLASSES, Counts, Pair, pair_up
from mke_ray.data.av_mnist_sound import RATE_HZ, log_mels
from mke_ray.data.made_files import claim
from mke_ray.data.sources import Progress, Reader, SourceRow
from mke_ray.data.tables import TableSource
from mke_ray.errors import ConfigError
from mke_ray.schema import DecodeSpec, LabelSpace, Split
from mke_ray.storage import Root, open_root

TABLE = "av_mnist.parquet"
SETTINGS = "av_mnist.json"

_VERSION = 1
_NOISE_STREAMS = {"image": 10, "audio": 11}


@dataclass(frozen=True, slots=True)
class AvMnistFeaturesSource:
    """Rows of features of a written and a spoken digit, in modalities ``image`` and ``audio``.

    Components are those of the unlabeled split. Noise is added to them as they are, and then they
    are standardised by the unlabeled split.

    Args:
        root: Folder or URI that holds ``mnist/`` and ``fsdd/``.
        made: Folder or URI that the table is written to.
        data_seed: Draws splits, pairs and noise.
        num_labelled: Rows with a label.
        num_probe: Labelled rows for choices and the gate.
        num_unlabeled: Rows without a label.
        num_test: Rows of the test set.
        num_image: Principal components of the pixels, which lie in [0, 1].
        num_audio: Principal components of the log-mel spectrogram, all of whose cells together
            have deviation 1.
        noise_image: Deviation of the noise on the components of the pixels.
        noise_audio: Deviation of the noise on the components of the log-mel.
        storage_options: Options of the file system of ``made``.
    """

    root: str
    made: str
    data_seed: int = 0
    num_labelled: int = 300
    num_probe: int = 200
    num_unlabeled: int = 5700
    num_test: int = 2000
    num_image: int = 24
    num_audio: int = 64
    noise_image: float = 0.7
    noise_audio: float = 1.0
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def label_space(self) -> LabelSpace:
        """The ten digits."""
        return LabelSpace(CLASSES)

    def identity(self) -> dict[str, Any]:
        """Return what determines every row."""
        settings = {
            name: getattr(self, name)
            for name in ("data_seed", "num_image", "num_audio", "noise_image", "noise_audio")
        }
        counts = self._counts().by_split()
        return {"source": "av_mnist_features", "version": _VERSION, "counts": counts, **settings}

    def prepare(self, progress: Progress | None = None) -> None:
        """Write the table if it is not there.

        Raises:
            ConfigError: A file of the data sets is missing, or ``made`` holds another table.
        """
        made = open_root(self.made, self.storage_options)
        if made.exists(TABLE):
            claim(made, self.identity(), settings=SETTINGS, key="source.made")
            return
        sink = io.BytesIO()
        pq.write_table(self._draw(open_root(self.root)), sink)
        claim(made, self.identity(), settings=SETTINGS, key="source.made")
        made.create(TABLE, sink.getvalue())

    def preview(self, scratch: str) -> "AvMnistFeaturesSource":
        """Return the same set in a scratch folder, for a rehearsal that writes nothing else."""
        keys = {name: getattr(self, name) for name in self.__slots__}
        source = AvMnistFeaturesSource(**{**keys, "made": scratch, "storage_options": None})
        source.prepare()
        return source

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield one row per pair, those behind a cursor where one is given."""
        return self._table.rows(after)

    def reader(self, spec: DecodeSpec) -> Reader:
        """Return what reads the features of a row."""
        return self._table.reader(spec)

    @property
    def _table(self) -> TableSource:
        return TableSource(
            root=self.made,
            table=TABLE,
            modalities={
                "image": _columns("image", self.num_image),
                "audio": _columns("audio", self.num_audio),
            },
            classes=CLASSES,
            columns={"group": "group"},
            storage_options=self.storage_options,
        )

    def _counts(self) -> Counts:
        return Counts(self.num_labelled, self.num_probe, self.num_unlabeled, self.num_test)

    def _draw(self, root: Root) -> pa.Table:
        """Return the table: features of both modalities, the digit, its split and its recording."""
        pictures = read_pictures(root.uri)
        recordings = list_recordings(root)
        pairs = pair_up(pictures, recordings, self._counts(), data_seed=self.data_seed)
        picture_N = np.array([pair.picture for pair in pairs])
        pixels_NX = pictures.pixels_NHW[picture_N].reshape(len(pairs), -1) / np.float32(255.0)
        spectra_NX = _spectra(root, pairs)
        columns: dict[str, Any] = {}
        for name, one_NX, number, noise in (
            ("image", pixels_NX, self.num_image, self.noise_image),
            ("audio", spectra_NX, self.num_audio, self.noise_audio),
        ):
            rng = np.random.default_rng([self.data_seed, _NOISE_STREAMS[name]])
            noise_ND = rng.normal(0.0, noise, (len(pairs), number))
            features_ND = _features(one_NX, pairs, noise_ND, modality=name)
            columns |= zip(_columns(name, number), features_ND.T, strict=True)
        return pa.table(
            {
                **columns,
                "label": pa.array([pair.digit for pair in pairs], pa.int32()),
                "split": [pair.split for pair in pairs],
                "group": [pair.wav for pair in pairs],
            }
        )


def _columns(modality: str, number: int) -> list[str]:
    """Return the names of the columns of a modality."""
    return [f"{modality}_{column:02d}" for column in range(number)]


def _spectra(root: Root, pairs: Sequence[Pair]) -> np.ndarray:
    """Return the log-mel of every pair's recording [N, X], each recording read once.

    Raises:
        ConfigError: A recording has another sample rate than all of them have.
    """
    names = sorted({pair.wav for pair in pairs})
    sounds = []
    for name in names:
        sound_S, rate_hz = read_sound(root, name)
        if rate_hz != RATE_HZ:
            raise ConfigError(
                f"source.root={root.uri}: fsdd/{name} has {rate_hz} Hz, expected {RATE_HZ}; "
                "give the recordings as the data set has them"
            )
        sounds.append(sound_S)
    place = {name: number for number, name in enumerate(names)}
    return log_mels(sounds)[[place[pair.wav] for pair in pairs]]


def _features(
    values_NX: np.ndarray, pairs: Sequence[Pair], noise_ND: np.ndarray, *, modality: str
) -> np.ndarray:
    """Return standardised principal components with noise, float32 [N, D]."""
    is_known_N = np.array([pair.split == Split.UNLABELED for pair in pairs])
    if modality == "audio":
        values_NX = values_NX / values_NX[is_known_N].std()
    number = noise_ND.shape[1]
    components_ND = _components(values_NX, is_known_N, number=number, key=f"source.num_{modality}")
    return _standardised(components_ND + noise_ND, is_known_N).astype(np.float32)


def _components(
    values_NX: np.ndarray, is_known_N: np.ndarray, *, number: int, key: str
) -> np.ndarray:
    """Return the first principal components of the known rows, for all rows [N, D]."""
    known_NX = values_NX[is_known_N].astype(np.float64)
    most = min(known_NX.shape)
    if not 1 <= number <= most:
        raise ConfigError(f"{key}={number}; give a number from 1 to {most}")
    mean_X = known_NX.mean(axis=0)
    centred_NX = known_NX - mean_X
    _, vectors_XX = np.linalg.eigh(centred_NX.T @ centred_NX)
    directions_XD = vectors_XX[:, : -number - 1 : -1]
    signs_D = np.sign(directions_XD[np.abs(directions_XD).argmax(axis=0), np.arange(number)])
    return (values_NX - mean_X) @ (directions_XD * signs_D)


def _standardised(values_NX: np.ndarray, is_known_N: np.ndarray) -> np.ndarray:
    """Return columns with mean 0 and deviation 1 over the known rows; constant ones are 0."""
    known_NX = values_NX[is_known_N]
    deviation_X = known_NX.std(axis=0)
    return (values_NX - known_NX.mean(axis=0)) / np.where(deviation_X > 1e-6, deviation_X, 1.0)
