"""What became of every trial of a search, one small file each: all that a search goes on from."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mke_ray.errors import StoreError
from mke_ray.storage import Root

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"
SEARCH_FORMAT_VERSION = 1
USUAL = 0  # number of the trial of the configuration as it is

_BEGUN, _ENDED = "begun", "trials"


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial that has ended.

    Args:
        number: Its number, from 0.
        state: ``finished`` (trained to its end), ``stopped`` (worse than others at the same step)
            or ``failed``.
        params: What was drawn, by name; empty for a configuration outside the space.
        values: What the keys of the configuration were given.
        curve: Looks at the select part of the probe: ``look``, ``step``, ``quality``, ``seconds``
            and ``samples`` (rows trained on until then).
        fit: Fingerprint of the fit.
        num_parameters: Parameters of the network; 0 where it was never built.
        reason: Why it failed, "" where it did not.
        full_samples: Rows that it is trained on where nothing stops it; 0 where nobody knows.
    """

    number: int
    state: str
    params: Mapping[str, Any]
    values: Mapping[str, Any]
    curve: tuple[Mapping[str, Any], ...] = ()
    fit: str = ""
    num_parameters: int = 0
    reason: str = ""
    full_samples: int = 0

    @property
    def quality(self) -> float | None:
        """The last quality that was seen, None where none was."""
        return self.curve[-1]["quality"] if self.curve else None

    @property
    def seconds(self) -> float:
        """Seconds of training."""
        return self.curve[-1]["seconds"] if self.curve else 0.0

    @property
    def num_samples(self) -> int:
        """Rows trained on, each as often as it was."""
        return int(self.curve[-1]["samples"]) if self.curve else 0

    def cost(self, kind: str) -> float:
        """Return what the trial cost.

        Args:
            kind: ``seconds`` or ``parameters``.
        """
        return float(self.num_parameters) if kind == "parameters" else self.seconds


@dataclass(frozen=True, slots=True)
class Begun:
    """One trial that was begun.

    Args:
        number: Its number, from 0.
        params: What was drawn, by name; empty for a configuration outside the space.
        values: What the keys of the configuration were given.
    """

    number: int
    params: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The trials of one search, in a folder of the root.

    Args:
        folder: The folder.
    """

    folder: Root

    def begin(self, trial: Begun) -> None:
        """Write that a trial begins; one that is begun again is left as it was."""
        self.folder.create(_name(_BEGUN, trial.number), _bytes(asdict(trial)))

    def end(self, record: TrialRecord) -> None:
        """Write what became of a trial; the first record of it counts."""
        plain = {"format_version": SEARCH_FORMAT_VERSION, **asdict(record)}
        self.folder.create(_name(_ENDED, record.number), _bytes(plain))

    def ended(self) -> list[TrialRecord]:
        """Return what became of the trials that have ended, by number.

        Raises:
            StoreError: A record is of another format.
        """
        records = []
        for plain in self._read_all(_ENDED):
            if plain.pop("format_version") != SEARCH_FORMAT_VERSION:
                raise StoreError(
                    f"{self.folder.uri} holds trials of another version of mke_ray; give the "
                    "search another search.name"
                )
            records.append(TrialRecord(**{**plain, "curve": tuple(plain["curve"])}))
        return sorted(records, key=lambda one: one.number)

    def interrupted(self) -> list[Begun]:
        """Return the trials that were begun and have not ended, by number."""
        ended = {one.number for one in self.ended()}
        begun = [Begun(**plain) for plain in self._read_all(_BEGUN)]
        return sorted((one for one in begun if one.number not in ended), key=lambda x: x.number)

    def _read_all(self, kind: str) -> list[dict[str, Any]]:
        """Return the content of all files of a kind."""
        names = sorted(self.folder.names(kind, recursive=False))
        return [json.loads(self.folder.read(name)) for name in names]


def _name(kind: str, number: int) -> str:
    """Return the name of the file of a trial."""
    return f"{kind}/{number:05d}.json"


def _bytes(plain: Mapping[str, Any]) -> bytes:
    """Return plain data as JSON."""
    return json.dumps(plain, indent=1).encode()
