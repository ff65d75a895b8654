"""MM-IMDB as its authors ship it: a poster and a description in JSON for every film."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from mke_ray.data.ahead import map_ahead
from mke_ray.data.pairs import PairsSource
from mke_ray.data.pairs_reader import PairsReader
from mke_ray.data.reachable import check_file, check_given, check_root
from mke_ray.data.sources import Progress, SourceRow
from mke_ray.data.table_rows import TableRow
from mke_ray.data.train_shares import TrainShares, labelled_share
from mke_ray.errors import ConfigError
from mke_ray.schema import DecodeSpec, LabelKind, LabelSpace, Split
from mke_ray.storage import Root

# By how many films are of them, the most frequent first.
GENRES: tuple[str, ...] = (
    *("Drama", "Comedy", "Romance", "Thriller", "Crime", "Action", "Adventure", "Horror"),
    *("Documentary", "Mystery", "Sci-Fi", "Fantasy", "Family", "Biography", "War", "History"),
    *("Music", "Animation", "Musical", "Western", "Sport", "Short", "Film-Noir"),
)
FILES = {"poster": "dataset/{key}.jpeg", "plot": "dataset/{key}.json"}

_PARTS = ("train", "dev", "test")
_SPLIT_FILE = "split.json"
_NUM_THREADS = 16
_FILM = re.compile(r"[0-9A-Za-z_-]+")
_ABOUT = (
    "MM-IMDB: split.json with the lists train, dev and test, and dataset/NNNNNNN.json with "
    "dataset/NNNNNNN.jpeg for every film. The data are not part of this project; get them from "
    "their authors"
)


@dataclass(frozen=True, slots=True)
class MmImdbSource:
    """Films with any number of 23 genres, each with its poster and its plot.

    The official test list is the test split and the list ``dev`` is the probe; ``data_seed`` draws
    the share of ``train`` that is labelled, the rest is unlabeled. The plots of a film are joined
    and read as ids of tokens or as a hashed bag of words. Genres stand in the file of each film, so
    that every listing reads all of these, several at once. Films without a file or a genre, or
    whose name is none, are counted and left out; one without a poster is partial. True labels of
    the unlabeled split are kept for reporting and for supervised arms.

    Args:
        root: Local folder or URI.
        labelled: Share of the training films that is labelled.
        data_seed: Seed of the draw.
        tokenizers: Where the tokenizer of the plot lies; a run fills it in from ``decode``.
        endpoint_url: Address of a store other than the provider's own.
        region: Region of the bucket.
        anonymous: Reach the bucket without credentials.
        storage_options: Further options of the file system; never stored.
        places: Folders outside the root that links of a local disk may lead to.

    Source:
        Arevalo, Solorio, Montes-y-Gomez, Gonzalez, Gated Multimodal Units for Information Fusion,
        ICLR 2017 workshop.
    """

    root: str | None
    labelled: float = 0.2
    data_seed: int = 0
    tokenizers: Mapping[str, Mapping[str, Any]] | None = field(default=None, repr=False)
    endpoint_url: str | None = None
    region: str | None = None
    anonymous: bool = False
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)
    places: Sequence[str] = ()
    _left_out: Counter[str] = field(default_factory=Counter, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the root and the share."""
        check_given(self.root, f"hold {_ABOUT}")
        _ = self._shares

    @property
    def label_space(self) -> LabelSpace:
        """The 23 genres."""
        return self._pairs.label_space

    def identity(self) -> dict[str, Any]:
        """Return what may not change under one root."""
        drawn = [self.labelled, self.data_seed]
        return {**self._pairs.identity(), "source": "mm_imdb", "drawn": drawn}

    def place(self) -> str:
        """Return the URI of the root, and the official split with its version."""
        return self._pairs.place()

    def prepare(self, progress: Progress | None = None) -> None:
        """Check that the root and the official split are there.

        Raises:
            ConfigError: One is not.
        """
        check_root(self._pairs.location, given=self.root, holds="files of MM-IMDB")
        where = {"key": "official split", "given": self.root}
        check_file(self._pairs.location, _SPLIT_FILE, **where, has_to=f"hold {_ABOUT}")

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield the films, list after list.

        Args:
            after: Cursor of the row to go on behind.

        Raises:
            ConfigError: The official split is none, or no film has a file.
        """
        self.prepare()
        self._left_out.clear()
        rows = self._table_rows(int(after or 0))
        num = 0
        for row in self._pairs.rows_of(rows, table=_SPLIT_FILE):
            num += 1
            yield row
        if not num and not after:
            raise ConfigError(
                f"source.root={self.root}: no film of {_SPLIT_FILE} has a genre in "
                f"dataset/NNNNNNN.json; found {dict(self._left_out)}"
            )

    def notes(self) -> list[str]:
        """Say how many films are left out, and why."""
        return [
            f"MM-IMDB: {num} films are left out: {why}"
            for why, num in sorted(self._left_out.items())
        ]

    def reader(self, spec: DecodeSpec) -> PairsReader:
        """Return a reader of posters and plots.

        Raises:
            ConfigError: The specification asks for what there is not.
        """
        return self._pairs.reader(spec)

    @property
    def _shares(self) -> TrainShares:
        return labelled_share(self.labelled, self.data_seed)

    @property
    def _pairs(self) -> PairsSource:
        return PairsSource(
            self.root or "",
            FILES,
            GENRES,
            table=_SPLIT_FILE,
            label_kind=LabelKind.MULTI,
            text={"field": "plot"},
            tokenizers=self.tokenizers,
            endpoint_url=self.endpoint_url,
            region=self.region,
            anonymous=self.anonymous,
            storage_options=self.storage_options,
            places=self.places,
        )

    def _table_rows(self, after: int) -> Iterator[TableRow]:
        """Yield a row per film that has a genre."""
        root = self._pairs.location
        named = ((part, str(film)) for part, films in self._listed().items() for film in films)
        asked = ((root, number, *one) for number, one in enumerate(named, start=1))
        asked = islice(asked, after, None)
        for number, part, film, genres in map_ahead(_genres, asked, num_threads=_NUM_THREADS):
            if isinstance(genres, str):
                self._left_out[genres] += 1
                continue
            split = self._split(part, film).value
            yield TableRow(number, film, "|".join(genres), "", split, None, None, None, "")

    def _split(self, part: str, film: str) -> Split:
        """Return the split of a film of a list."""
        if part == "train":
            return self._shares.split_of(film)
        return Split.PROBE if part == "dev" else Split.TEST

    def _listed(self) -> dict[str, list[str]]:
        """Return the films of every list.

        Raises:
            ConfigError: The file is not as it is published.
        """
        try:
            plain = json.loads(self._pairs.location.read(_SPLIT_FILE))
            return {part: list(plain[part]) for part in _PARTS}
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{_SPLIT_FILE} in {self.root} has to be an object with the lists {list(_PARTS)}: "
                f"{error!r}"
            ) from error


def _genres(asked: tuple[Root, int, str, str]) -> tuple[int, str, str, list[str] | str]:
    """Return a film with those of its genres that count, or with why it has none."""
    root, number, part, film = asked
    if not _FILM.fullmatch(film):  # it becomes part of a path
        return number, part, film, "its name has other signs than letters, digits, _ and -"
    try:
        found = json.loads(root.read(f"dataset/{film}.json"))["genres"]
        genres = [one for one in found if one in GENRES]
    except FileNotFoundError:
        return number, part, film, "its description is not there"
    except (ValueError, KeyError, TypeError):
        return number, part, film, "its description cannot be read"
    return number, part, film, genres or "it has none of the 23 genres"
