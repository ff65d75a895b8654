"""Kin that see two views: co-training and co-EM, each with a network per modality."""

# N samples, C classes.

from functools import lru_cache

import torch
from kin_draws import Draw
from kin_training import (
    HALF,
    Answers,
    best_on_select,
    probabilities,
    product_of,
    rows_of,
    train,
)
from torch import Tensor, nn

NUM_ROUNDS = {"co_training": 5, "co_em": 3}


@lru_cache(maxsize=1)  # its student asks again
def co_training(draw: Draw, *, num_rounds: int = NUM_ROUNDS["co_training"]) -> Answers:
    """Let two networks label their surest samples for each other, round by round.

    The teacher begins, as the network of its modality: what it is surest of is the first that the
    network of the other modality learns. In every round each adds the same number of samples to
    what the other learns, so that in the last one each has named nearly all. The classes of those
    added are as frequent as in the teacher's labels. Of the rounds that one counts whose product
    is right most often on the select part; the last, where that is too small.

    Source:
        Blum, Mitchell, Combining Labeled and Unlabeled Data with Co-Training, COLT 1998, table 1.
    """
    first, second = draw.modalities[:2]
    share_C = draw.hard.mean(dim=0)
    said = {first: torch.softmax(draw.unlabeled.teacher_NC, dim=1)}
    named = {name: torch.full((len(draw.unlabeled),), -1) for name in (first, second)}
    networks: dict[str, nn.Module] = {}
    rounds = []
    num_added = -(-len(draw.unlabeled) // num_rounds)
    for number in range(num_rounds):
        for teaches, learns in ((first, second), (second, first)):
            named[teaches] = with_surest(named[teaches], said[teaches], share_C, num_added)
            networks[learns] = _learnt(draw, learns, named[teaches], seed=number)
            said[learns] = probabilities(networks[learns], draw.unlabeled)
        rounds.append(product_of([networks[first], networks[second]]))
    return best_on_select(draw, rounds)


@lru_cache(maxsize=1)
def co_em(draw: Draw, *, num_rounds: int = NUM_ROUNDS["co_em"]) -> Answers:
    """Let two networks label all samples for each other with probabilities, round by round.

    Each learns what the other says of the very samples that it learnt from. Of the rounds that one
    counts whose product is right most often on the select part; the last, where that is too small.

    Source:
        Nigam, Ghani, Analyzing the Effectiveness and Applicability of Co-training, CIKM 2000.
    """
    first, second = draw.modalities[:2]
    said_NC = torch.softmax(draw.unlabeled.teacher_NC, dim=1)
    networks: dict[str, nn.Module] = {}
    rounds = []
    for number in range(num_rounds):
        for learns in (second, first):
            rows = rows_of(draw, said_NC)
            networks[learns] = train(draw, rows, modalities=[learns], share=HALF, seed=number)
            said_NC = probabilities(networks[learns], draw.unlabeled)
        rounds.append(product_of([networks[first], networks[second]]))
    return best_on_select(draw, rounds)


def with_surest(named_N: Tensor, said_NC: Tensor, share_C: Tensor, num: int) -> Tensor:
    """Return the classes that a network has named, with the samples that it is surest of added.

    Of every class as many are added as its share of the number says, or as there are that the
    network gives that class and has not named yet.

    Args:
        named_N: Class named before, -1 where none.
        said_NC: Probabilities.
        share_C: Share of each class of those added.
        num: Number to add.
    """
    named_N = named_N.clone()
    surest_N, class_N = said_NC.max(dim=1)
    for one, share in enumerate(share_C.tolist()):
        rows = torch.nonzero((class_N == one) & (named_N < 0))[:, 0]
        order = torch.argsort(surest_N[rows], descending=True, stable=True)
        named_N[rows[order[: max(1, round(share * num))]]] = one
    return named_N


def _learnt(draw: Draw, modality: str, named_N: Tensor, *, seed: int) -> nn.Module:
    """Return a network of one modality that learnt the classes named."""
    eye = torch.eye(draw.num_classes)
    rows = rows_of(draw, eye[named_N.clamp(min=0)], (named_N >= 0).float())
    return train(draw, rows, modalities=[modality], share=HALF, seed=seed)
