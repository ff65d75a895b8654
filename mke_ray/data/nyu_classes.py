"""Classes of NYU Depth V2, and how its official training list is dealt out to the splits."""

from collections.abc import Mapping, Sequence

import numpy as np

from mke_ray.errors import ConfigError
from mke_ray.schema import Split

_OF_13 = "bed books ceiling chair floor furniture objects picture sofa table tv wall window"
_OF_40 = (
    "wall floor cabinet bed chair sofa table door window bookshelf picture counter blinds desk "
    "shelves curtain dresser pillow mirror floor_mat clothes ceiling books refrigerator television "
    "paper towel shower_curtain box whiteboard person night_stand toilet sink lamp bathtub bag "
    "otherstructure otherfurniture otherprop"
)
_13_OF_40 = (
    *(11, 4, 5, 0, 3, 8, 9, 11, 12, 5, 7, 5, 12, 9, 5, 12, 5, 6, 6, 4),
    *(6, 2, 1, 5, 10, 6, 6, 6, 6, 6, 6, 5, 6, 6, 6, 6, 6, 6, 5, 6),
)
CLASSES: Mapping[int, tuple[str, ...]] = {13: tuple(_OF_13.split()), 40: tuple(_OF_40.split())}
# Class of each of the 40 classes.
MAPPINGS: Mapping[int, tuple[int, ...]] = {13: _13_OF_40, 40: tuple(range(40))}

TRAIN_LIST, TEST_LIST = "train.txt", "test.txt"


def check_numbers(*, num_classes: int, labelled: int, probe: int, unlabeled: int | None) -> None:
    """Refuse a number that makes no sense.

    Raises:
        ConfigError: It names the key.
    """
    if num_classes not in CLASSES:
        raise ConfigError(f"source.num_classes={num_classes}; choose 13 or 40")
    for name, number in (("labelled", labelled), ("probe", probe), ("unlabeled", unlabeled)):
        if number is not None and number < 0:
            raise ConfigError(f"source.{name}={number}; give a number of samples, from 0")


def deal_out(
    train: Sequence[str],
    test: Sequence[str],
    *,
    wanted: tuple[int, int, int | None],
    data_seed: int,
    train_list: str,
    scene_of: Mapping[str, str] | None = None,
) -> dict[Split, list[str]]:
    """Return the keys of every split, sorted; the test list is the test split.

    Args:
        train: Keys of the official training list.
        test: Keys of the official test list.
        wanted: Samples of the labelled split, of the probe and of the unlabeled split; None takes
            the rest.
        data_seed: Seed of the draw.
        train_list: What the list is called, for the error.
        scene_of: Scene of every key: whole scenes are dealt out then, so that a split has at least
            what is wanted of it and less than one scene more. None deals out single samples.

    Raises:
        ConfigError: More is wanted than there is.
    """
    labelled, probe, unlabeled = wanted
    rest = len(train) - labelled - probe
    num_unlabeled = rest if unlabeled is None else unlabeled
    if rest < 0 or num_unlabeled > rest:
        raise ConfigError(
            f"source.labelled={labelled}, source.probe={probe} and source.unlabeled={unlabeled} "
            f"are more than the {len(train)} samples of {train_list}; lower one of them"
        )
    order = np.random.default_rng(data_seed).permutation(len(train))
    shuffled = [train[int(place)] for place in order]
    if scene_of is None:
        parts = _by_sample(shuffled, labelled, num_unlabeled, probe)
    else:
        parts = _by_scene(shuffled, scene_of, (labelled, probe, num_unlabeled))
    splits = (Split.LABELLED, Split.PROBE, Split.UNLABELED)
    drawn = {split: sorted(part) for split, part in zip(splits, parts, strict=True)}
    return {**drawn, Split.TEST: sorted(test)}


def _by_sample(shuffled: list[str], labelled: int, unlabeled: int, probe: int) -> list[list[str]]:
    """Return the labelled samples, those of the probe, and the unlabeled ones between the two."""
    behind = labelled + unlabeled
    return [shuffled[:labelled], shuffled[behind : behind + probe], shuffled[labelled:behind]]


def _by_scene(
    shuffled: Sequence[str], scene_of: Mapping[str, str], wanted: Sequence[int]
) -> list[list[str]]:
    """Return as many parts as numbers, each of whole scenes in the order of their first keys."""
    scenes: dict[str, list[str]] = {}
    for key in shuffled:
        scenes.setdefault(scene_of[key], []).append(key)
    parts: list[list[str]] = [[] for _ in wanted]
    number = 0
    for keys in scenes.values():
        while number < len(wanted) and len(parts[number]) >= wanted[number]:
            number += 1
        if number == len(wanted):
            break
        parts[number] += keys
    return parts
