"""Teachers that are classifiers of ``transformers``: of sound, of pictures and of clips."""

# B samples, T frames, H height, W width, N sound samples, C classes, X any.

from collections import Counter
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError
from mke_ray.models.device import checked_device
from mke_ray.models.picture_input import DEVICE, PictureInput
from mke_ray.models.pretrained import Pretrained, find_pretrained, load_part, load_whole, put_on
from mke_ray.models.sound_input import SoundInput
from mke_ray.schema import IGNORE, LabelKind, LabelSpace, fingerprint


class SoundTeacher:
    """A sound classifier: AST, Wav2Vec2, HuBERT, WavLM, or another of transformers.

    Args:
        path: Folder of ``save_pretrained``, or ``owner/name`` of the Hub.
        modality: Name of the modality.
        revision: Commit of the Hub.
        kind: ``single``, or ``multi`` where the network was trained with many classes at once
            (AudioSet).
        device: Device to compute on, first touched by ``predict``.
        batch_size: Samples that are computed at once.
        preparation: ``device``, or ``own`` for the feature extractor itself.

    Raises:
        ConfigError: There is no such network, or it is none for sound.
    """

    def __init__(
        self,
        path: str,
        *,
        modality: str = "audio",
        revision: str | None = None,
        kind: str = LabelKind.SINGLE.value,
        device: str = "cpu",
        batch_size: int = 32,
        preparation: str = DEVICE,
    ) -> None:
        self._found = find_pretrained(path, revision)
        self.network: nn.Module = load_whole(self._found, "AutoModelForAudioClassification")
        self.modality = modality
        self.label_space = label_space_of(self.network, kind)
        self._input = SoundInput(load_part(self._found, "AutoFeatureExtractor"), preparation)
        self.needs = {"kind": "audio", "sample_rate_hz": self._input.sample_rate_hz}
        self._said = {"kind": kind, "preparation": preparation}
        self._computer = Computer(self.network, device, batch_size)

    def predict(self, arrays_BN: np.ndarray | Tensor) -> np.ndarray:
        """Return float32 logits [B, C] of sound [B, N] in [-1, 1]."""
        return self._computer.answers(arrays_BN, self._logits)

    def fingerprint(self) -> str:
        """Return a hash of the files of the network and of the arguments that matter."""
        return fingerprint_of(self, self._found, self._said)

    def _logits(self, x_BN: Tensor) -> Tensor:
        return self.network(**self._input(x_BN.to(torch.float32))).logits


class PictureTeacher:
    """A picture classifier (ViT, ConvNeXt, ...), of video the mean of its logits over the frames.

    Args:
        path: Folder of ``save_pretrained``, or ``owner/name`` of the Hub.
        modality: Name of the modality.
        stored: ``video`` or ``image``.
        revision: Commit of the Hub.
        kind: ``single`` or ``multi``.
        device: Device to compute on, first touched by ``predict``.
        batch_size: Pictures that are computed at once.
        preparation: ``device``, or ``own`` for the image processor itself.

    Raises:
        ConfigError: There is no such network, or it is none for pictures.
    """

    def __init__(  # noqa: PLR0913
        self,
        path: str,
        *,
        modality: str = "video",
        stored: str = "video",
        revision: str | None = None,
        kind: str = LabelKind.SINGLE.value,
        device: str = "cpu",
        batch_size: int = 64,
        preparation: str = DEVICE,
    ) -> None:
        self._found = find_pretrained(path, revision)
        self.network: nn.Module = load_whole(self._found, "AutoModelForImageClassification")
        self.modality = modality
        self.needs = picture_needs(stored)
        self.label_space = label_space_of(self.network, kind)
        self._input = PictureInput(load_part(self._found, "AutoImageProcessor"), preparation)
        self._said = {"kind": kind, "preparation": preparation}
        self._computer = Computer(self.network, device, batch_size)

    def predict(self, arrays_BX: np.ndarray | Tensor) -> np.ndarray:
        """Return float32 logits [B, C] of pictures [B, H, W, 3] or frames [B, T, H, W, 3]."""
        return over_frames(arrays_BX, lambda one: self._computer.answers(one, self._logits))

    def fingerprint(self) -> str:
        """Return a hash of the files of the network and of the arguments that matter."""
        return fingerprint_of(self, self._found, self._said)

    def _logits(self, x_BHW3: Tensor) -> Tensor:
        return self.network(pixel_values=self._input(x_BHW3)).logits


