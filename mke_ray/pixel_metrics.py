"""Metrics of dense labels: mean IoU, pixel accuracy, and scores of single samples."""

# N samples, C classes, H height, W width.

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mke_ray.errors import MkeRayError
from mke_ray.schema import IGNORE


@dataclass(frozen=True, slots=True, eq=False)
class PixelCounts:
    """Counted pixels of some samples, of which every metric of dense labels can be made.

    Args:
        intersection_NC: Pixels of a class that are named so [N, C].
        union_NC: Pixels that are of a class, or named so [N, C].
        num_right_N: Pixels named right [N].
        num_N: Pixels that count [N].
    """

    intersection_NC: NDArray
    union_NC: NDArray
    num_right_N: NDArray
    num_N: NDArray

    @classmethod
    def of_maps(cls, named_NHW: NDArray, truth_NHW: NDArray, num_classes: int) -> "PixelCounts":
        """Count the pixels of class maps.

        Args:
            named_NHW: Named classes, integers [N, H, W]; 255 names none and is wrong everywhere.
            truth_NHW: True classes [N, H, W]; 255 counts for nothing.
            num_classes: Number of classes C.
        """
        tables = [
            _table(named, truth, num_classes)
            for named, truth in zip(named_NHW, truth_NHW, strict=True)
        ]
        table_NCC = np.stack(tables) if tables else np.zeros((0, num_classes, num_classes + 1))
        right_NC = np.diagonal(table_NCC, axis1=1, axis2=2)
        true_NC, named_NC = table_NCC.sum(axis=2), table_NCC[:, :, :num_classes].sum(axis=1)
        return cls(
            right_NC.astype(np.int64),
            (true_NC + named_NC - right_NC).astype(np.int64),
            right_NC.sum(axis=1).astype(np.int64),
            true_NC.sum(axis=1).astype(np.int64),
        )

    @classmethod
    def joined(cls, parts: "list[PixelCounts]") -> "PixelCounts":
        """Return the counts of several lots of samples, one after the other."""
        return cls(
            np.concatenate([one.intersection_NC for one in parts]),
            np.concatenate([one.union_NC for one in parts]),
            np.concatenate([one.num_right_N for one in parts]),
            np.concatenate([one.num_N for one in parts]),
        )

    def class_ious(self) -> NDArray:
        """Return intersection over union of each class over all samples [C], NaN where none is."""
        union_C = self.union_NC.sum(axis=0)
        return np.where(
            union_C > 0, self.intersection_NC.sum(axis=0) / np.maximum(union_C, 1), np.nan
        )

    def miou(self) -> float:
        """Return the mean of that over the classes that occur or are named.

        Raises:
            MkeRayError: No pixel counts.
        """
        iou_C = self.class_ious()
        if np.isnan(iou_C).all():
            raise MkeRayError("mean IoU: no pixel with a known class; label some")
        return float(np.nanmean(iou_C))

    def pixel_accuracy(self) -> float:
        """Return the share of the pixels that count that are named right, 0 of none."""
        return float(self.num_right_N.sum() / max(self.num_N.sum(), 1))

    def scores(self) -> NDArray:
        """Return a score of each sample whose mean is the mean IoU, float64 [N].

        The mean IoU is no mean over samples, so whatever resamples scores of samples cannot take
        it as it is. The infinitesimal jackknife puts its first-order change with the weight of a
        sample in the place of the sample's score: the spread of the mean of these scores under
        resampling is, to first order, that of the mean IoU.

        Source:
            Jaeckel, The Infinitesimal Jackknife, Bell Laboratories 1972; Efron, Nonparametric
            Standard Errors and Confidence Intervals, Canadian Journal of Statistics 1981.
        """
        union_C = self.union_NC.sum(axis=0)
        seen = union_C > 0
        iou_C = self.class_ious()[seen]
        change_NC = (self.intersection_NC[:, seen] - iou_C * self.union_NC[:, seen]) / union_C[seen]
        return self.miou() + len(self.num_N) * change_NC.mean(axis=1)


def _table(named_HW: NDArray, truth_HW: NDArray, num_classes: int) -> NDArray:
    """Return how often each true class is named as each class, or as none, [C, C + 1]."""
    counts_HW = truth_HW != IGNORE
    truth = truth_HW[counts_HW].astype(np.int64)
    named = np.minimum(named_HW[counts_HW].astype(np.int64), num_classes)
    width = num_classes + 1
    return np.bincount(truth * width + named, minlength=num_classes * width).reshape(-1, width)
