"""Reads samples of the MATLAB file of NYU Depth V2, one at a time."""

# H height, W width, L labels of the file.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mke_ray.data.hdf5 import Hdf5File
from mke_ray.data.pairs_reader import WITHHELD
from mke_ray.data.pictures import PILLOW, resized_picture
from mke_ray.data.scene_files import DepthFiles, MaskFiles
from mke_ray.data.sources import Decoded
from mke_ray.errors import MediaError
from mke_ray.schema import MASK, DecodeSpec, DepthSpec, ImageSpec, ManifestRow

RGB, DEPTH = "rgb", "depth"
ARRAYS: Mapping[str, str] = {RGB: "images", DEPTH: "depths", MASK: "labels"}


@dataclass(slots=True)
class NyuMatReader:
    """Reads single samples of the MATLAB file; its axes are turned round, as HDF5 has them.

    Args:
        file: The file.
        spec: What to decode.
        depth_files: How distances become channels.
        mask_files: How classes become a map.
        class_L: Class of every label, by its number; 0 is none.
        withheld: Per split the modalities that its samples are not given, though they are there.
    """

    file: Hdf5File
    spec: DecodeSpec
    depth_files: DepthFiles
    mask_files: MaskFiles
    class_L: np.ndarray
    withheld: Mapping[str, Sequence[str]]

    def read(self, row: ManifestRow) -> Decoded:
        """Return the arrays of one sample.

        Raises:
            MediaError: The file is damaged where the sample lies, or a label has no class.
            OSError: The store did not answer.
        """
        number = int(row.key.rsplit("#", 1)[1]) - 1
        withheld = self.withheld.get(row.split, ())
        decoded = Decoded({}, {one: WITHHELD for one in self.spec if one in withheld})
        for name, one in self.spec.items():
            if name in withheld:
                continue
            with self.file.reading(row.key):
                stored = np.asarray(self.file.dataset(ARRAYS[name])[number])
            decoded.arrays[name] = self._decode(stored.T, one)  # [W, H] or [3, W, H] in the file
            decoded.num_bytes_read += stored.nbytes
        decoded.num_bytes_needed, decoded.decoder = decoded.num_bytes_read, PILLOW
        return decoded

    def _decode(self, array: np.ndarray, spec: Any) -> np.ndarray:
        if isinstance(spec, ImageSpec):
            return resized_picture(array, spec)
        if isinstance(spec, DepthSpec):
            return self.depth_files.of_metres(array.astype(np.float64), spec)
        if array.max(initial=0) >= len(self.class_L):
            raise MediaError("unknown_class", f"label {array.max()} has no class in source.mapping")
        return self.mask_files.of_values(self.class_L[array], spec)
