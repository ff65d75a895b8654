"""A teacher that is a classifier of text of ``transformers``."""

# B samples, L tokens, C classes.

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError
from mke_ray.models.brought import Computer, fingerprint_of, label_space_of
from mke_ray.models.pretrained import find_pretrained, load_whole
from mke_ray.models.token_input import check_padding, token_needs
from mke_ray.schema import LabelKind
from mke_ray.tokens import facts_beside


class TextTeacher:
    """A text classifier: BERT, RoBERTa, DistilBERT, or another of transformers.

    It reads the ids that are stored, which have to be those of its own tokenizer.

    Args:
        path: Folder of ``save_pretrained``, of network and tokenizer, or ``owner/name`` of the Hub.
        modality: Name of the modality.
        revision: Commit of the Hub.
        kind: ``single``, or ``multi`` where the network was trained with many classes at once.
        device: Device to compute on, first touched by ``predict``.
        batch_size: Texts that are computed at once.

    Raises:
        ConfigError: There is no such network, it is none for text, has no tokenizer beside it, or
            takes another id for padding than that.
    """

    def __init__(
        self,
        path: str,
        *,
        modality: str = "text",
        revision: str | None = None,
        kind: str = LabelKind.SINGLE.value,
        device: str = "cpu",
        batch_size: int = 32,
    ) -> None:
        self._found = find_pretrained(path, revision)
        self.network: nn.Module = load_whole(self._found, "AutoModelForSequenceClassification")
        self.modality = modality
        self.label_space = label_space_of(self.network, kind)
        facts = facts_beside(self._found.folder)
        if facts is None:
            raise ConfigError(
                f"path={path} has no tokenizer, by which the stored tokens are told to be its own; "
                "save it beside the network with save_pretrained"
            )
        self._pad_id: int = facts["pad_id"]
        check_padding(self.network, self._pad_id, f"path={path}")
        self.needs: dict[str, Any] = token_needs(self.network, facts["digest"], self._pad_id)
        self._said = {"kind": kind}
        self._computer = Computer(self.network, device, batch_size)

    def predict(self, arrays_BL: np.ndarray | Tensor) -> np.ndarray:
        """Return float32 logits [B, C] of ids of tokens [B, L]."""
        return self._computer.answers(arrays_BL, self._logits)

    def fingerprint(self) -> str:
        """Return a hash of the files of the network and of the arguments that matter."""
        return fingerprint_of(self, self._found, self._said)

    def _logits(self, x_BL: Tensor) -> Tensor:
        is_token_BL = (x_BL != self._pad_id).to(torch.int64)
        return self.network(input_ids=x_BL.to(torch.int64), attention_mask=is_token_BL).logits
