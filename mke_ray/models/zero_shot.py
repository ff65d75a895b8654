"""Teachers that know classes by their names: CLIP of pictures and CLAP of sound."""

# B samples, C classes, D features, N sound samples, H height, W width, X any.

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError
from mke_ray.models.brought import Computer, fingerprint_of, over_frames, picture_needs
from mke_ray.models.picture_input import DEVICE, PictureInput
from mke_ray.models.pretrained import find_pretrained, load_part, load_whole
from mke_ray.schema import LabelSpace

_PICTURES = ("a photo of a {}.",)
_SOUNDS = ("This is a sound of {}.",)


class Prompts:
    """The texts that stand for classes, and their features.

    Args:
        classes: Classes in logit order.
        templates: Texts with ``{}`` for the name of the class.
        names: What a class is called in the templates, where that is not its name.

    Raises:
        ConfigError: A template has no place for a name, or a name is of no class.
    """

    def __init__(
        self, classes: Sequence[str], templates: Sequence[str], names: Mapping[str, str] | None
    ) -> None:
        self.label_space = LabelSpace(tuple(classes))
        wrong = [one for one in templates if "{}" not in one]
        if wrong or not templates:
            raise ConfigError(f"templates={list(templates)}; write {{}} for the class in each")
        if other := sorted(set(names or {}) - set(classes)):
            raise ConfigError(f"names: {other} are no classes; there are {list(classes)}")
        called = [(names or {}).get(one, one).replace("_", " ") for one in classes]
        self.texts = [[one.replace("{}", name) for one in templates] for name in called]

    def features(self, encode: Callable[[list[str]], Tensor]) -> Tensor:
        """Return unit features [C, D]: the mean over templates of unit features of their texts.

        Source:
            Radford et al., Learning transferable visual models from natural language supervision,
            ICML 2021, section 3.1.4 (ensembles of prompts).
        """
        return torch.stack([_unit(_unit(encode(texts)).mean(dim=0)) for texts in self.texts])


class ZeroShotPictures:
    """CLIP: how near a picture is to the names of the classes; of video the mean over frames.

    Args:
        path: Folder of ``save_pretrained``, or ``owner/name`` of the Hub.
        classes: Classes in logit order.
        templates: Texts with ``{}`` for the class; features are averaged over them.
        names: What a class is called in the templates, where that is not its name.
        modality: Name of the modality.
        stored: ``video`` or ``image``.
        revision: Commit of the Hub.
        device: Device to compute on, first touched by ``predict``.
        batch_size: Pictures that are computed at once.
        preparation: ``device``, or ``own`` for the image processor itself.

    Raises:
        ConfigError: There is no such network, or the texts do not fit.
    """

    def __init__(  # noqa: PLR0913
        self,
        path: str,
        classes: Sequence[str],
        *,
        templates: Sequence[str] = _PICTURES,
        names: Mapping[str, str] | None = None,
        modality: str = "video",
        stored: str = "video",
        revision: str | None = None,
        device: str = "cpu",
        batch_size: int = 64,
        preparation: str = DEVICE,
    ) -> None:
        self._prompts = Prompts(classes, templates, names)
        self._found = find_pretrained(path, revision)
        self.network: nn.Module = load_whole(self._found, "CLIPModel")
        self.modality = modality
        self.needs = picture_needs(stored)
        self.label_space = self._prompts.label_space
        self._input = PictureInput(load_part(self._found, "AutoImageProcessor"), preparation)
        self._tokenizer = load_part(self._found, "AutoTokenizer")
        self._said = {"texts": self._prompts.texts, "preparation": preparation}
        self._computer = Computer(self.network, device, batch_size)

    def predict(self, arrays_BX: np.ndarray | Tensor) -> np.ndarray:
        """Return float32 logits [B, C] of pictures [B, H, W, 3] or frames [B, T, H, W, 3]."""
        return over_frames(arrays_BX, lambda one: self._computer.answers(one, self._logits))

    def fingerprint(self) -> str:
        """Return a hash of the files of the network and of the texts."""
        return fingerprint_of(self, self._found, self._said)

    def _logits(self, x_BHW3: Tensor) -> Tensor:
        network: Any = self.network
        seen_BD = network.get_image_features(pixel_values=self._input(x_BHW3)).pooler_output
        return _similarity(seen_BD, self._classes, network.logit_scale)

    @cached_property
    def _classes(self) -> Tensor:
        return _text_features(self.network, self._tokenizer, self._prompts, self._computer.device)


