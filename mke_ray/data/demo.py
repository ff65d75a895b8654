"""The shipped demo: a source that makes its own bucket of videos, the same for the same seed."""

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

import numpy as np

from mke_ray.data import demo_audio, demo_video
from mke_ray.data.demo_writer import BROKEN_KINDS, ClipPlan, ClipWriter, write_clips
from mke_ray.data.made_files import FileCounter, claim
from mke_ray.data.sources import Progress, Reader, SourceRow
from mke_ray.data.videos import VideosSource
from mke_ray.errors import ConfigError
from mke_ray.schema import DecodeSpec, LabelSpace, Split
from mke_ray.storage import open_root

CLASSES = tuple(str(digit) for digit in range(10))
TABLE = "clips.csv"
SETTINGS = "demo.json"

NO_DIGIT = -1

_VERSION = 1
_NO_DIGITS = ("*", "#")
_SPOIL = 7  # stream of random numbers, behind those of the writer


@dataclass(frozen=True, slots=True)
class DemoSource:
    """Videos in which a handwritten digit drifts while its telephone tone pair sounds.

    The images are scikit-learn's real digits; those of one split are in no other. Some files of
    the unlabeled split are broken. The table knows the true labels of the unlabeled clips, for
    reporting alone.

    Args:
        root: Local folder or URI that the files are written to.
        data_seed: Seed of the data set.
        num_labelled: Clips with a label.
        num_unlabeled: Clips without a label that can be read.
        num_probe: Labelled multimodal clips for choices and the gate.
        num_test: Clips of the test set.
        num_broken: Files of the unlabeled split that cannot be read, or not in full.
        dependence: Correlation between how bad picture and sound are, 0 (independent given the
            class) to 1; it changes neither modality alone.
        irrelevant: Share of the unlabeled clips that are of no class: a picture of scrambled
            pixels, and the sound of a key that is no digit.
        swapped: Share of the unlabeled clips whose sound is that of another digit.
        num_processes: Processes that write, None for one per CPU.
        storage_options: Options of the file system.
    """

    root: str
    data_seed: int = 0
    num_labelled: int = 150
    num_unlabeled: int = 1200
    num_probe: int = 200
    num_test: int = 500
    num_broken: int = 8
    dependence: float = 0.0
    irrelevant: float = 0.0
    swapped: float = 0.0
    num_processes: int | None = None
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def label_space(self) -> LabelSpace:
        """The ten digits."""
        return LabelSpace(CLASSES)

    def identity(self) -> dict[str, Any]:
        """Return what determines every file."""
        spoilt = {"irrelevant": self.irrelevant, "swapped": self.swapped}
        return {
            "source": "demo",
            "version": _VERSION,
            "data_seed": self.data_seed,
            "counts": self._counts(),
            "num_broken": self.num_broken,
            "dependence": self.dependence,
            "video": asdict(demo_video.DIFFICULTY),
            "audio": asdict(demo_audio.DIFFICULTY),
            **{name: share for name, share in spoilt.items() if share},
        }

    def prepare(self, progress: Progress | None = None) -> None:
        """Write the files that are not there yet, and then the table.

        Raises:
            ConfigError: A number is out of range, or the root holds another demo.
        """
        self._check()
        root = open_root(self.root, self.storage_options)
        claim(root, self.identity(), settings=SETTINGS, key="source.root")
        if root.exists(TABLE):
            return
        plans = plan_clips(self._counts(), num_broken=self.num_broken, data_seed=self.data_seed)
        spoil = {"irrelevant": self.irrelevant, "swapped": self.swapped}
        plans = spoilt_clips(plans, **spoil, data_seed=self.data_seed)
        there = set(root.names("clips"))
        missing = [plan for plan in plans if plan.key not in there]
        counter = FileCounter(len(plans) - len(missing), len(plans), progress)
        write_clips(
            ClipWriter(root, self.data_seed, self.dependence),
            missing,
            num_processes=self.num_processes or os.cpu_count() or 1,
            progress=counter.add,
        )
        root.write(TABLE, _table(plans))

    def preview(self, scratch: str) -> "DemoSource":
        """Return the same demo with a few clips in a scratch folder, for a rehearsal."""
        source = DemoSource(
            root=scratch,
            data_seed=self.data_seed,
            num_labelled=min(self.num_labelled, 2),
            num_unlabeled=min(self.num_unlabeled, 2),
            num_probe=min(self.num_probe, 2),
            num_test=min(self.num_test, 2),
            num_broken=0,
            dependence=self.dependence,
            irrelevant=self.irrelevant,
            swapped=self.swapped,
            num_processes=1,
        )
        source.prepare()
        return source

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield the rows of the table, those behind a cursor where one is given."""
        return self._videos.rows(after)

    def reader(self, spec: DecodeSpec) -> Reader:
        """Return a reader of the files."""
        return self._videos.reader(spec)

    @property
    def _videos(self) -> VideosSource:
        options = self.storage_options
        return VideosSource(self.root, CLASSES, table=TABLE, storage_options=options)

    def _counts(self) -> dict[str, int]:
        return {
            Split.LABELLED.value: self.num_labelled,
            Split.UNLABELED.value: self.num_unlabeled,
            Split.PROBE.value: self.num_probe,
            Split.TEST.value: self.num_test,
        }

    def _check(self) -> None:
        if not 0.0 <= self.dependence <= 1.0:
            raise ConfigError(f"source.dependence={self.dependence} must be between 0 and 1")
        for name, share in (("irrelevant", self.irrelevant), ("swapped", self.swapped)):
            if not 0.0 <= share < 1.0:
                raise ConfigError(f"source.{name}={share}; give a share from 0 to below 1")
        for split, number in self._counts().items():
            if number < 1:
                raise ConfigError(f"source.num_{split}={number}; the demo needs at least 1")
        if self.num_broken < 0:
            raise ConfigError(f"source.num_broken={self.num_broken} must be 0 or more")


def plan_clips(counts: Mapping[str, int], *, num_broken: int, data_seed: int) -> list[ClipPlan]:
    """Return every file of the demo, split by split.

    Args:
        counts: Readable clips per split.
        num_broken: Broken files, spread over the unlabeled split.
        data_seed: Decides which images belong to which split.
    """
    from sklearn.datasets import load_digits  # noqa: PLC0415 - seconds, and no reader needs it

    digits = cast(Any, load_digits())
    order = np.random.default_rng(data_seed).permutation(len(digits.target))
    shares = _images_per_split(counts, len(order))
    plans: list[ClipPlan] = []
    for split, number in counts.items():
        images, order = order[: shares[split]], order[shares[split] :]
        broken = _broken_at(number, num_broken) if split == Split.UNLABELED else {}
        for position in range(number + len(broken)):
            image = int(images[position % len(images)])
            index = len(plans)
            plans.append(
                ClipPlan(
                    index=index,
                    key=f"clips/clip-{index:06d}.mp4",
                    digit=int(digits.target[image]),
                    pixels=digits.images[image].astype(np.uint8).tobytes(),
                    group=f"digit-{image:04d}",
                    split=split,
                    broken=broken.get(position, ""),
                )
            )
    return plans


def spoilt_clips(
    plans: Sequence[ClipPlan], *, irrelevant: float, swapped: float, data_seed: int
) -> list[ClipPlan]:
    """Return the clips with some unlabeled ones of no class, and some with another's sound.

    Each unlabeled clip has a draw of its own for both, so that of two shares the clips of the
    smaller are among those of the larger. What is of no class keeps its sound.

    Args:
        plans: The clips.
        irrelevant: Share of the unlabeled ones that are of no class.
        swapped: Share of the others whose sound is of another digit.
        data_seed: Seed of the data set.
    """
    found = []
    for plan in plans:
        draw, other, order = np.random.default_rng([data_seed, plan.index, _SPOIL]).random(3)
        if plan.split == Split.UNLABELED and draw < irrelevant:
            pixels = np.random.default_rng(int(order * 2**32)).permutation(64)
            scrambled = np.frombuffer(plan.pixels, np.uint8)[pixels].tobytes()
            sound = _NO_DIGITS[int(other * len(_NO_DIGITS))]
            plan = replace(plan, digit=NO_DIGIT, pixels=scrambled, sound=sound)  # noqa: PLW2901
        elif plan.split == Split.UNLABELED and other < swapped:
            steps = 1 + int(order * (len(CLASSES) - 1))
            sound = str((plan.digit + steps) % len(CLASSES))
            plan = replace(plan, sound=sound)  # noqa: PLW2901
        found.append(plan)
    return found


def _images_per_split(counts: Mapping[str, int], num_images: int) -> dict[str, int]:
    """Return how many images each split has to itself.

    The labelled splits get one per clip while that takes no more than two thirds of all; the
    unlabeled one shows what is left, again and again where it is larger.
    """
    labelled = {split: number for split, number in counts.items() if split != Split.UNLABELED}
    scale = min(1.0, num_images * 2 / 3 / sum(labelled.values()))
    shares = {split: max(int(number * scale), 1) for split, number in labelled.items()}
    rest = num_images - sum(shares.values())
    return shares | {Split.UNLABELED.value: min(rest, counts[Split.UNLABELED.value])}


def _broken_at(number: int, num_broken: int) -> dict[int, str]:
    """Return at which positions of the unlabeled split a broken file lies, and how it is broken."""
    step = (number + num_broken) / max(num_broken, 1)
    kinds = BROKEN_KINDS
    return {int((k + 0.5) * step): kinds[k % len(kinds)] for k in range(num_broken)}


def _table(plans: list[ClipPlan]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["uri", "label", "group", "split"])
    for plan in plans:
        label = "" if plan.digit == NO_DIGIT else CLASSES[plan.digit]
        table.writerow([plan.key, label, plan.group, plan.split])
    return text.getvalue().encode()
