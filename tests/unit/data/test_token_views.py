"""Views of text: tokens masked and left out."""

import pytest
import torch

from mke_ray.data.token_views import TokenView
from mke_ray.errors import ConfigError
from mke_ray.randomness import keys_for

PAD, SEP, CLS, MASK = 0, 3, 2, 4
IDS = {"pad_id": PAD, "mask_id": MASK, "special_ids": (0, 1, 2, 3, 4)}
WORDS_BL = torch.cat(
    [torch.full((40, 1), CLS), torch.arange(10, 40).repeat(40, 1), torch.full((40, 1), SEP)], dim=1
)
X_BL = torch.nn.functional.pad(WORDS_BL, (0, 8)).int()
KEY_B = keys_for(torch.arange(40), seed=0, epoch=0, stream=1)


def test_a_share_of_the_words_is_masked_and_nothing_else():
    seen_BL = TokenView(mask=0.2, **IDS)(X_BL, KEY_B)
    is_other_BL = seen_BL != X_BL
    assert (seen_BL[is_other_BL] == MASK).all() and seen_BL.dtype == X_BL.dtype
    assert 0.15 < is_other_BL.sum() / (40 * 30) < 0.25
    assert not is_other_BL[:, 0].any() and not is_other_BL[:, 31:].any()


def test_words_left_out_let_the_others_move_up_in_their_order():
    seen_BL = TokenView(drop=0.5, **IDS)(X_BL, KEY_B)
    nums = []
    for row_L in seen_BL:
        kept_L = row_L[row_L != PAD]
        assert row_L[: len(kept_L)].equal(kept_L)
        assert (kept_L[0], kept_L[-1]) == (CLS, SEP)
        assert (kept_L[1:-1].diff() > 0).all()
        nums.append(len(kept_L) - 2)
    assert 12 < sum(nums) / 40 < 18 and len(set(nums)) > 3


def test_what_is_masked_is_not_left_out_too():
    masked_BL = TokenView(mask=0.2, **IDS)(X_BL, KEY_B) == MASK
    seen_BL = TokenView(mask=0.2, drop=0.5, **IDS)(X_BL, KEY_B)
    assert (seen_BL == MASK).sum(dim=1).equal(masked_BL.sum(dim=1))
    assert (seen_BL != PAD).sum() < (X_BL != PAD).sum()


def test_a_view_follows_its_key_alone():
    view = TokenView(mask=0.2, drop=0.2, **IDS)
    seen_BL = view(X_BL, KEY_B)
    assert view(X_BL[5:6], KEY_B[5:6]).equal(seen_BL[5:6])
    other_B = keys_for(torch.arange(40), seed=0, epoch=1, stream=1)
    assert not view(X_BL, other_B).equal(seen_BL)
    assert TokenView(**IDS)(X_BL, KEY_B).equal(X_BL)


def test_shares_and_ids_that_are_none_are_refused():
    with pytest.raises(ConfigError, match=r"mask=1\.0"):
        TokenView(mask=1.0)
    with pytest.raises(ConfigError, match=r"pad_id=None.*kind=tokens"):
        TokenView(drop=0.1)(X_BL, KEY_B)
    with pytest.raises(ConfigError, match=r"mask_id=None.*takes drop"):
        TokenView(mask=0.1, pad_id=0)(X_BL, KEY_B)
