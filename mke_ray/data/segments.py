"""Clips that long lists name by video and second, joined on disk with the files there are."""

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from mke_ray.batching import batched
from mke_ray.data.listing import ListedFile
from mke_ray.data.videos import NOTES
from mke_ray.schema import Split

_ID = r"[A-Za-z0-9_-]{11}"
# ID, ID_30, ID_000030, ID_30.000_40.000, ID_30000_40000, and YID before any of them.
_NAME = re.compile(rf"(?:Y(?={_ID}(?:_\d|$)))?({_ID})(?:_(\d+(?:\.\d+)?)(?:_\d+(?:\.\d+)?)?)?$")
_ROWS_AT_ONCE = 10_000
_CACHE_KIB = 32_768
_FOUND = "SELECT start_ms, end_ms, labels, split, seen FROM segments WHERE video = ?"
_TAKE = "UPDATE segments SET seen = 1 WHERE video = ? AND start_ms = ?"


@dataclass(frozen=True, slots=True)
class Segment:
    """One clip of a list.

    Args:
        video: Id of its video, eleven characters.
        start_ms: Where it begins in the video, in milliseconds.
        end_ms: Where it ends.
        labels: Indices of its classes.
        split: Role of the clip.
    """

    video: str
    start_ms: int
    end_ms: int
    labels: tuple[int, ...]
    split: str


@dataclass(frozen=True, slots=True)
class SegmentName:
    """What the name of a file says of the clip in it.

    Args:
        video: Id of its video.
        start: The number behind it as it stands there, of seconds or milliseconds; None where there
            is none.
    """

    video: str
    start: str | None

    def only_one(self, clips: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return the one clip of a video that is named so, none where there is none or it is open.

        Args:
            clips: Clips of the video, each beginning with its start in milliseconds.
        """
        if self.start is None:
            return clips if len(clips) == 1 else []
        number = float(self.start)
        for start_ms in (round(1000 * number), round(number)):
            named = [one for one in clips if one[0] == start_ms]
            if named:
                return named
        return []


def parse_segment_name(path: str) -> SegmentName | None:
    """Return which clip a file is by its name, None where it is named in another way.

    Args:
        path: Path of the file.
    """
    name = path.rsplit("/", 1)[-1]
    match = _NAME.fullmatch(name.rsplit(".", 1)[0])
    return None if match is None else SegmentName(match[1], match[2])


@dataclass(frozen=True, slots=True)
class SegmentCount:
    """What became of the clips of a list and of the files.

    Args:
        listed: Clips of the list.
        repeated: Rows of the list whose clip it has already.
        missing: Clips without a file, by split.
        unknown: Files of no listed clip.
        further: Files of a clip that has one.
        example: A file of no listed clip.
    """

    listed: int
    repeated: int
    missing: Counter[str]
    unknown: int = 0
    further: int = 0
    example: str = ""

    def sentences(self, name: str) -> list[str]:
        """Say it to a person.

        Args:
            name: What the list is of.
        """
        gone = sum(self.missing.values())
        splits = ", ".join(f"{self.missing[one]:,} {one}" for one in Split if self.missing[one])
        said = [f"{name}: {gone:,} of {self.listed:,} listed clips have no file ({splits})"]
        if self.repeated:
            said.append(f"{name}: {self.repeated:,} rows name a clip that another row names")
        if self.unknown:
            said.append(
                f"{name}: {self.unknown:,} files are of no listed clip, {self.example} is one"
            )
        if self.further:
            said.append(f"{name}: {self.further:,} files are of a clip that has another")
        return said if gone else said[1:]


class SegmentIndex:
    """Clips of a list by video, in a database of this process that lies on its disk.

    Millions of clips take tens of megabytes of memory, as a few do; the database goes when it is
    closed.

    Args:
        segments: The clips; of those with one video and start the first counts.
    """

    def __init__(self, segments: Iterable[Segment]) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        for pragma in (f"cache_size = -{_CACHE_KIB}", "journal_mode = OFF", "synchronous = OFF"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute(
            "CREATE TABLE segments (video TEXT, start_ms INTEGER, end_ms INTEGER, labels TEXT, "
            "split TEXT, seen INTEGER, PRIMARY KEY (video, start_ms)) WITHOUT ROWID"
        )
        self._database.execute("BEGIN")  # never ended: what is not kept needs no commit
        self.num_rows = 0
        for some in batched(segments, _ROWS_AT_ONCE):
            self._database.executemany(
                "INSERT OR IGNORE INTO segments VALUES (?, ?, ?, ?, ?, 0)", map(_record, some)
            )
            self.num_rows += len(some)

    def close(self) -> None:
        """Delete the database."""
        self._database.close()

    def take(self, path: str, *, all_of_video: bool) -> tuple[list[Segment], bool]:
        """Return the clips that a file holds, without those that an earlier file held.

        Args:
            path: Path of the file.
            all_of_video: Whether the file is the whole video, of all its clips; else a file whose
                name has no start is of the only clip of its video.

        Returns:
            The clips, and whether the file holds a listed clip at all.
        """
        name = parse_segment_name(path)
        if name is None:
            return [], False
        chosen = self._database.execute(_FOUND, (name.video,)).fetchall()
        if not all_of_video:
            chosen = name.only_one(chosen)
        fresh = [one for one in chosen if not one[-1]]
        for start_ms, *_ in fresh:
            self._database.execute(_TAKE, (name.video, start_ms))
        return [
            Segment(name.video, start_ms, end_ms, _numbers(labels), split)
            for start_ms, end_ms, labels, split, _ in fresh
        ], bool(chosen)

    def count(self) -> SegmentCount:
        """Return how many clips there are, and how many no file was taken for."""
        (num,) = self._database.execute("SELECT count(*) FROM segments").fetchone()
        query = "SELECT split, count(*) FROM segments WHERE seen = 0 GROUP BY split"
        return SegmentCount(num, self.num_rows - num, Counter(dict(self._database.execute(query))))


def joined(
    segments: Iterable[Segment],
    files: Iterable[ListedFile],
    *,
    all_of_video: bool,
    on_end: Callable[[SegmentCount], None],
) -> Iterator[tuple[ListedFile, Segment]]:
    """Yield the files that hold a listed clip, in their order, each with its clips.

    Args:
        segments: Clips of the list.
        files: Files, listed once.
        all_of_video: Whether a file is a whole video; else it is the clip.
        on_end: Is told at the end what became of the others.
    """
    with closing(SegmentIndex(segments)) as index:
        unknown, further, example = 0, 0, ""
        for file in files:
            if file.name.lower().endswith(NOTES):
                continue
            found, is_known = index.take(file.name, all_of_video=all_of_video)
            yield from ((file, one) for one in found)
            further += is_known and not found
            unknown += not is_known
            example = example or ("" if is_known else file.name)
        on_end(replace(index.count(), unknown=unknown, further=further, example=example))


def _record(segment: Segment) -> tuple[str, int, int, str, str]:
    labels = ",".join(map(str, segment.labels))
    return segment.video, segment.start_ms, segment.end_ms, labels, segment.split


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(one) for one in text.split(",")) if text else ()
