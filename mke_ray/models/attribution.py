"""How much of a student's answer comes from each modality: Shapley values, and what changes."""

# B samples, M modalities, A alternatives of a decision, X decisions of a sample.

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mke_ray.errors import ConfigError

MAX_MODALITIES = 8  # 255 forward passes

Present = Mapping[str, Tensor]
Subset = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attribution:
    """What each modality does to the answers of some samples.

    Args:
        shapley_BM: Shapley value of each modality [B, M]; 0 where a sample lacks it. They sum to
            the probability of the answer less that of a guess, one by the number of alternatives.
        changed_BM: Share of the decisions that are others without that modality [B, M]: 0 or 1 of
            one class, of many the share of classes, of dense labels that of pixels. 1 where nothing
            would be left to answer from, 0 where a sample lacks the modality.
    """

    shapley_BM: Tensor
    changed_BM: Tensor


def attribution(
    decided: Callable[[Present], Tensor], modalities: Sequence[str], present: Present
) -> Attribution:
    """Return exact Shapley values over the modalities that each sample has.

    The value of some modalities is the probability that the student, shown these alone, gives to
    its answer from all of them, the mean over the decisions of a sample.

    Args:
        decided: Probabilities of the alternatives of each decision [B, A, X], where a student is
            shown what is present.
        modalities: What the student reads, M of them.
        present: Per modality whether the sample has it [B], bool.

    Raises:
        ConfigError: There are more modalities than subsets can be tried of.

    Source:
        Shapley, A Value for n-Person Games, 1953, equation 12; over the modalities of a network,
        Parcalabescu and Frank, MM-SHAP, ACL 2023.
    """
    check_number(modalities)
    whole = tuple(modalities)
    answer = decided(present)
    chosen_B1X = answer.argmax(dim=1, keepdim=True)
    value_B: dict[Subset, Tensor] = {}
    changed = []
    for subset in _subsets(whole):
        shown = _shown(present, subset)
        seen_B = torch.stack([shown[name] for name in whole]).any(dim=0)
        said_BAX = answer if subset in ((), whole) else decided(shown)  # of nothing, none is used
        given_B = said_BAX.gather(1, chosen_B1X).mean(dim=(1, 2))
        value_B[subset] = torch.where(seen_B, given_B, 1.0 / answer.shape[1])
        if len(subset) == len(whole) - 1:
            (left_out,) = set(whole) - set(subset)
            differs_B = (
                (said_BAX.argmax(dim=1, keepdim=True) != chosen_B1X).float().mean(dim=(1, 2))
            )
            gone_B = torch.where(seen_B, differs_B, 1.0)
            changed.append((left_out, torch.where(present[left_out], gone_B, 0.0)))
    by_name = dict(changed)
    return Attribution(
        torch.stack([_shapley(value_B, name, whole) for name in whole], dim=1),
        torch.stack([by_name[name] for name in whole], dim=1),
    )


def check_number(modalities: Sequence[str]) -> None:
    """Refuse more modalities than all subsets of can be tried.

    Raises:
        ConfigError: There are.
    """
    if len(modalities) > MAX_MODALITIES:
        raise ConfigError(
            f"explain=true tries all subsets of the modalities, and the student reads "
            f"{len(modalities)}; at most {MAX_MODALITIES} can be explained, so set explain=false"
        )


def _subsets(whole: Subset) -> list[Subset]:
    """Return all subsets, in the order of the whole."""
    sizes = range(len(whole) + 1)
    return [one for size in sizes for one in itertools.combinations(whole, size)]


def _shown(present: Present, subset: Subset) -> dict[str, Tensor]:
    """Return what is there of some modalities."""
    return {
        name: one_B if name in subset else torch.zeros_like(one_B)
        for name, one_B in present.items()
    }


def _shapley(value_B: Mapping[Subset, Tensor], name: str, whole: Subset) -> Tensor:
    """Return the mean of what a modality adds, over all orders in which modalities are shown."""
    total_B = torch.zeros_like(value_B[whole])
    for subset in value_B:
        if name in subset:
            continue
        joined = tuple(one for one in whole if one in subset or one == name)
        num, size = len(whole), len(subset)
        weight = math.factorial(size) * math.factorial(num - size - 1) / math.factorial(num)
        total_B = total_B + weight * (value_B[joined] - value_B[subset])
    return total_B
