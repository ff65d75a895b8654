"""RAVDESS as its authors ship it: recordings whose names say emotion, actor and the rest."""

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mke_ray.data.listing import ListedFile, walk
from mke_ray.data.places import places_of
from mke_ray.data.reachable import check_given, check_root
from mke_ray.data.sources import Progress, Reader, SourceRow
from mke_ray.data.table_splits import REST, Wanted, check_splits, draw_splits
from mke_ray.data.videos import VideosSource
from mke_ray.errors import ConfigError
from mke_ray.schema import DecodeSpec, LabelSpace, Split

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
FORMS = ("full", "video_only", "audio_only")
CHANNELS = ("speech", "song")

_SPLITS: Mapping[str, Wanted] = {"labelled": 4, "probe": 4, "unlabeled": REST, "test": 5}
_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)\.(?:mp4|wav)", re.IGNORECASE)
_OTHER = "of other names"
_FOLDER = (
    "a folder of RAVDESS with its archives unpacked: Actor_NN/MM-VV-EE-II-SS-RR-AA.mp4 or .wav, at "
    "any depth (Video_Speech_Actor_01/Actor_01/...). The data are not part of this project; get "
    "them from their authors (zenodo.org, record 1188976)"
)


@dataclass(frozen=True, slots=True)
class RecordingName:
    """The seven fields of a file name.

    Args:
        form: One of ``FORMS``: picture and sound, or one of them.
        channel: One of ``CHANNELS``.
        emotion: Index in ``EMOTIONS``.
        intensity: 1 normal, 2 strong.
        statement: 1 or 2.
        repetition: 1 or 2.
        actor: 1 to 24, odd ones are men.
    """

    form: str
    channel: str
    emotion: int
    intensity: int
    statement: int
    repetition: int
    actor: int


