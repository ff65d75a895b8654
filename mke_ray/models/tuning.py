"""Which weights of a pretrained network are trained."""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mke_ray.errors import ConfigError
from mke_ray.pretrained_folders import optional_library

ALL, NONE, LORA = "all", "none", "lora"
_IN_A_ROW = ("blocks", "stages")
_LAST = re.compile(r"last_([1-9][0-9]*)")
_LORA_KEYS = ("r", "lora_alpha", "lora_dropout", "target_modules")
_LORA = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": "all-linear"}


def tune(network: nn.Module, trainable: str, *, lora: Mapping[str, Any] | None, key: str) -> None:
    """Freeze what shall not be trained; with ``lora`` add what shall.

    Args:
        network: The network; it is changed.
        trainable: ``all``; ``none``; ``last_n``, the last n of its blocks and what comes after
            them; or ``lora``, low-rank matrices beside its linear layers (Hu et al., LoRA, ICLR
            2022), which are weights of the network by their own names.
        lora: ``r``, ``lora_alpha``, ``lora_dropout`` and ``target_modules`` of ``LoraConfig``.
        key: Where it stands in the configuration.

    Raises:
        ConfigError: There is no such choice, or there are fewer blocks.
    """
    if lora and trainable != LORA:
        raise ConfigError(f"{key}.lora is for trainable={LORA}, but {key}.trainable={trainable}")
    if trainable == ALL:
        return
    network.requires_grad_(requires_grad=False)
    if trainable == LORA:
        _add_low_rank(network, lora or {}, key)
    elif last := _LAST.fullmatch(trainable):
        _thaw_last(network, int(last[1]), key)
    elif trainable != NONE:
        raise ConfigError(
            f"{key}.trainable={trainable!r}; choose {ALL}, {NONE}, last_n (as last_2) or {LORA}"
        )


def blocks_in(network: nn.Module) -> list[nn.Module]:
    """Return the blocks of a network: the last of its outermost lists of modules.

    Networks of timm have them one after the other in ``blocks`` or ``stages``.
    """
    found: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for one in network.modules():
        if isinstance(one, nn.ModuleList) and one not in inside and len(one):
            inside.update(one.modules())
            found = list(one)
    in_a_row = (getattr(network, name, None) for name in _IN_A_ROW)
    return found or next((list(one) for one in in_a_row if isinstance(one, nn.Sequential)), [])


def frozen_parts(network: nn.Module) -> list[nn.Module]:
    """Return the modules that stay in evaluation: with weights none of which is trained.

    Normalisation by batch is among them, since no sample may depend on the others of its batch.
    """
    parts = []
    for one in network.modules():
        weights = list(one.parameters())
        is_frozen = bool(weights) and not any(weight.requires_grad for weight in weights)
        if is_frozen or isinstance(one, _BatchNorm):
            parts.append(one)
    return parts


def _thaw_last(network: nn.Module, number: int, key: str) -> None:
    """Let the last blocks be trained, and the weights that come after all blocks."""
    blocks = blocks_in(network)
    if number > len(blocks):
        raise ConfigError(
            f"{key}.trainable=last_{number}, but {type(network).__name__} has {len(blocks)} blocks"
        )
    for block in blocks[-number:]:
        block.requires_grad_(requires_grad=True)
    names = [name for name, _ in network.named_parameters()]
    of_blocks = {id(weight) for block in blocks for weight in block.parameters()}
    weights = dict(network.named_parameters())
    last = max(place for place, name in enumerate(names) if id(weights[name]) in of_blocks)
    for name in names[last + 1 :]:
        weights[name].requires_grad = True


def _add_low_rank(network: nn.Module, lora: Mapping[str, Any], key: str) -> None:
    """Put low-rank matrices beside the linear layers, under the names that peft gives them."""
    if unknown := sorted(set(lora) - set(_LORA_KEYS)):
        raise ConfigError(f"{key}.lora has the keys {unknown}; choose from {list(_LORA_KEYS)}")
    peft = optional_library("peft", "lora")
    settings = {**_LORA, **lora}
    if settings["target_modules"] == "all-linear":
        settings["target_modules"] = _linear_names(network)
    try:
        peft.inject_adapter_in_model(peft.LoraConfig(**settings), network)
    except ValueError as error:
        raise ConfigError(f"{key}.lora: {' '.join(str(error).split())[:300]}") from error


def _linear_names(network: nn.Module) -> list[str]:
    """Return the names of the linear layers within the blocks."""
    inside = {id(one) for block in blocks_in(network) for one in block.modules()}
    return [
        name
        for name, one in network.named_modules()
        if isinstance(one, nn.Linear) and id(one) in inside
    ]
