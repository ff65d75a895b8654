"""AV-MNIST as real mp4 files: a written digit that moves a little while a digit is spoken."""

# T frames, H height, W width, P side of the picture, S sound samples.

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from mke_ray.data.av_mnist import AvMnistSource
from mke_ray.data.av_mnist_files import read_pictures, read_sound
from mke_ray.data.av_mnist_pairing import CLASSES, Flaws, Pair
from mke_ray.data.demo_audio import Sound
from mke_ray.data.demo_video import Frames
from mke_ray.data.demo_writer import encode_mp4, write_clips
from mke_ray.data.made_files import FileCounter, claim
from mke_ray.data.sources import Progress, Reader, SourceRow
from mke_ray.data.videos import VideosSource
from mke_ray.errors import ConfigError
from mke_ray.schema import DecodeSpec, LabelSpace
from mke_ray.storage import Root, open_root

TABLE = "clips.csv"
SETTINGS = "av_mnist.json"

_VERSION = 1
_SCALE = 2  # pixels of a frame per pixel of the picture
_SIDE = 64
_RATE_HZ = 5
_SHORTEST_S = 0.6
_PATH_STREAM = 20
_NO_COLOUR = 128


@dataclass(frozen=True, slots=True)
class AvMnistVideosSource:
    """The pairs of ``AvMnistSource`` written as mp4 files (h264 and aac), and then read like any.

    Args:
        root: Folder or URI that holds ``mnist/`` and ``fsdd/``.
        made: Folder or URI that the clips are written to.
        data_seed: Draws splits, pairs, what spoils the pictures and how they move.
        num_labelled: Clips with a label.
        num_probe: Labelled clips for choices and the gate.
        num_unlabeled: Clips without a label.
        num_test: Clips of the test set.
        noise: Deviation of the noise on pixels, in units of the range from paper to ink.
        occluded: Side of the square that hides a part, as a share of the picture's side.
        num_processes: Processes that write, None for one per CPU.
        storage_options: Options of the file system of ``made``.
    """

    root: str
    made: str
    data_seed: int = 0
    num_labelled: int = 300
    num_probe: int = 200
    num_unlabeled: int = 5700
    num_test: int = 2000
    noise: float = 0.0
    occluded: float = 0.0
    num_processes: int | None = None
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def label_space(self) -> LabelSpace:
        """The ten digits."""
        return LabelSpace(CLASSES)

    def identity(self) -> dict[str, Any]:
        """Return what determines every file."""
        return {**self._pairs.identity(), "source": "av_mnist_videos", "videos": _VERSION}

    def prepare(self, progress: Progress | None = None) -> None:
        """Write the files that are not there yet, and then the table.

        Raises:
            ConfigError: A file of the data sets is missing, or ``made`` holds other clips.
        """
        made = open_root(self.made, self.storage_options)
        if made.exists(TABLE):
            claim(made, self.identity(), settings=SETTINGS, key="source.made")
            return
        pairs = self._pairs.pairs()
        claim(made, self.identity(), settings=SETTINGS, key="source.made")
        there = set(made.names("clips"))
        missing = [pair for pair in pairs if clip_name(pair) not in there]
        counter = FileCounter(len(pairs) - len(missing), len(pairs), progress)
        write_clips(
            PairWriter(
                open_root(self.root), made, self.data_seed, Flaws(self.noise, self.occluded)
            ),
            missing,
            num_processes=self.num_processes or os.cpu_count() or 1,
            progress=counter.add,
        )
        made.write(TABLE, _table(pairs))

    def preview(self, scratch: str) -> "AvMnistVideosSource":
        """Return the same set with a few clips in a scratch folder, for a rehearsal."""
        few = {
            one.name: min(getattr(self, one.name), 2)
            for one in fields(self)
            if one.name in ("num_labelled", "num_probe", "num_unlabeled", "num_test")
        }
        source = replace(self, made=scratch, num_processes=1, storage_options=None, **few)
        source.prepare()
        return source

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield the rows of the table, those behind a cursor where one is given."""
        return self._videos.rows(after)

    def reader(self, spec: DecodeSpec) -> Reader:
        """Return a reader of the files."""
        return self._videos.reader(spec)

    @property
    def _pairs(self) -> AvMnistSource:
        names = {one.name for one in fields(AvMnistSource)}
        return AvMnistSource(**{name: getattr(self, name) for name in names})

    @property
    def _videos(self) -> VideosSource:
        options = self.storage_options
        return VideosSource(self.made, CLASSES, table=TABLE, storage_options=options)


@dataclass(frozen=True, slots=True)
class PairWriter:
    """Writes pairs as clips; cheap to send to processes, each of which loads the pictures once.

    Args:
        root: Folder that holds ``mnist/`` and ``fsdd/``.
        made: Where the clips go.
        data_seed: Draws what spoils the pictures and how they move.
        flaws: What spoils the pictures.
    """

    root: Root
    made: Root
    data_seed: int
    flaws: Flaws

    def write(self, pairs: Sequence[Pair]) -> int:
        """Write some clips and return their number."""
        for pair in pairs:
            self.made.write(clip_name(pair), self.render(pair))
        return len(pairs)

    def render(self, pair: Pair) -> bytes:
        """Return the content of one file."""
        sound_S, rate_hz = read_sound(self.root, pair.wav)
        pixels_HW = read_pictures(self.root.uri).pixels_NHW[pair.picture]
        spoilt_HW = self.flaws.spoil(pixels_HW, data_seed=self.data_seed, picture=pair.picture)
        num_frames = round(max(len(sound_S) / rate_hz, _SHORTEST_S) * _RATE_HZ)
        rng = np.random.default_rng([self.data_seed, _PATH_STREAM, pair.picture])
        return encode_mp4(_moving(spoilt_HW, num_frames, rng), Sound(sound_S, rate_hz))


def clip_name(pair: Pair) -> str:
    """Return the name of a pair's clip below the root."""
    return f"clips/clip-{pair.number:06d}.mp4"


