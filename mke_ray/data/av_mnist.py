"""AV-MNIST as spoilt pictures and whole recordings, read from the files of MNIST and FSDD."""

# H height, W width.

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from mke_ray.data.av_mnist_files import SOUNDS, list_recordings, read_pictures
from mke_ray.data.av_mnist_pairing import CLASSES, Counts, Flaws, Pair, pair_up
from mke_ray.data.media import Decoded, decode_clip
from mke_ray.data.sources import Progress, Reader, SourceRow
from mke_ray.errors import MISSING_FILE, ConfigError, MediaError
from mke_ray.schema import AudioSpec, DecodeSpec, ImageSpec, LabelSpace, ManifestRow
from mke_ray.storage import Root, open_root

IMAGE, AUDIO = "image", "audio"

_VERSION = 1


@dataclass(frozen=True, slots=True)
class AvMnistSource:
    """Pairs of a written and a spoken digit of the same class, with spoilt pictures.

    A key says what it is of: ``image-NUMBER/RECORDING.wav``. The group of a sample is its
    recording, which several samples of a split share.

    Args:
        root: Folder or URI that holds ``mnist/`` and ``fsdd/``.
        data_seed: Draws splits, pairs and what spoils the pictures.
        num_labelled: Pairs with a label.
        num_probe: Labelled pairs for choices and the gate.
        num_unlabeled: Pairs without a label.
        num_test: Pairs of the test set.
        noise: Deviation of the noise on pixels, in units of the range from paper to ink.
        occluded: Side of the square that hides a part, as a share of the picture's side.
    """

    root: str
    data_seed: int = 0
    num_labelled: int = 300
    num_probe: int = 200
    num_unlabeled: int = 5700
    num_test: int = 2000
    noise: float = 0.0
    occluded: float = 0.0

    @property
    def label_space(self) -> LabelSpace:
        """The ten digits."""
        return LabelSpace(CLASSES)

    def identity(self) -> dict[str, Any]:
        """Return what determines every sample."""
        return {
            "source": "av_mnist",
            "version": _VERSION,
            "data_seed": self.data_seed,
            "counts": self._counts.by_split(),
            "flaws": asdict(self._flaws),
        }

    def prepare(self, progress: Progress | None = None) -> None:
        """Check that the files are there.

        Raises:
            ConfigError: One of them is not.
        """
        read_pictures(self.root)
        list_recordings(open_root(self.root))

    def pairs(self) -> list[Pair]:
        """Return every pair, split by split."""
        recordings = list_recordings(open_root(self.root))
        pictures = read_pictures(self.root)
        return pair_up(pictures, recordings, self._counts, data_seed=self.data_seed)

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield one row per pair, those behind a cursor where one is given."""
        version = repr([_VERSION, self.data_seed, asdict(self._flaws)])
        for pair in self.pairs()[int(after or 0) :]:
            yield SourceRow(
                key=f"image-{pair.picture:05d}/{pair.wav}",
                size=-1,
                etag=version,
                start_s=None,
                end_s=None,
                group=pair.wav,
                split=pair.split,
                labels=(pair.digit,),
                cursor=str(pair.number + 1),
            )

    def reader(self, spec: DecodeSpec) -> Reader:
        """Return a reader of pictures and recordings.

        Raises:
            ConfigError: The specification asks for something else.
        """
        kinds = {IMAGE: ImageSpec, AUDIO: AudioSpec}
        for name, one in spec.items():
            if name not in kinds or not isinstance(one, kinds[name]):
                raise ConfigError(
                    f"decode.{name}.kind={one.kind}: AV-MNIST has {IMAGE} of kind image and "
                    f"{AUDIO} of kind audio; change decode"
                )
        return AvMnistReader(open_root(self.root), spec, self._flaws, self.data_seed)

    @property
    def _counts(self) -> Counts:
        return Counts(self.num_labelled, self.num_probe, self.num_unlabeled, self.num_test)

    @property
    def _flaws(self) -> Flaws:
        return Flaws(self.noise, self.occluded)


@dataclass(frozen=True, slots=True)
class AvMnistReader:
    """Reads pairs; the pictures are loaded once per process.

    Args:
        root: Folder that holds ``mnist/`` and ``fsdd/``.
        spec: What is stored of each modality.
        flaws: What spoils the pictures.
        data_seed: Draws how.
    """

    root: Root
    spec: DecodeSpec
    flaws: Flaws
    data_seed: int

    def read(self, row: ManifestRow) -> Decoded:
        """Return the arrays of one pair.

        Raises:
            MediaError: The recording is missing or damaged.
        """
        image, wav = row.key.split("/")
        sounds: DecodeSpec = {m: one for m, one in self.spec.items() if m == AUDIO}
        decoded = self._sound(wav, sounds) if sounds else Decoded({}, {})
        spec = self.spec.get(IMAGE)
        if isinstance(spec, ImageSpec):
            number = int(image.removeprefix("image-"))
            decoded.arrays[IMAGE] = self._picture(number, spec)
        return decoded

    def _sound(self, wav: str, spec: DecodeSpec) -> Decoded:
        try:
            content = self.root.read(f"{SOUNDS}/{wav}")
        except FileNotFoundError:
            raise MediaError(MISSING_FILE, f"{SOUNDS}/{wav} is not in {self.root.uri}") from None
        decoded = decode_clip(content, spec)
        decoded.num_bytes_read = len(content)
        return decoded

    def _picture(self, number: int, spec: ImageSpec) -> np.ndarray:
        """Return a spoilt picture in grey, uint8 [H, W, 3]."""
        pixels_HW = read_pictures(self.root.uri).pixels_NHW[number]
        spoilt_HW = self.flaws.spoil(pixels_HW, data_seed=self.data_seed, picture=number)
        if spoilt_HW.shape != (spec.height, spec.width):
            image = Image.fromarray(spoilt_HW).resize((spec.width, spec.height))
            spoilt_HW = np.asarray(image)
        return np.repeat(spoilt_HW[:, :, None], 3, axis=2)
