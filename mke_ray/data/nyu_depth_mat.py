"""NYU Depth V2 as its authors ship it: one MATLAB file of pictures, depths and labels."""

# L labels of the file.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mke_ray.data.hdf5 import Hdf5File
from mke_ray.data.lookup import place_of, place_of_files
from mke_ray.data.matlab_files import read_matlab, vector
from mke_ray.data.nyu_classes import (
    CLASSES,
    MAPPINGS,
    TEST_LIST,
    TRAIN_LIST,
    check_numbers,
    deal_out,
)
from mke_ray.data.nyu_mat_reader import ARRAYS, DEPTH, RGB, NyuMatReader
from mke_ray.data.places import places_of
from mke_ray.data.reachable import check_file, check_given, check_root, is_there
from mke_ray.data.scene_files import DepthFiles, MaskFiles
from mke_ray.data.sources import Progress, SourceRow
from mke_ray.errors import ConfigError
from mke_ray.schema import (
    IGNORE,
    MASK,
    DecodeSpec,
    DepthSpec,
    ImageSpec,
    LabelKind,
    LabelSpace,
    MaskSpec,
    Split,
)
from mke_ray.storage import Root

_KINDS = {RGB: ImageSpec, DEPTH: DepthSpec, MASK: MaskSpec}

_ABOUT = (
    "NYU Depth V2: nyu_depth_v2_labeled.mat, the official split in splits.mat (or train.txt and "
    "test.txt, a number a line), and classMapping40.mat, which gives each of the 894 names of the "
    "file one of 40 classes. The data are not part of this project; get them from their authors"
)


