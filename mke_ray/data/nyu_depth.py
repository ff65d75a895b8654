"""NYU Depth V2 as folders of pictures: RGB, depth and 13 or 40 classes, by the official split."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mke_ray.data.nyu_classes import (
    CLASSES,
    MAPPINGS,
    TEST_LIST,
    TRAIN_LIST,
    check_numbers,
    deal_out,
)
from mke_ray.data.pairs import PairsSource
from mke_ray.data.pairs_reader import PairsReader
from mke_ray.data.reachable import check_file, check_given
from mke_ray.data.sources import Progress, SourceRow
from mke_ray.data.table_rows import TableRow
from mke_ray.schema import MASK, DecodeSpec, LabelKind, LabelSpace, Split

FILES = {"rgb": "rgb/{key}.jpg", "depth": "depth/{key}.png", MASK: "label/{key}.png"}

_FOLDER = (
    "a folder of NYU Depth V2 as pictures: rgb/NNNN.jpg, depth/NNNN.png, label/NNNN.png, and the "
    "official split in train.txt and test.txt, a number NNNN a line. The data are not part of this "
    "project; get them from their authors"
)


@dataclass(frozen=True, slots=True)
class NyuDepthSource:
    """The labelled set of NYU Depth V2 in the folders ``rgb``, ``depth`` and ``label``.

    ``rgb/NNNN.jpg``, ``depth/NNNN.png`` and ``label/NNNN.png`` (class ids 0 to 39 of the 40-class
    labelling, 255 for none) are one sample; ``train.txt`` and ``test.txt`` list the official split.
    The samples of the test list are the test split; ``data_seed`` draws the others from the train
    list. True classes of the unlabeled split are kept for reporting and for supervised arms.

    Args:
        root: Local folder or URI that holds these.
        num_classes: 13 or 40.
        labelled: Samples of the labelled split.
        probe: Samples of the probe.
        unlabeled: Samples of the unlabeled split; None takes the rest of the train list.
        data_seed: Seed of the draw.
        has_depth_on_labelled: Whether the labelled split has depth, or pictures alone.
        metres_per_step: Metres that a step of the depth files stands for.
        view_deg: Horizontal angle of view of the camera in degrees.
        storage_options: Options of the file system; never stored.
        places: Folders outside the root that links of a local disk may lead to.

    Source:
        Silberman, Hoiem, Kohli, Fergus, Indoor Segmentation and Support Inference from RGBD Images,
        ECCV 2012; 13 classes: Couprie, Farabet, Najman, LeCun, Indoor Semantic Segmentation using
        Depth Information, ICLR 2013.
    """

    root: str | None
    num_classes: int = 13
    labelled: int = 200
    probe: int = 50
    unlabeled: int | None = None
    data_seed: int = 0
    has_depth_on_labelled: bool = False
    metres_per_step: float = 10.0 / 255.0
    view_deg: float = 63.3
    storage_options: dict[str, Any] | None = field(default=None, repr=False)
    places: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check the root and the numbers."""
        check_given(self.root, f"be {_FOLDER}")
        check_numbers(
            num_classes=self.num_classes,
            labelled=self.labelled,
            probe=self.probe,
            unlabeled=self.unlabeled,
        )

    @property
    def label_space(self) -> LabelSpace:
        """The classes of the pixels."""
        return self._pairs.label_space

    def identity(self) -> dict[str, Any]:
        """Return what may not change under one root."""
        drawn = [self.labelled, self.probe, self.unlabeled, self.data_seed]
        return {**self._pairs.identity(), "source": "nyu_depth_v2", "drawn": drawn}

    def place(self) -> str:
        """Return the URI of the root."""
        return self._pairs.place()

    def prepare(self, progress: Progress | None = None) -> None:
        """Check that the pictures are there.

        Raises:
            ConfigError: They are not.
        """
        root = self._pairs.location
        for name in (TRAIN_LIST, TEST_LIST):
            check_file(root, name, key="list", given=self.root, has_to=f"be {_FOLDER}")

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield the samples, split after split, in the order of their numbers.

        Args:
            after: Cursor of the row to begin behind.

        Raises:
            ConfigError: A list is missing, or shorter than what is to be drawn from it.
        """
        self.prepare()
        named = [(split, key) for split, keys in self._drawn().items() for key in keys]
        rows = (
            TableRow(number, key, "", "", split.value, None, None, None, "")
            for number, (split, key) in enumerate(named, start=1)
            if number > int(after or 0)
        )
        return self._pairs.rows_of(rows, table="train.txt, test.txt")

    def reader(self, spec: DecodeSpec) -> PairsReader:
        """Return a reader of pictures.

        Raises:
            ConfigError: The specification asks for what there is not.
        """
        return self._pairs.reader(spec)

    @property
    def _pairs(self) -> PairsSource:
        withheld = {} if self.has_depth_on_labelled else {Split.LABELLED.value: ["depth"]}
        return PairsSource(
            self.root or "",
            FILES,
            CLASSES[self.num_classes],
            table=TRAIN_LIST,
            label_kind=LabelKind.DENSE,
            mapping=MAPPINGS[self.num_classes],
            depth={"metres_per_step": self.metres_per_step, "view_deg": self.view_deg},
            withheld=withheld,
            storage_options=self.storage_options,
            places=self.places,
        )

    def _drawn(self) -> dict[Split, list[str]]:
        """Return the keys of every split."""
        return deal_out(
            self._listed(TRAIN_LIST),
            self._listed(TEST_LIST),
            wanted=(self.labelled, self.probe, self.unlabeled),
            data_seed=self.data_seed,
            train_list=TRAIN_LIST,
        )

    def _listed(self, name: str) -> list[str]:
        """Return the keys that a list names."""
        return self._pairs.location.read(name).decode().split()
