"""What a fit is, as plain data, and the store of finished fits."""

import contextlib
import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import safetensors.torch
from torch import Tensor

from mke_ray.errors import ConfigError, StoreError
from mke_ray.labels.label_rule import LABEL_KINDS
from mke_ray.labels.store import UnitStore
from mke_ray.models.weights import WEIGHTS_NAME, LoadedStudent, load_student
from mke_ray.schema import Split, fingerprint
from mke_ray.storage import Root

TARGETS = ("pseudo", "true", "none")
DONE = "done.json"
FIT_FORMAT_VERSION = 2

_NEWER_KEYS = (
    "revisions",
    "class_balance",
    "folds",
    "label_rule",
)  # left out where empty: older fits keep their names
_OF_SOME_ROWS = ("share", "most")  # the same of rows
_SWITCHES = ("loss", "mix", "balance", "unimodal_weight")  # of the objective, for the same reason


@dataclass(frozen=True, slots=True)
class RowSelection:
    """Which rows a fit sees, and what it is told about them.

    Args:
        split: Split of the rows.
        targets: ``pseudo`` (the teacher's labels), ``true`` (labels of the manifest) or ``none``.
        modalities: Modalities shown; others are hidden as if missing. Empty shows all.
        weight: Weight of each row in the loss.
        share: Weight of all rows together, as a share of that of the rows of the first selection;
            None weighs each row by ``weight`` alone.
        part: Part of the probe, ``select`` or ``gate``; None takes all rows of the split.
        most: About how many rows of the split count, in units at even distances; None takes all.
    """

    split: str
    targets: str = "pseudo"
    modalities: tuple[str, ...] = ()
    weight: float = 1.0
    part: str | None = None
    share: float | None = None
    most: int | None = None

    def __post_init__(self) -> None:
        """Check the words."""
        if self.targets not in TARGETS:
            raise ConfigError(f"targets={self.targets!r} of rows; choose one of {list(TARGETS)}")
        if self.split not in set(Split):
            raise ConfigError(f"split={self.split!r} of rows; choose one of {[*map(str, Split)]}")
        if self.weight <= 0:
            raise ConfigError(f"weight={self.weight} of {self.split} rows must be above 0")
        if self.share is not None and self.share <= 0:
            raise ConfigError(f"share={self.share} of {self.split} rows must be above 0")
        if self.most is not None and self.most < 1:
            raise ConfigError(f"most={self.most} of {self.split} rows must be at least 1")