@dataclass(frozen=True, slots=True)
class NyuDepthMatSource:
    """The 1,449 labelled samples of NYU Depth V2 from the file that its authors publish.

    A sample is a picture, its depth and the class of every pixel, read from the file one at a time.
    A group is a scene. The official test list is the test split; ``data_seed`` deals the scenes of
    the training list out to the others. True classes of the unlabeled split are kept for reporting
    and for supervised arms.

    Args:
        root: Local folder or URI that holds the files.
        num_classes: 13 or 40.
        labelled: Samples of the labelled split; a whole scene more may come.
        probe: Samples of the probe.
        unlabeled: Samples of the unlabeled split; None takes the rest of the training list.
        data_seed: Seed of the draw.
        has_depth_on_labelled: Whether the labelled split has depth, or pictures alone.
        view_deg: Horizontal angle of view of the camera in degrees.
        file: Name of the MATLAB file (version 7.3, which is HDF5).
        splits: Name of the MATLAB file with ``trainNdxs`` and ``testNdxs``; where it is not there,
            ``train.txt`` and ``test.txt`` are read.
        mapping: Name of the MATLAB file with ``mapClass``, the class of 40 of every name.
        endpoint_url: Address of a store other than the provider's own.
        region: Region of the bucket.
        anonymous: Reach the bucket without credentials.
        storage_options: Further options of the file system; never stored.

    Source:
        Silberman, Hoiem, Kohli, Fergus, Indoor Segmentation and Support Inference from RGBD Images,
        ECCV 2012. 40 classes: Gupta, Arbelaez, Malik, Perceptual Organization and Recognition of
        Indoor Scenes from RGB-D Images, CVPR 2013. 13 classes: Couprie et al., ICLR 2013.
    """

    root: str | None
    num_classes: int = 40
    labelled: int = 200
    probe: int = 100
    unlabeled: int | None = None
    data_seed: int = 0
    has_depth_on_labelled: bool = False
    view_deg: float = 63.3
    file: str = "nyu_depth_v2_labeled.mat"
    splits: str = "splits.mat"
    mapping: str = "classMapping40.mat"
    endpoint_url: str | None = None
    region: str | None = None
    anonymous: bool = False
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check the root and the numbers."""
        check_given(self.root, f"hold {_ABOUT}")
        check_numbers(
            num_classes=self.num_classes,
            labelled=self.labelled,
            probe=self.probe,
            unlabeled=self.unlabeled,
        )

    @property
    def label_space(self) -> LabelSpace:
        """The classes of the pixels."""
        return LabelSpace(CLASSES[self.num_classes], LabelKind.DENSE, IGNORE)

    def identity(self) -> dict[str, Any]:
        """Return what may not change under one root."""
        return {
            "source": "nyu_depth_v2_mat",
            "file": self.file,
            "lists": [self.splits, self.mapping],
            "label_space": self.label_space.to_dict(),
            "drawn": [self.labelled, self.probe, self.unlabeled, self.data_seed],
            "has_depth_on_labelled": self.has_depth_on_labelled,
            "view_deg": self.view_deg,
        }

    def place(self) -> str:
        """Return the URI of every file that is read, and its version."""
        return place_of_files(self._location, (self.file, self.mapping, *self._split_files()))

    def prepare(self, progress: Progress | None = None) -> None:
        """Check that the files are there.

        Raises:
            ConfigError: One is not.
        """
        check_root(self._location, given=self.root, holds="files of NYU Depth V2")
        for key in ("file", "mapping"):
            self._check(f"source.{key}", getattr(self, key))
        for name in self._split_files():
            self._check("official split", name)

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield the samples, split after split, by their numbers.

        Args:
            after: Cursor of the row to go on behind.

        Raises:
            ConfigError: A file is not what it should be, or fewer samples are there than wanted.
        """
        self.prepare()
        version = " ".join(self._version(one) for one in (self.file, self.mapping))
        scene_of = self._scenes()
        train, test = self._lists(len(scene_of))
        drawn = deal_out(
            train,
            test,
            wanted=(self.labelled, self.probe, self.unlabeled),
            data_seed=self.data_seed,
            train_list="the training list",
            scene_of=scene_of,
        )
        named = [(split, key) for split, keys in drawn.items() for key in keys]
        for number, (split, key) in enumerate(named[int(after or 0) :], start=int(after or 0) + 1):
            yield SourceRow(
                key=f"{self.file}#{key}",
                size=-1,
                etag=version,
                start_s=None,
                end_s=None,
                group=scene_of[key],
                split=split.value,
                labels=(),
                cursor=str(number),
            )

    def reader(self, spec: DecodeSpec) -> NyuMatReader:
        """Return a reader of samples of the file.

        Raises:
            ConfigError: The specification asks for what is not there, or the mapping is none.
        """
        for name, one in spec.items():
            if name not in _KINDS or not isinstance(one, _KINDS[name]):
                kinds = {known: kind(1, 1).kind for known, kind in _KINDS.items()}
                raise ConfigError(f"decode.{name}.kind={one.kind}: NYU Depth V2 has {kinds}")
        if MASK not in spec:
            raise ConfigError(
                f"decode has no {MASK}, the true classes; add decode.{MASK}={{kind: mask, height: "
                "480, width: 640}"
            )
        withheld = () if self.has_depth_on_labelled else (DEPTH,)
        return NyuMatReader(
            Hdf5File(self._location, self.file),
            spec,
            DepthFiles(1.0, self.view_deg),
            MaskFiles.of(self.label_space, None),
            self._class_of_label(),
            {Split.LABELLED.value: withheld},
        )

    @property
    def _location(self) -> Root:
        return places_of(self, self.root or "").root

    def _split_files(self) -> tuple[str, ...]:
        """Return the files with the official split: the MATLAB file, or two lists without it."""
        is_matlab = is_there(self._location, self.splits, key="source.root")
        return (self.splits,) if is_matlab else (TRAIN_LIST, TEST_LIST)

    def _version(self, name: str) -> str:
        """Return the version of a file; pixels depend on that of the mapping too."""
        return place_of(self._location, (self._location, name)).rsplit(" ", 1)[-1]

    def _check(self, key: str, name: str) -> None:
        check_file(self._location, name, key=key, given=self.root, has_to=f"hold {_ABOUT}")

    def _scenes(self) -> dict[str, str]:
        """Return the scene of every sample by its key; of itself where the file does not say."""
        file = Hdf5File(self._location, self.file)
        num = len(file.dataset(ARRAYS[RGB]))
        keys = [f"{number:04d}" for number in range(1, num + 1)]
        if not file.has("scenes"):
            return {key: key for key in keys}
        references = np.asarray(file.dataset("scenes")).ravel()
        return {key: file.text(one) for key, one in zip(keys, references, strict=True)}

    def _lists(self, num: int) -> tuple[list[str], list[str]]:
        """Return the keys of the official training and test list.

        Raises:
            ConfigError: They name samples that there are not, or one twice.
        """
        if self._split_files() == (self.splits,):
            content = read_matlab(self._location, self.splits)
            lists = [vector(content, one, self.splits) for one in ("trainNdxs", "testNdxs")]
        else:
            texts = [self._location.read(one).decode().split() for one in (TRAIN_LIST, TEST_LIST)]
            lists = [[int(one) if one.isdecimal() else 0 for one in text] for text in texts]
        every = [one for some in lists for one in some]
        if len(set(every)) != len(every) or not set(every) <= set(range(1, num + 1)):
            raise ConfigError(
                f"source.splits: the lists name {len(every)} samples of which some are there twice "
                f"or are no number from 1 to {num}; give the official split"
            )
        train, test = ([f"{one:04d}" for one in some] for some in lists)
        return train, test

    def _class_of_label(self) -> np.ndarray:
        """Return the class of every label of the file [L + 1], ``IGNORE`` for 0, which is none.

        Raises:
            ConfigError: The file of the mapping is none.
        """
        self._check("source.mapping", self.mapping)
        of_40 = vector(read_matlab(self._location, self.mapping), "mapClass", self.mapping)
        if not of_40 or min(of_40) < 1 or max(of_40) > len(MAPPINGS[40]):
            raise ConfigError(
                f"source.mapping={self.mapping}: mapClass has to hold a class from 1 to 40 for "
                f"every name, found {min(of_40, default=0)} to {max(of_40, default=0)}"
            )
        mapping = MAPPINGS[self.num_classes]
        return np.array([IGNORE, *(mapping[one - 1] for one in of_40)], dtype=np.int64)
