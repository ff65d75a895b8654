"""What a network that tells nothing of its input is given, and what its answer means."""

# B samples, T frames, H height, W width, C channels, N sound samples, D features, K classes.

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError

LOGITS = "logits"
PROBABILITIES = "probabilities"
STORED_AXES = {"video": "BTHWC", "image": "BHWC", "depth": "BHWC", "audio": "BN", "features": "BD"}

_SMALLEST = 1e-7


@dataclass(frozen=True, slots=True)
class ArrayForm:
    """The input that a network wants, and what it answers.

    Args:
        stored: Kind of the stored array: one of ``STORED_AXES``.
        layout: Axes of the input, by the letters of the stored ones and ``1`` for an axis of length
            one: ``BCHW``, ``BTCHW``, ``B1N``. A video whose layout has no T is seen frame by frame,
            and answered by the mean over its frames. None is the stored order.
        size: Height and width to resize to; None keeps those that are stored.
        num_frames: Frames that the network wants, evenly spaced; None keeps all.
        scale: Factor of every value: 1/255 makes pixels run from 0 to 1.
        mean: Taken away after scaling: one number per channel, or one.
        std: Divisor after that: one number per channel, or one.
        answers: ``logits``, or ``probabilities``, of which the logarithm (of many classes at once
            the log-odds) is taken.

    Raises:
        ConfigError: A word is unknown, or the layout is not of these axes.
    """

    stored: str
    layout: str | None = None
    size: Sequence[int] | None = None
    num_frames: int | None = None
    scale: float = 1.0
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)
    answers: str = LOGITS

    def __post_init__(self) -> None:
        """Check words and axes."""
        if self.stored not in STORED_AXES:
            raise ConfigError(f"form.stored={self.stored}; choose one of {sorted(STORED_AXES)}")
        if self.answers not in (LOGITS, PROBABILITIES):
            raise ConfigError(f"form.answers={self.answers}; choose {LOGITS} or {PROBABILITIES}")
        axes, wanted = STORED_AXES[self.stored], self.axes.replace("1", "")
        frames = {axes, axes.replace("T", "")}
        if sorted(wanted) not in [sorted(one) for one in frames]:
            raise ConfigError(
                f"form.layout={self.layout}; the stored {self.stored} has the axes {axes}: name "
                "each of them once (T may be left out), and 1 for one of length one"
            )

    @property
    def axes(self) -> str:
        """The axes of the input."""
        return self.layout or STORED_AXES[self.stored]

    @property
    def sees_frames(self) -> bool:
        """Whether a video is seen frame by frame."""
        return self.stored == "video" and "T" not in self.axes

    def inputs(self, x_BX: Tensor) -> Tensor:
        """Return the float32 input for stored arrays; of a video seen frame by frame [B T, ...]."""
        if self.num_frames is not None and self.stored == "video":
            chosen_T = torch.linspace(0, x_BX.shape[1] - 1, self.num_frames).round().long()
            x_BX = x_BX[:, chosen_T]
        axes = STORED_AXES[self.stored]
        if self.sees_frames:
            x_BX, axes = x_BX.flatten(0, 1), axes.replace("T", "")
        x_BX = self._resized(x_BX.to(torch.float32), axes) * self.scale
        x_BX = (x_BX - x_BX.new_tensor(list(self.mean))) / x_BX.new_tensor(list(self.std))
        order = [axes.index(one) for one in self.axes.replace("1", "")]
        x_BX = x_BX.permute(order)
        for place, one in enumerate(self.axes):
            x_BX = x_BX.unsqueeze(place) if one == "1" else x_BX
        return x_BX.contiguous()

    def logits(self, answers_BK: Tensor, *, is_multi: bool) -> Tensor:
        """Return float32 logits of what a network answers.

        Args:
            answers_BK: Its answers.
            is_multi: Whether many classes may hold at once.
        """
        answers_BK = answers_BK.to(torch.float32)
        if self.answers == LOGITS:
            return answers_BK
        if is_multi:
            return torch.logit(answers_BK.double(), eps=_SMALLEST).float()
        return answers_BK.clamp(min=_SMALLEST).log()

    def answered(
        self, arrays_BX: np.ndarray | Tensor, answers: Callable[[Tensor], Tensor], *, is_multi: bool
    ) -> Tensor:
        """Return logits of stored arrays by a network.

        Args:
            arrays_BX: Stored arrays [B, ...].
            answers: Answers of the network for its input.
            is_multi: Whether many classes may hold at once.
        """
        x_BX = torch.as_tensor(arrays_BX)
        said = self.logits(answers(self.inputs(x_BX)), is_multi=is_multi)
        if not self.sees_frames or not len(x_BX):
            return said
        return said.unflatten(0, (len(x_BX), -1)).mean(dim=1)

    def _resized(self, x_BX: Tensor, axes: str) -> Tensor:
        """Return pictures at the wanted size."""
        if self.size is None:
            return x_BX
        if "H" not in axes:
            raise ConfigError(f"form.size={list(self.size)} is for pictures, not {self.stored}")
        shape = x_BX.shape
        x_BCHW = x_BX.reshape(-1, *shape[-3:]).permute(0, 3, 1, 2)
        x_BCHW = nn.functional.interpolate(
            x_BCHW, tuple(self.size), mode="bilinear", antialias=True
        )
        return x_BCHW.permute(0, 2, 3, 1).reshape(*shape[:-3], *self.size, shape[-1])


def form_of(plain: Mapping[str, Any] | None) -> ArrayForm:
    """Return a form from plain data.

    Raises:
        ConfigError: There is none, a key is unknown, or ``stored`` is missing.
    """
    given = dict(plain or {})
    known = [one.name for one in fields(ArrayForm)]
    if "stored" not in given:
        raise ConfigError(
            f"form={given or None}: a file does not say what its network reads; give form.stored, "
            f"the kind of the stored array (one of {sorted(STORED_AXES)}), and what differs from "
            f"the defaults of {known[1:]}, as in form={{stored: audio, layout: B1N}}"
        )
    if unknown := sorted(set(given) - set(known)):
        raise ConfigError(f"form has the keys {unknown}; choose from {known}")
    return ArrayForm(**given)