class ZeroShotSound:
    """CLAP: how near a sound is to the names of the classes.

    Sound longer than CLAP reads is cut after that (its own extractor cuts at random).

    Args:
        path: Folder of ``save_pretrained``, or ``owner/name`` of the Hub.
        classes: Classes in logit order.
        templates: Texts with ``{}`` for the class; features are averaged over them.
        names: What a class is called in the templates, where that is not its name.
        modality: Name of the modality.
        revision: Commit of the Hub.
        device: Device to compute on, first touched by ``predict``.
        batch_size: Samples that are computed at once.

    Raises:
        ConfigError: There is no such network, or the texts do not fit.
    """

    def __init__(  # noqa: PLR0913
        self,
        path: str,
        classes: Sequence[str],
        *,
        templates: Sequence[str] = _SOUNDS,
        names: Mapping[str, str] | None = None,
        modality: str = "audio",
        revision: str | None = None,
        device: str = "cpu",
        batch_size: int = 32,
    ) -> None:
        self._prompts = Prompts(classes, templates, names)
        self._found = find_pretrained(path, revision)
        self.network: nn.Module = load_whole(self._found, "ClapModel")
        self._extractor = load_part(self._found, "AutoFeatureExtractor")
        self._tokenizer = load_part(self._found, "AutoTokenizer")
        self.modality = modality
        self.needs = {"kind": "audio", "sample_rate_hz": int(self._extractor.sampling_rate)}
        self.label_space = self._prompts.label_space
        self._said = {"texts": self._prompts.texts}
        self._computer = Computer(self.network, device, batch_size)

    def predict(self, arrays_BN: np.ndarray | Tensor) -> np.ndarray:
        """Return float32 logits [B, C] of sound [B, N] in [-1, 1]."""
        return self._computer.answers(arrays_BN, self._logits)

    def fingerprint(self) -> str:
        """Return a hash of the files of the network and of the texts."""
        return fingerprint_of(self, self._found, self._said)

    def _logits(self, x_BN: Tensor) -> Tensor:
        extractor, network = self._extractor, self.network
        sound = list(x_BN[:, : extractor.nb_max_samples].cpu().numpy().astype(np.float32))
        made = extractor(sound, sampling_rate=extractor.sampling_rate, return_tensors="np")
        features = torch.from_numpy(np.asarray(made["input_features"], np.float32)).to(x_BN.device)
        is_longer = torch.zeros(len(sound), 1, dtype=torch.bool, device=x_BN.device)
        heard = network.get_audio_features(  # type: ignore[operator] - a class of transformers
            input_features=features, is_longer=is_longer
        )
        return _similarity(heard.pooler_output, self._classes, network.logit_scale_a)

    @cached_property
    def _classes(self) -> Tensor:
        return _text_features(self.network, self._tokenizer, self._prompts, self._computer.device)


def _text_features(network: Any, tokenizer: Any, prompts: Prompts, device: torch.device) -> Tensor:
    """Return unit features [C, D] of the classes, computed once."""

    def encode(texts: list[str]) -> Tensor:
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(device)
        return network.get_text_features(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).pooler_output

    return prompts.features(encode)


def _similarity(features_BD: Tensor, classes_CD: Tensor, log_scale: Any) -> Tensor:
    """Return logits [B, C]: the scale of the network times the cosine."""
    return log_scale.exp() * _unit(features_BD) @ classes_CD.T


def _unit(features_XD: Tensor) -> Tensor:
    return nn.functional.normalize(features_XD, dim=-1)