@dataclass(frozen=True, slots=True)
class RavdessSource:
    """Recordings of actors who say or sing two sentences with eight emotions.

    A sample is a recording, whose group is its actor. Where the archives give it several times
    (with picture and sound, without the one, without the other) it has one row: the fullest of
    ``forms``; one without picture or sound is a partial sample. ``splits`` deals whole actors out,
    anew for every ``data_seed``. True labels of the unlabeled split are kept for reporting and for
    supervised arms.

    Args:
        root: Local folder or URI of the unpacked archives.
        forms: Which files count: ``full`` (01), ``video_only`` (02), ``audio_only`` (03).
        channels: ``speech`` (01), ``song`` (02).
        splits: Per split a number of actors, a share of them, or ``rest``.
        data_seed: Seed of that draw.
        endpoint_url: Address of a store other than the provider's own.
        region: Region of the bucket.
        anonymous: Reach the bucket without credentials.
        storage_options: Further options of the file system; never stored.
        places: Folders outside the root that links of a local disk may lead to.

    Source:
        Livingstone, Russo, The Ryerson Audio-Visual Database of Emotional Speech and Song
        (RAVDESS), PLoS ONE 2018.
    """

    root: str | None
    forms: Sequence[str] = FORMS
    channels: Sequence[str] = ("speech",)
    splits: Mapping[str, Wanted] = field(default_factory=lambda: dict(_SPLITS))
    data_seed: int = 0
    endpoint_url: str | None = None
    region: str | None = None
    anonymous: bool = False
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)
    places: Sequence[str] = ()
    _left_out: Counter[str] = field(default_factory=Counter, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the root and the words."""
        check_given(self.root, f"be {_FOLDER}")
        for key, known in (("forms", FORMS), ("channels", CHANNELS)):
            given = list(getattr(self, key))
            if not given or not set(given) <= set(known):
                raise ConfigError(f"source.{key}={given}; choose of {list(known)}")
        check_splits(self.splits)

    @property
    def label_space(self) -> LabelSpace:
        """The eight emotions."""
        return LabelSpace(EMOTIONS)

    def identity(self) -> dict[str, Any]:
        """Return what may not change under one root: which files count and how they are dealt."""
        return {
            "source": "ravdess",
            "forms": [one for one in FORMS if one in self.forms],
            "channels": [one for one in CHANNELS if one in self.channels],
            "splits": dict(self.splits),
            "data_seed": self.data_seed,
        }

    def place(self) -> str:
        """Return the URI of the root."""
        return self._videos.place()

    def prepare(self, progress: Progress | None = None) -> None:
        """Check that the root is there.

        Raises:
            ConfigError: It is not.
        """
        root = places_of(self, self.root or "").root
        check_root(root, given=self.root, holds=f"recordings: {_FOLDER}")

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield one row per recording, by the names of their files.

        All of RAVDESS is 7,356 files, so that they are listed once and then dealt out.

        Args:
            after: Cursor of the row to go on behind.

        Raises:
            ConfigError: There is none, or fewer actors than the splits want.
        """
        self.prepare()
        chosen = self._recordings()
        split_of = self._dealt(sorted({f"{name.actor:02d}" for _, name in chosen}))
        for file, name in chosen:
            if file.name > (after or ""):
                yield _row(file, name, split_of[f"{name.actor:02d}"])

    def notes(self) -> list[str]:
        """Say how many files are no samples of this run, and why."""
        return [
            f"RAVDESS: {num} files are no samples: {why}"
            for why, num in sorted(self._left_out.items())
        ]

    def reader(self, spec: DecodeSpec) -> Reader:
        """Return a reader of the recordings.

        Raises:
            ConfigError: The specification asks for something that is not in a media file.
        """
        return self._videos.reader(spec)

    @property
    def _videos(self) -> VideosSource:
        return VideosSource(
            self.root,
            EMOTIONS,
            endpoint_url=self.endpoint_url,
            region=self.region,
            anonymous=self.anonymous,
            storage_options=self.storage_options,
            places=self.places,
        )

    def _dealt(self, actors: Sequence[str]) -> dict[str, str]:
        """Return the split of every actor.

        Raises:
            ConfigError: There are fewer of them than the splits want.
        """
        none = [()] * len(actors)
        try:
            drawn = draw_splits(actors, none, actors, wanted=self.splits, data_seed=self.data_seed)
        except ConfigError as error:
            raise ConfigError(
                f"source.root={self.root} has recordings of the actors {', '.join(actors)}, which "
                f"are the groups, and RAVDESS has 24: unpack the archives that are missing, or "
                f"want fewer ({error})"
            ) from error
        return dict(zip(actors, drawn, strict=True))

    def _recordings(self) -> list[tuple[ListedFile, RecordingName]]:
        """Return one file per recording, by name.

        Raises:
            ConfigError: There is none.
        """
        self._left_out.clear()
        found: Counter[str] = Counter()
        best: dict[tuple[int, ...], tuple[ListedFile, RecordingName]] = {}
        for file, name in self._named(found):
            key = _identity(name)
            if key in best:
                self._left_out["the recording has a row by another file"] += 1
            if key not in best or _rank(file, name) < _rank(*best[key]):
                best[key] = (file, name)
        if not best:
            raise ConfigError(self._nothing(found))
        return sorted(best.values(), key=lambda pair: pair[0].name)

    def _named(self, found: Counter[str]) -> Iterable[tuple[ListedFile, RecordingName]]:
        """Yield the files that count, and count what is there by its kind."""
        for file in walk(places_of(self, self.root or "").root, "", further=self.places):
            name = parse_name(file.name)
            suffix = posixpath.splitext(file.name)[1].lower()
            if name is None:
                found[f"{suffix or 'no suffix'} {_OTHER}"] += 1
                if suffix in (".mp4", ".wav"):
                    self._left_out["the name is not MM-VV-EE-II-SS-RR-AA"] += 1
                continue
            found[f"{name.channel}, {name.form}"] += 1
            if name.form in self.forms and name.channel in self.channels:
                yield file, name
            else:
                self._left_out[f"{name.channel}, {name.form} is not asked for"] += 1

    def _nothing(self, found: Counter[str]) -> str:
        """Return the error for a root without a recording that counts."""
        there = ", ".join(f"{num} {what}" for what, num in found.most_common(6)) or "no file"
        unpack = "; unpack the .zip files" if found[f".zip {_OTHER}"] else ""
        forms, channels = (
            "|".join(f"{known.index(one) + 1:02d}" for one in given)
            for known, given in ((FORMS, self.forms), (CHANNELS, self.channels))
        )
        return (
            f"source.root={self.root} has at no depth a file named ({forms})-({channels})-"
            f"EE-II-SS-RR-AA.mp4 or .wav, which source.forms={list(self.forms)} and "
            f"source.channels={list(self.channels)} look for; found {there}{unpack}; it has to be "
            f"{_FOLDER}"
        )


def parse_name(path: str) -> RecordingName | None:
    """Return what the name of a file says, None where it is not one of RAVDESS.

    Args:
        path: Path of the file.
    """
    match = _NAME.fullmatch(posixpath.basename(path))
    if match is None:
        return None
    form, channel, emotion, *others = (int(one) for one in match.groups())
    if not (1 <= form <= len(FORMS) and 1 <= channel <= len(CHANNELS)):
        return None
    if not (1 <= emotion <= len(EMOTIONS) and others[-1] >= 1):
        return None
    return RecordingName(FORMS[form - 1], CHANNELS[channel - 1], emotion - 1, *others)


def _identity(name: RecordingName) -> tuple[int, ...]:
    """Return what two files of one recording have in common."""
    said = (name.emotion, name.intensity, name.statement, name.repetition, name.actor)
    return (CHANNELS.index(name.channel), *said)


def _rank(file: ListedFile, name: RecordingName) -> tuple[int, str]:
    """Return a key by which the fullest file of a recording comes first."""
    return FORMS.index(name.form), file.name


def _row(file: ListedFile, name: RecordingName, split: str) -> SourceRow:
    return SourceRow(
        key=file.name,
        size=file.size,
        etag=file.etag,
        start_s=None,
        end_s=None,
        group=f"actor-{name.actor:02d}",
        split=Split(split).value,
        labels=(name.emotion,),
        cursor=file.name,
    )
