"""A training view of text: tokens masked and left out."""

# B samples, L tokens, S special ids.

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mke_ray.errors import ConfigError
from mke_ray.randomness import uniform


@dataclass(frozen=True, slots=True)
class TokenView:
    """Ids of tokens, of which some become the mask and some are left out, as the key says.

    Special tokens and padding stay. What comes behind a token that is left out moves up.

    Args:
        mask: Share of the tokens in whose place the mask stands.
        drop: Share of the others that are left out.
        pad_id: Id of padding; this and the next two a run fills in from the tokenizer.
        mask_id: Id of the mask.
        special_ids: Ids that stay.

    Raises:
        ConfigError: A share is none.

    Source:
        Left out: Iyyer, Manjunatha, Boyd-Graber, Daume III, Deep Unordered Composition Rivals
        Syntactic Methods for Text Classification, ACL 2015, section 2.3 (word dropout). Masked:
        Devlin, Chang, Lee, Toutanova, BERT: Pre-training of Deep Bidirectional Transformers for
        Language Understanding, NAACL 2019, section 3.1, without the random and the kept tokens.
    """

    mask: float = 0.0
    drop: float = 0.0
    pad_id: int | None = None
    mask_id: int | None = None
    special_ids: Sequence[int] = ()

    def __post_init__(self) -> None:
        """Check the shares."""
        for key in ("mask", "drop"):
            if not 0 <= getattr(self, key) < 1:
                raise ConfigError(f"{key}={getattr(self, key)}; give a share from 0 to below 1")

    def __call__(self, x_BL: Tensor, key_B: Tensor) -> Tensor:
        """Return ids [B, L] of stored ids [B, L].

        Args:
            x_BL: Ids as they are stored.
            key_B: Keys [B]; the same key draws the same view.

        Raises:
            ConfigError: It does not know the ids of the tokenizer.
        """
        if self.pad_id is None or (self.mask and self.mask_id is None):
            raise ConfigError(
                f"pad_id={self.pad_id}, mask_id={self.mask_id}: the view needs those of the "
                "tokenizer, which a run fills in where decode has kind=tokens; a tokenizer without "
                "a mask takes drop in place of mask"
            )
        special_S = torch.tensor([self.pad_id, *self.special_ids], device=x_BL.device)
        is_word_BL = ~torch.isin(x_BL, special_S)
        draw_BL = uniform(key_B, x_BL.shape[1])
        if self.mask:
            is_masked_BL = is_word_BL & (draw_BL < self.mask)
            x_BL = x_BL.masked_fill(is_masked_BL, self.mask_id or 0)
            is_word_BL &= ~is_masked_BL
        if self.drop:
            draw_BL = uniform(key_B + 1, x_BL.shape[1])
            x_BL = self._left_out(x_BL, is_word_BL & (draw_BL < self.drop))
        return x_BL

    def _left_out(self, x_BL: Tensor, is_out_BL: Tensor) -> Tensor:
        """Return ids without some of them, padded behind."""
        order_BL = is_out_BL.to(torch.uint8).argsort(dim=1, stable=True)
        moved_BL = x_BL.masked_fill(is_out_BL, self.pad_id or 0)
        return moved_BL.gather(1, order_BL)