def _moving(pixels_HW: np.ndarray, num_frames: int, rng: np.random.Generator) -> Frames:
    """Return a picture that moves by at most two pixels from frame to frame, on black."""
    picture_PP = np.kron(pixels_HW, np.ones((_SCALE, _SCALE), np.uint8))
    rows, columns = picture_PP.shape
    free_2 = np.array([_SIDE - rows, _SIDE - columns])
    if (free_2 < 0).any():
        raise ConfigError(
            f"source.root: a picture of MNIST has {pixels_HW.shape} pixels, at most "
            f"{_SIDE // _SCALE} fit on each side; give MNIST as it is published"
        )
    steps_T2 = rng.integers(-1, 2, (num_frames, 2)) * 2
    path_T2 = np.clip(free_2 // 4 * 2 + np.cumsum(steps_T2, axis=0), 0, free_2)
    luma_THW = np.full((num_frames, _SIDE, _SIDE), 16, np.uint8)
    limited_PP = (16 + picture_PP.astype(np.float32) * (219 / 255)).astype(np.uint8)
    for frame_HW, (row, column) in zip(luma_THW, path_T2, strict=True):
        frame_HW[row : row + rows, column : column + columns] = limited_PP
    colour_THW = np.full((num_frames, _SIDE // 2, _SIDE // 2), _NO_COLOUR, np.uint8)
    return Frames(luma_THW, (colour_THW, colour_THW), _RATE_HZ)


def _table(pairs: Sequence[Pair]) -> bytes:
    """Return the table of all clips."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["uri", "label", "group", "split"])
    for pair in pairs:
        table.writerow([clip_name(pair), CLASSES[pair.digit], pair.wav, pair.split])
    return text.getvalue().encode()
