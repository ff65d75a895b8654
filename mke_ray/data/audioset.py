"""AudioSet as its authors ship it: lists of segments with many classes each, and files by name."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mke_ray.data.audioset_lists import below, read_classes, read_segments
from mke_ray.data.reachable import check_given
from mke_ray.data.segment_files import SegmentFiles, segment_files_of
from mke_ray.data.segments import Segment, SegmentCount
from mke_ray.data.sources import Progress, Reader, SourceRow
from mke_ray.data.train_shares import TrainShares
from mke_ray.errors import ConfigError
from mke_ray.schema import DecodeSpec, LabelKind, LabelSpace, Split

BALANCED, UNBALANCED, EVAL = "balanced", "unbalanced", "eval"

_TABLES = {
    BALANCED: "balanced_train_segments.csv",
    UNBALANCED: "unbalanced_train_segments.csv",
    EVAL: "eval_segments.csv",
}
_CLASSES = "class_labels_indices.csv"
_ONTOLOGY = "ontology.json"
_ABOUT = (
    "AudioSet: balanced_train_segments.csv, unbalanced_train_segments.csv, eval_segments.csv, "
    "class_labels_indices.csv (and ontology.json for source.below), and files VIDEO_SECOND.mp4 at "
    "any depth. The lists are at research.google.com/audioset; no data are part of this project"
)


@dataclass(frozen=True, slots=True)
class AudioSetSource:
    """Clips of ten seconds, each of any number of 527 classes of sound.

    Of the videos of the balanced training list ``data_seed`` draws a share that is labelled and one
    for the probe; the rest of it and the unbalanced list are unlabeled, and the evaluation list is
    the test split. A group is a video. Clips whose file is not there, since the video is gone, are
    no samples: they are counted. True labels of the unlabeled split are kept for reporting and for
    supervised arms.

    Args:
        root: Local folder or URI of lists and media.
        tables: Name of the lists ``balanced``, ``unbalanced`` and ``eval`` below it; None leaves
            one out.
        media: Folder below it with the media, at any depth; "" is the root.
        below: Name of a class of the ontology: only classes at or below it count, and clips of
            none of them are left out. None takes all classes.
        labelled: Share of the videos of the balanced list that is labelled.
        probe: Share of them that is the probe.
        data_seed: Seed of the draw.
        whole_videos: Whether a file is a whole video, cut at its seconds; else it is the clip.
        endpoint_url: Address of a store other than the provider's own.
        region: Region of the bucket.
        anonymous: Reach the bucket without credentials.
        storage_options: Further options of the file system; never stored.
        places: Folders outside the root that links of a local disk may lead to.

    Source:
        Gemmeke et al., Audio Set: An Ontology and Human-Labeled Dataset for Audio Events, ICASSP
        2017.
    """

    root: str | None
    tables: Mapping[str, str | None] = field(default_factory=lambda: dict(_TABLES))
    media: str = ""
    below: str | None = None
    labelled: float = 0.8
    probe: float = 0.2
    data_seed: int = 0
    whole_videos: bool = False
    endpoint_url: str | None = None
    region: str | None = None
    anonymous: bool = False
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)
    places: Sequence[str] = ()
    _classes: dict[str, dict[str, str]] = field(default_factory=dict, repr=False, compare=False)
    _counts: list[SegmentCount] = field(default_factory=list, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check what can be checked without the lists."""
        check_given(self.root, f"hold {_ABOUT}")
        if not set(self.tables) <= set(_TABLES):
            raise ConfigError(f"source.tables={dict(self.tables)}; it may have {list(_TABLES)}")
        _ = self._shares

    @property
    def label_space(self) -> LabelSpace:
        """The classes, looked up once per version of their list."""
        return LabelSpace(tuple(self._names().values()), LabelKind.MULTI)

    def identity(self) -> dict[str, Any]:
        """Return what may not change under one root: lists, classes and the draw."""
        return {
            "source": "audioset",
            "tables": self._tables,
            "label_space": self.label_space.to_dict(),
            "drawn": [self.labelled, self.probe, self.data_seed],
            "whole_videos": self.whole_videos,
        }

    def place(self) -> str:
        """Return the URI of the root, and the lists with their versions."""
        return self._files.place([*self._tables.values(), _CLASSES])

    def prepare(self, progress: Progress | None = None) -> None:
        """Check that the root and the lists are there.

        Raises:
            ConfigError: One is not.
        """
        keyed = {f"source.tables.{key}": name for key, name in self._tables.items()}
        self._files.check({**keyed, "list of classes": _CLASSES})

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield the clips that have a file, by its name.

        Args:
            after: Cursor of the row to go on behind.

        Raises:
            ConfigError: A list is not what it should be, or no clip has a file.
        """
        self.prepare()
        self._counts.clear()
        return self._files.rows(self._segments(), after=after, on_end=self._counts.append)

    def notes(self) -> list[str]:
        """Say how many clips have no file, and which files are of none."""
        return [said for one in self._counts for said in one.sentences("AudioSet")]

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

    @property
    def _tables(self) -> dict[str, str]:
        """The lists that are not left out."""
        return {key: name for key, name in self.tables.items() if name}

    def _names(self) -> dict[str, str]:
        """Return the name of every class that counts by its id, in logit order."""
        place = self._files.place([_CLASSES])
        if place not in self._classes:
            self._files.check({"list of classes": _CLASSES})
            names = read_classes(self._files.lines(_CLASSES), where=_CLASSES)
            self._classes[place] = self._those_below(names)
        return self._classes[place]

    def _those_below(self, names: dict[str, str]) -> dict[str, str]:
        """Return the classes at or below ``below``."""
        if self.below is None:
            return names
        self._files.check({"list of what lies below what": _ONTOLOGY})
        chosen = below(self._files.location.read(_ONTOLOGY), self.below, where=_ONTOLOGY)
        return {mid: name for mid, name in names.items() if mid in chosen}

    def _segments(self) -> Iterator[Segment]:
        """Yield the clips of all lists.

        Raises:
            ConfigError: A class of a clip is not in the list of classes.
        """
        known = set(read_classes(self._files.lines(_CLASSES), where=_CLASSES))
        indices = {mid: index for index, mid in enumerate(self._names())}
        for key, table in self._tables.items():
            for video, start_ms, end_ms, mids in read_segments(
                self._files.lines(table), where=table
            ):
                if not known.issuperset(mids):
                    unknown = sorted(set(mids) - known)
                    raise ConfigError(
                        f"{table}: {video} has the classes {unknown}, which {_CLASSES} does not "
                        "have; take the lists of one version of AudioSet"
                    )
                labels = tuple(sorted(indices[mid] for mid in mids if mid in indices))
                if labels or self.below is None:
                    yield Segment(video, start_ms, end_ms, labels, self._split(key, video).value)

    def _split(self, key: str, video: str) -> Split:
        """Return the split of a video of a list."""
        if key == EVAL:
            return Split.TEST
        return Split.UNLABELED if key == UNBALANCED else self._shares.split_of(video)
