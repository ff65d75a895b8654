"""Teachers that are semantic segmenters of ``transformers``: a class at every stored pixel."""

# B pictures, H height, W width, C classes, Q queries, h w a smaller map.

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mke_ray.models.brought import Computer, fingerprint_of, label_space_of
from mke_ray.models.picture_input import DEVICE, PictureInput
from mke_ray.models.pretrained import find_pretrained, load_part, load_whole
from mke_ray.schema import LabelKind

_OF_QUERIES = ("mask2former", "maskformer")
_MASK_SIZE = (384, 384)  # that of its own processor for every network of queries
_SMALLEST = 1e-7


class SegmenterTeacher:
    """A semantic segmenter: SegFormer and others of a map of logits, Mask2Former and MaskFormer.

    Args:
        path: Folder of ``save_pretrained``, or ``owner/name`` of the Hub.
        modality: Name of the modality.
        revision: Commit of the Hub.
        device: Device to compute on, first touched by ``predict``.
        batch_size: Pictures that are computed at once.
        preparation: ``device``, or ``own`` for the image processor itself.

    Raises:
        ConfigError: There is no such network, or it is no segmenter.
    """

    def __init__(
        self,
        path: str,
        *,
        modality: str = "rgb",
        revision: str | None = None,
        device: str = "cpu",
        batch_size: int = 8,
        preparation: str = DEVICE,
    ) -> None:
        self._found = find_pretrained(path, revision)
        self._has_queries = self._found.config.get("model_type") in _OF_QUERIES
        kind = "UniversalSegmentation" if self._has_queries else "SemanticSegmentation"
        self.network: nn.Module = load_whole(self._found, f"AutoModelFor{kind}")
        self.modality = modality
        self.needs: dict[str, Any] = {"kind": "image"}
        self.label_space = label_space_of(self.network, LabelKind.DENSE.value)
        self._input = PictureInput(load_part(self._found, "AutoImageProcessor"), preparation)
        self._said = {"preparation": preparation}
        self._computer = Computer(self.network, device, batch_size)

    def predict(self, arrays_BX: np.ndarray | Tensor) -> np.ndarray:
        """Return float32 logits [B, C, H, W] of pictures [B, H, W, 3]."""
        return self._computer.answers(arrays_BX, self._logits)

    def fingerprint(self) -> str:
        """Return a hash of the files of the network and of the arguments that matter."""
        return fingerprint_of(self, self._found, self._said)

    def _logits(self, x_BHW3: Tensor) -> Tensor:
        """Return logits at every stored pixel."""
        said = self.network(pixel_values=self._input(x_BHW3))
        size = (x_BHW3.shape[1], x_BHW3.shape[2])
        with torch.autocast(x_BHW3.device.type, enabled=False):  # logarithms need float32
            if not self._has_queries:
                return _at_pixels(said.logits.float(), size)
            classes_BQC, masks_BQhw = said.class_queries_logits, said.masks_queries_logits
            scores_BChw = _scores(classes_BQC.float(), masks_BQhw.float())
            return _at_pixels(scores_BChw, size).clamp(min=_SMALLEST).log()


def _scores(classes_BQC: Tensor, masks_BQhw: Tensor) -> Tensor:
    """Return how much of each class the masks of all queries say, without that of no object.

    Source:
        Cheng, Schwing, Kirillov, Per-pixel classification is not all you need for semantic
        segmentation, NeurIPS 2021, section 3.4 (semantic inference).
    """
    masks_BQhw = _at_pixels(masks_BQhw, _MASK_SIZE).sigmoid()
    return torch.einsum("bqc,bqhw->bchw", classes_BQC.softmax(dim=-1)[..., :-1], masks_BQhw)


def _at_pixels(maps_BChw: Tensor, size: tuple[int, int]) -> Tensor:
    return nn.functional.interpolate(maps_BChw, size, mode="bilinear", align_corners=False)