class ClipTeacher:
    """A classifier of whole clips: VideoMAE, TimeSformer, ViViT.

    It reads as many frames as it was trained with, evenly spaced among those that are stored.

    Args:
        path: Folder of ``save_pretrained``, or ``owner/name`` of the Hub.
        modality: Name of the modality.
        revision: Commit of the Hub.
        kind: ``single`` or ``multi``.
        device: Device to compute on, first touched by ``predict``.
        batch_size: Clips that are computed at once.
        preparation: ``device``, or ``own`` for the image processor itself.

    Raises:
        ConfigError: There is no such network, or it is none for clips.
    """

    def __init__(
        self,
        path: str,
        *,
        modality: str = "video",
        revision: str | None = None,
        kind: str = LabelKind.SINGLE.value,
        device: str = "cpu",
        batch_size: int = 8,
        preparation: str = DEVICE,
    ) -> None:
        self._found = find_pretrained(path, revision)
        self.network: nn.Module = load_whole(self._found, "AutoModelForVideoClassification")
        self.modality = modality
        self._num_frames = int(self._found.config["num_frames"])
        self.needs = {"kind": "video", "num_frames": self._num_frames}
        self.label_space = label_space_of(self.network, kind)
        processor = load_part(self._found, "AutoImageProcessor")
        self._input = PictureInput(processor, preparation, is_clip=True)
        self._said = {"kind": kind, "preparation": preparation}
        self._computer = Computer(self.network, device, batch_size)

    def predict(self, arrays_BX: np.ndarray | Tensor) -> np.ndarray:
        """Return float32 logits [B, C] of frames [B, T, H, W, 3]."""
        return self._computer.answers(arrays_BX, self._logits)

    def fingerprint(self) -> str:
        """Return a hash of the files of the network and of the arguments that matter."""
        return fingerprint_of(self, self._found, self._said)

    def _logits(self, x_BTHW3: Tensor) -> Tensor:
        chosen_T = torch.linspace(0, x_BTHW3.shape[1] - 1, self._num_frames).round().long()
        frames = x_BTHW3[:, chosen_T]
        made = self._input(frames.flatten(0, 1))
        return self.network(pixel_values=made.unflatten(0, frames.shape[:2])).logits


class Computer:
    """A network on its device, and batches of stored arrays in parts of one size through it.

    Args:
        network: The network.
        device: Name of the device.
        batch_size: Arrays of a part.

    Raises:
        ConfigError: The size is below 1.
    """

    def __init__(self, network: nn.Module, device: str, batch_size: int) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size}; give at least 1")
        self._network, self._device_name, self._batch_size = network, device, batch_size

    @torch.inference_mode()
    def answers(
        self, arrays_BX: np.ndarray | Tensor, logits_of: Callable[[Tensor], Tensor]
    ) -> np.ndarray:
        """Return the float32 answers of a batch, on the CPU.

        Args:
            arrays_BX: Stored arrays [B, ...].
            logits_of: Logits of a part, which is on the device.
        """
        x_BX, device = torch.as_tensor(arrays_BX), self.device
        parts = [logits_of(part.to(device)).float().cpu() for part in x_BX.split(self._batch_size)]
        return torch.cat(parts).numpy()

    @cached_property
    def device(self) -> torch.device:
        """The device, with the network on it."""
        device = checked_device(self._device_name)
        put_on(self._network, device)
        return device


def over_frames(
    arrays_BX: np.ndarray | Tensor, answers: Callable[[Tensor], np.ndarray]
) -> np.ndarray:
    """Return answers for pictures [B, H, W, 3], or their mean over frames [B, T, H, W, 3]."""
    x_BX = torch.as_tensor(arrays_BX)
    if x_BX.dim() == 4:
        return answers(x_BX)
    said = answers(x_BX.flatten(0, 1))
    return said.reshape(*x_BX.shape[:2], *said.shape[1:]).mean(axis=1, dtype=np.float32)


def picture_needs(stored: str) -> dict[str, Any]:
    """Return what has to be stored for a teacher of pictures.

    Raises:
        ConfigError: It is neither video nor image.
    """
    if stored not in ("video", "image"):
        raise ConfigError(f"stored={stored}; a teacher of pictures reads video or image")
    return {"kind": stored}


def label_space_of(network: Any, kind: str) -> LabelSpace:
    """Return the classes of a network in logit order; a name that occurs twice gets its number.

    Raises:
        ConfigError: The kind is unknown.
    """
    if kind not in list(LabelKind):
        raise ConfigError(f"kind={kind}; choose one of {[one.value for one in LabelKind]}")
    names = [network.config.id2label[number] for number in range(network.config.num_labels)]
    times = Counter(names)
    classes = [
        f"{name} #{number}" if times[name] > 1 else name for number, name in enumerate(names)
    ]
    ignore = IGNORE if kind == LabelKind.DENSE else None
    return LabelSpace(tuple(classes), LabelKind(kind), ignore)


def fingerprint_of(teacher: object, found: Pretrained, said: dict[str, Any]) -> str:
    """Return a hash of a class of ours, the files of its network and what else it was told."""
    return fingerprint({"teacher": type(teacher).__name__, "files": found.digest, **said})
