"""VGGSound as its authors ship it: a list of clips with one sound class each, and files by name."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from mke_ray.data.reachable import check_given
from mke_ray.data.segment_files import SegmentFiles, segment_files_of
from mke_ray.data.segments import Segment, SegmentCount, parse_segment_name
from mke_ray.data.sources import Progress, Reader, SourceRow
from mke_ray.data.train_shares import TrainShares
from mke_ray.errors import ConfigError
from mke_ray.schema import DecodeSpec, LabelSpace, Split

_CLIP_MS = 10_000
_TRAIN, _TEST = "train", "test"
_ABOUT = (
    "VGGSound: vggsound.csv with the lines video,second,label,split (or lists with the lines "
    "video_000030.mp4,label, whose name says train or test), and files video_000030.mp4 at any "
    "depth. The data are not part of this project; get them from their authors"
)


@dataclass(frozen=True, slots=True)
class VggSoundSource:
    """Clips of ten seconds, each of one of 309 sound classes that is seen as well as heard.

    The test list is the test split; of the videos of the training list ``data_seed`` draws a share
    that is labelled and one for the probe. A group is a video. Clips whose file is not there, since
    the video is gone, are no samples: they are counted. True labels of the unlabeled split are kept
    for reporting and for supervised arms.

    Args:
        root: Local folder or URI of lists and media.
        tables: The lists below it.
        media: Folder below it with the media, at any depth; "" is the root.
        classes: Class names in logit order; None takes those of the lists, sorted.
        labelled: Share of the training videos that is labelled.
        probe: Share of them that is the probe.
        data_seed: Seed of the draw.
        whole_videos: Whether a file is a whole video, cut at its second; else it is the clip.
        endpoint_url: Address of a store other than the provider's own.
        region: Region of the bucket.
        anonymous: Reach the bucket without credentials.
        storage_options: Further options of the file system; never stored.
        places: Folders outside the root that links of a local disk may lead to.

    Source:
        Chen, Xie, Vedaldi, Zisserman, VGGSound: A Large-Scale Audio-Visual Dataset, ICASSP 2020.
    """

    root: str | None
    tables: Sequence[str] = ("vggsound.csv",)
    media: str = ""
    classes: Sequence[str] | None = None
    labelled: float = 0.1
    probe: float = 0.02
    data_seed: int = 0
    whole_videos: bool = False
    endpoint_url: str | None = None
    region: str | None = None
    anonymous: bool = False
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)
    places: Sequence[str] = ()
    _spaces: dict[str, LabelSpace] = field(default_factory=dict, repr=False, compare=False)
    _counts: list[SegmentCount] = field(default_factory=list, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check what can be checked without the lists."""
        check_given(self.root, f"hold {_ABOUT}")
        if not self.tables or isinstance(self.tables, str):
            raise ConfigError(f"source.tables={self.tables}; give a list of names of lists")
        _ = self._shares

    @property
    def label_space(self) -> LabelSpace:
        """The classes; those of the lists are looked up once per version of them."""
        if self.classes is not None:
            return LabelSpace(tuple(self.classes))
        place = self.place()
        if place not in self._spaces:
            self._check()
            names = sorted({label for _, _, label, _ in self._lines()})
            if len(names) < 2:
                raise ConfigError(
                    f"source.tables={list(self.tables)} in source.root={self.root} have the labels "
                    f"{names}, and two at least are needed; name whole lists, or set source.classes"
                )
            self._spaces[place] = LabelSpace(tuple(names))
        return self._spaces[place]

    def identity(self) -> dict[str, Any]:
        """Return what may not change under one root: lists, classes and the draw."""
        return {
            "source": "vggsound",
            "tables": list(self.tables),
            "label_space": self.label_space.to_dict(),
            "drawn": [self.labelled, self.probe, self.data_seed],
            "whole_videos": self.whole_videos,
        }

    def place(self) -> str:
        """Return the URI of the root, and the lists with their versions."""
        return self._files.place(self.tables)

    def prepare(self, progress: Progress | None = None) -> None:
        """Check that the root and the lists are there.

        Raises:
            ConfigError: One is not.
        """
        self._check()

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield the clips that have a file, by its name.

        Args:
            after: Cursor of the row to go on behind.

        Raises:
            ConfigError: A list is not what it should be, or no clip has a file.
        """
        self._check()
        self._counts.clear()
        return self._files.rows(self._segments(), after=after, on_end=self._counts.append)

    def notes(self) -> list[str]:
        """Say how many clips have no file, and which files are of none."""
        return [said for one in self._counts for said in one.sentences("VGGSound")]

    def reader(self, spec: DecodeSpec) -> Reader:
        """Return a reader of the clips.

        Raises:
            ConfigError: The specification asks for something that is not in a media file.
        """
        return self._files.reader(spec)

    @property
    def _files(self) -> SegmentFiles:
        return segment_files_of(self, _ABOUT)

    @property
    def _shares(self) -> TrainShares:
        return TrainShares(self.labelled, self.probe, self.data_seed)

    def _check(self) -> None:
        self._files.check(_keyed(self.tables))

    def _segments(self) -> Iterator[Segment]:
        """Yield the clips of all lists.

        Raises:
            ConfigError: A label is not a class.
        """
        shares = self._shares
        indices = {name: index for index, name in enumerate(self.label_space.classes)}
        for video, start_ms, label, part in self._lines():
            if label not in indices:
                raise ConfigError(
                    f"source.tables: the label {label!r} of {video} is not in source.classes; add "
                    "it, or set source.classes=null to take the classes of the lists"
                )
            split = Split.TEST if part == _TEST else shares.split_of(video)
            yield Segment(video, start_ms, start_ms + _CLIP_MS, (indices[label],), split.value)

    def _lines(self) -> Iterator[tuple[str, int, str, str]]:
        """Yield video, start in milliseconds, label and part of every line."""
        return chain.from_iterable(self._lines_of(name) for name in self.tables)

    def _lines_of(self, name: str) -> Iterator[tuple[str, int, str, str]]:
        named = _TEST if _TEST in name.rsplit("/", 1)[-1] else _TRAIN
        for number, fields in enumerate(csv.reader(self._files.lines(name)), start=1):
            if not fields or fields[0].startswith("#"):
                continue
            line = _four_fields(fields) if len(fields) == 4 else _two_fields(fields, named)
            if line is None and number > 1:
                raise ConfigError(
                    f"source.tables: line {number} of {name} is {','.join(fields)!r}; it has to be "
                    "video,second,label,train or test, or video_000030.mp4,label"
                )
            if line is not None:
                yield line


def _keyed(tables: Sequence[str]) -> dict[str, str]:
    """Return the lists by their configuration keys."""
    return {f"source.tables[{number}]": name for number, name in enumerate(tables)}


def _four_fields(fields: Sequence[str]) -> tuple[str, int, str, str] | None:
    """Return what a line ``video,second,label,split`` says, None where it is none."""
    video, second, label, part = (one.strip() for one in fields)
    if not second.isdecimal() or part not in (_TRAIN, _TEST) or not label:
        return None
    return video, 1000 * int(second), label, part


def _two_fields(fields: Sequence[str], part: str) -> tuple[str, int, str, str] | None:
    """Return what a line ``video_000030.mp4,label`` says, None where it is none."""
    name = parse_segment_name(fields[0].strip()) if len(fields) == 2 else None
    if name is None or name.start is None or not fields[1].strip():
        return None
    return name.video, round(1000 * float(name.start)), fields[1].strip(), part
