"""What lists of clips have in common: where they lie, their splits, and whose file is whose."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mke_ray.data.listing import walk
from mke_ray.data.lookup import place_of_files
from mke_ray.data.places import ReachedBy, places_of
from mke_ray.data.reachable import check_file, check_root
from mke_ray.data.segments import Segment, SegmentCount, joined
from mke_ray.data.sources import Reader, SourceRow
from mke_ray.data.videos import VideosSource
from mke_ray.errors import ConfigError
from mke_ray.schema import DecodeSpec
from mke_ray.storage import Root

_BLOCK_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class SegmentFiles:
    """A root with lists of clips of videos and, below one folder of it, a file for each of them.

    Args:
        root: Local folder or URI.
        folder: Folder below it with the media, at any depth; "" is the root.
        whole_videos: Whether a file is a whole video, of which a clip is a span; else it is a clip.
        about: What the lists are, for errors.
        endpoint_url: Address of a store other than the provider's own.
        region: Region of the bucket.
        anonymous: Reach the bucket without credentials.
        storage_options: Further options of the file system.
        places: Folders outside the root that links of a local disk may lead to.
    """

    root: str
    folder: str
    whole_videos: bool
    about: str
    endpoint_url: str | None = None
    region: str | None = None
    anonymous: bool = False
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)
    places: Sequence[str] = ()

    @property
    def location(self) -> Root:
        """Where the lists and the media lie."""
        return places_of(self, self.root).root

    def place(self, lists: Iterable[str]) -> str:
        """Return the URI of the root, and the lists with their versions."""
        return place_of_files(self.location, lists)

    def check(self, lists: Mapping[str, str]) -> None:
        """Check that the root and the lists are there.

        Args:
            lists: Name of each list by its configuration key.

        Raises:
            ConfigError: One is not.
        """
        root = self.location
        check_root(root, given=self.root, holds=f"files of {self.about}")
        for key, name in lists.items():
            check_file(root, name, key=key, given=self.root, has_to=f"hold {self.about}")

    def lines(self, name: str) -> Iterator[str]:
        """Yield the lines of a list without holding it in memory."""
        root = self.location
        with root.filesystem().open(root.path(name), "rb", block_size=_BLOCK_BYTES) as file:
            text: Any = file
            yield from io.TextIOWrapper(text, encoding="utf-8-sig", newline="")

    def rows(
        self,
        segments: Iterable[Segment],
        *,
        after: str | None,
        on_end: Callable[[SegmentCount], None],
    ) -> Iterator[SourceRow]:
        """Yield the clips that have a file, by its name; the media are listed once.

        Args:
            segments: The clips.
            after: Cursor of the row to go on behind; all files are listed all the same, so that
                every clip without one is counted.
            on_end: Is told at the end how many clips have none.

        Raises:
            ConfigError: No clip has a file.
        """
        num, counted = 0, []
        files = walk(self.location, self.folder, further=self.places)
        pairs = joined(segments, files, all_of_video=self.whole_videos, on_end=counted.append)
        for file, segment in pairs:
            num += 1
            cursor = f"{file.name}\n{segment.start_ms:012d}"
            if cursor <= (after or ""):
                continue
            start_s, end_s = segment.start_ms / 1000, segment.end_ms / 1000
            yield SourceRow(
                key=file.name,
                size=file.size,
                etag=file.etag,
                start_s=start_s if self.whole_videos else None,
                end_s=end_s if self.whole_videos else None,
                group=segment.video,
                split=segment.split,
                labels=segment.labels,
                cursor=cursor,
            )
        if not num:
            raise ConfigError(_nothing(self, counted[0]))
        on_end(counted[0])

    def reader(self, spec: DecodeSpec) -> Reader:
        """Return a reader of the media.

        Raises:
            ConfigError: The specification asks for something that is not in a media file.
        """
        return VideosSource(
            self.root,
            (),
            endpoint_url=self.endpoint_url,
            region=self.region,
            anonymous=self.anonymous,
            storage_options=self.storage_options,
            places=self.places,
        ).reader(spec)


class ListsClips(ReachedBy, Protocol):
    """A source of clips that a list names."""

    @property
    def root(self) -> str | None:
        """Its root."""
        ...

    @property
    def places(self) -> Sequence[str]:
        """Folders outside it that links may lead to."""
        ...

    @property
    def media(self) -> str:
        """Folder below the root with the media."""
        ...

    @property
    def whole_videos(self) -> bool:
        """Whether a file is a whole video."""
        ...


def segment_files_of(source: ListsClips, about: str) -> SegmentFiles:
    """Return the lists and the media of a source.

    Args:
        source: The source.
        about: What the lists are, for errors.
    """
    return SegmentFiles(
        source.root or "",
        source.media,
        source.whole_videos,
        about,
        source.endpoint_url,
        source.region,
        source.anonymous,
        source.storage_options,
        source.places,
    )


def _nothing(files: SegmentFiles, count: SegmentCount) -> str:
    """Return the error for media of which no listed clip is."""
    others = f"{count.unknown:,} files of other names, such as {count.example}"
    where = f"{files.root}/{files.folder}".rstrip("/")
    return (
        f"none of the {count.listed:,} listed clips has a file below {where} (source.root, "
        f"source.media); found {others if count.unknown else 'no file'}. A file of video "
        "abcdefghijk from second 30 is named abcdefghijk_000030, _30, _30.000, _30000 "
        "(milliseconds), abcdefghijk or Yabcdefghijk, at any depth and with any suffix of a video "
        "or sound: name the files so, set source.media to the folder that has them, or correct "
        "source.root. The videos are not part of this project"
    )