@dataclass(frozen=True, slots=True)
class FitSpec:
    """Everything that determines one trained network, apart from how many workers train it.

    Args:
        name: Name for people; not part of the fingerprint.
        arm: Arm of the comparison that the fit belongs to; not part of the fingerprint.
        samples: Name of the sample store below ``samples/``.
        labels: Name of the label store below ``labels/``; None where no pseudo-label is used.
        student: Specification for ``build_student``.
        objective: ``_target_`` and arguments of the objective.
        rows: Which rows the fit sees; together they are one stream.
        optimizer: ``type`` (adamw or sgd), ``lr``, ``weight_decay``, ``momentum``.
        schedule: ``type`` (constant or cosine) and ``warmup_fraction``.
        views: Per modality ``_target_`` and arguments of a training view.
        num_steps: Optimizer steps; None derives them from ``num_epochs``.
        num_epochs: Passes over the rows; None derives them from ``num_steps``.
        global_batch: Rows per step over all workers; 0 takes all rows in every step.
        seed: Seed of weights, order, views, noise and dropout.
        label_kind: ``hard`` (one-hot), ``soft`` (probabilities) or ``sharpened`` pseudo-labels.
        temperature: Divides the teacher's logits.
        clip_norm: Largest gradient norm; None does not clip.
        ema_decay: Decay of the running mean of the weights that is kept; None keeps the last.
        class_balance: Exponent by which rare classes count more: of dense labels every class
            weighs its share of the labelled pixels to the power of minus this, of others rows with
            true labels of rare classes come several times (``mke_ray.train.class_repeats``).
        init_from: Fingerprint of a fit whose encoders are copied where the modality is the same,
            and of dense students the decoder.
        window_units: Units whose rows are shuffled together.
        validate_every_steps: Steps between looks at the select part of the probe; 0 never looks.
        probe_seed: Seed of the division of the probe.
        select_fraction: Share of the probe's groups that is the select part.
        num_norm_samples: Rows from which the statistics of normalisation are computed.
        precision: Numbers that the engine computes in: float32, bfloat16 or float16.
        data: Digest of the rows of the splits that the fit reads, from ``Manifest.digest``.
        revisions: Digest of the units of these splits of which samples were read again, from
            ``revisions_of``; "" where there are none.
        folds: Plain ``FoldDivision``, which tells the objective the fold of every sample; empty
            tells it none.
        label_rule: What else is done to pseudo-labels, each where it is wanted: ``sharpening``
            (temperature), ``ratio`` (of alignment [K, L]), ``weight`` (``_target_`` and arguments
            of a ``LabelWeight``) and ``fitted`` (what that learnt from all unlabeled samples).
    """

    name: str
    arm: str
    samples: str
    labels: str | None
    student: Mapping[str, Any]
    objective: Mapping[str, Any]
    rows: tuple[RowSelection, ...]
    optimizer: Mapping[str, Any]
    schedule: Mapping[str, Any] = field(default_factory=dict)
    views: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    num_steps: int | None = None
    num_epochs: int | None = None
    global_batch: int = 64
    seed: int = 0
    label_kind: str = "hard"
    temperature: float = 1.0
    clip_norm: float | None = None
    ema_decay: float | None = None
    class_balance: float = 0.0
    init_from: str | None = None
    window_units: int = 16
    validate_every_steps: int = 0
    probe_seed: int = 0
    select_fraction: float = 0.5
    num_norm_samples: int = 512
    precision: str = "float32"
    data: str = ""
    revisions: str = ""
    folds: Mapping[str, Any] = field(default_factory=dict)
    label_rule: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what can be checked without a store."""
        if (self.num_steps is None) == (self.num_epochs is None):
            raise ConfigError(
                f"fit {self.name}: set one of fit.num_steps={self.num_steps} and "
                f"fit.num_epochs={self.num_epochs}, and leave the other null"
            )
        if self.label_kind not in LABEL_KINDS:
            raise ConfigError(f"labels.kind={self.label_kind!r}; choose one of {list(LABEL_KINDS)}")
        if not self.rows:
            raise ConfigError(f"fit {self.name} selects no rows")
        if self.labels is None and any(one.targets == "pseudo" for one in self.rows):
            raise ConfigError(f"fit {self.name} wants pseudo-labels but names no label store")

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that the student reads."""
        return tuple(self.student["encoders"])

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits of the rows that the fit sees."""
        return tuple(sorted({str(one.split) for one in self.rows}))

    def total_steps(self, batches_per_epoch: int) -> int:
        """Return the number of optimizer steps."""
        if self.num_steps is not None:
            return self.num_steps
        return (self.num_epochs or 0) * batches_per_epoch

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that ``from_dict`` reads back."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "FitSpec":
        """Build a fit from plain data."""
        rows = tuple(
            RowSelection(**{**one, "modalities": tuple(one.get("modalities", ()))})
            for one in plain["rows"]
        )
        return cls(**{**plain, "rows": rows})

    def fingerprint(self) -> str:
        """Return 16 hex digits that change whenever the trained network could."""
        plain = self.to_dict()
        del plain["name"], plain["arm"]
        for one in plain["rows"]:
            for key in _OF_SOME_ROWS:
                if one[key] is None:
                    del one[key]
        for key in _NEWER_KEYS:
            if not plain[key]:
                del plain[key]
        for one in plain["student"]["encoders"].values():
            if one.get("digest"):  # it says which files, wherever they lie
                one.pop("path", None)
                one.pop("revision", None)
        for key in _SWITCHES:
            if not plain["objective"].get(key, True):
                del plain["objective"][key]
        return fingerprint(plain)


def revisions_of(samples: UnitStore, splits: Iterable[str]) -> str:
    """Return what changes whenever samples of some splits are read again; "" before they were.

    Args:
        samples: The sample store.
        splits: Splits of the samples.
    """
    revisions = samples.revisions(splits)
    return fingerprint(revisions) if revisions else ""


@dataclass(frozen=True, slots=True)
class FitStore:
    """Finished fits below ``fits/``; a fit is finished when its ``done.json`` is there.

    Its files lie in a folder of the attempt that won, which ``done.json`` names: of two writers
    of the same fit neither touches the files of the other.

    Args:
        root: Root of the run.
    """

    root: Root

    def has(self, fit: str) -> bool:
        """Return whether a fit is finished."""
        return self._folder(fit).exists(DONE)

    def save(self, fit: str, files: Mapping[str, bytes]) -> bool:
        """Store the files of a finished fit; ``done.json`` with their digests comes last.

        The first to create it wins, and whoever comes later deletes its own files.

        Args:
            fit: Fingerprint of the fit.
            files: Content by name: the student's files, ``fit.json`` and ``history.json``.

        Returns:
            True when this call finished the fit, False when it was finished already.
        """
        if self.has(fit):
            return False
        attempt = f"attempt-{uuid.uuid4().hex[:12]}"
        store = self._folder(fit).child(attempt)
        for name, content in files.items():
            store.write(name, content)
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        if self._claim(fit, attempt, digests):
            return True
        with contextlib.suppress(OSError):
            for name in files:
                store.delete(name)
        return False

    def load(self, fit: str, classes: Mapping[str, type] | None = None) -> LoadedStudent:
        """Return the student of a finished fit.

        Args:
            fit: Fingerprint of the fit.
            classes: The user's own encoders and fusions by their ``_target_``.

        Raises:
            StoreError: The fit is not finished, or its weights are not those that were stored.
        """
        self._read_weights(fit)
        return load_student(self.student_folder(fit), classes=classes)

    def weights(self, fit: str) -> dict[str, Tensor]:
        """Return the weights of a finished fit by name, its digest checked."""
        return safetensors.torch.load(self._read_weights(fit))

    def facts(self, fit: str) -> dict[str, Any]:
        """Return what ``fit.json`` says: the specification, steps and seconds."""
        return json.loads(self.student_folder(fit).read("fit.json"))

    def history(self, fit: str) -> list[dict[str, Any]]:
        """Return the logged steps of a finished fit."""
        return json.loads(self.student_folder(fit).read("history.json"))

    def weights_digest(self, fit: str) -> str:
        """Return the SHA-256 of the weights file of a finished fit."""
        return self._done(fit)["sha256"][WEIGHTS_NAME]

    def student_folder(self, fit: str) -> Root:
        """Return the folder with the student of a finished fit, as ``load_student`` opens it.

        Raises:
            StoreError: The fit is not finished.
        """
        return self._folder(fit).child(self._done(fit)["attempt"])

    def _folder(self, fit: str) -> Root:
        """Return the folder of a fit, finished or not."""
        return self.root.child("fits", fit)

    def _claim(self, fit: str, attempt: str, digests: Mapping[str, str]) -> bool:
        """Create the record that a fit is finished, unless somebody else's is there."""
        done = {"format_version": FIT_FORMAT_VERSION, "attempt": attempt, "sha256": digests}
        if self._folder(fit).create(DONE, json.dumps(done, indent=1).encode()):
            return True
        # A request that was repeated after a lost answer finds its own record: that is a win.
        return self._done(fit)["attempt"] == attempt

    def _read_weights(self, fit: str) -> bytes:
        """Return the weights file of a finished fit, refused unless it is the one stored."""
        digest = self.weights_digest(fit)
        content = self.student_folder(fit).read(WEIGHTS_NAME)
        if hashlib.sha256(content).hexdigest() != digest:
            raise StoreError(
                f"{self.student_folder(fit).uri}/{WEIGHTS_NAME} is not the file that the fit "
                f"stored; delete {self._folder(fit).uri} and train the fit again"
            )
        return content

    def _done(self, fit: str) -> dict[str, Any]:
        """Return the record that a fit is finished."""
        folder = self._folder(fit)
        try:
            done = json.loads(folder.read(DONE))
        except FileNotFoundError:
            raise StoreError(f"{folder.uri} holds no finished fit; train it first") from None
        if done["format_version"] != FIT_FORMAT_VERSION:
            raise StoreError(
                f"{folder.uri} has format version {done['format_version']}, this mke_ray reads "
                f"{FIT_FORMAT_VERSION}; delete it and train the fit again, or use another root"
            )
        return done
