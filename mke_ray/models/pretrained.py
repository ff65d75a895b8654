"""Pretrained networks of ``transformers``, loaded whole from their folder."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mke_ray.errors import ConfigError
from mke_ray.pretrained_folders import files_digest, found_folder, transformers_library

CONFIG_NAME = "config.json"


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A folder that ``save_pretrained`` of transformers wrote.

    Args:
        folder: Local folder.
        name: How the user named it.
        digest: SHA-256 of all its files that matter, weights among them.
    """

    folder: str
    name: str
    digest: str

    @property
    def config(self) -> dict[str, Any]:
        """The content of ``config.json``."""
        return json.loads((Path(self.folder) / CONFIG_NAME).read_text())


def find_pretrained(path: str, revision: str | None = None) -> Pretrained:
    """Return a pretrained network by its local folder, or by its name on the Hub.

    Args:
        path: A local folder, or ``owner/name``.
        revision: Commit of the Hub, 40 hexadecimal digits; None for a local folder.

    Raises:
        ConfigError: There is no such network, its revision is no commit, or it holds no weights
            in safetensors.
    """
    folder = found_folder(path, revision)
    _check_files(folder, path)
    return Pretrained(folder, path, files_digest(folder))


def load_whole(
    pretrained: Pretrained, auto_class: str | type, *, unread: tuple[str, ...] = (), **settings: Any
) -> Any:
    """Return a network with every weight from its file, in evaluation mode, float32.

    Args:
        pretrained: The folder.
        auto_class: Name of a class of transformers that chooses the network by ``config.json``, or
            the class of the network.
        unread: How the names of weights begin that nothing will read, so that they may be missing.
        settings: Further arguments of ``from_pretrained``.

    Raises:
        ConfigError: It is of another kind, or a weight is missing or of another shape.
    """
    library = transformers_library()
    loader: Any = getattr(library, auto_class) if isinstance(auto_class, str) else auto_class
    try:
        network, loading = loader.from_pretrained(
            pretrained.folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            dtype=torch.float32,
            **settings,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        said = " ".join(str(error).split())[:300]
        raise ConfigError(f"path={pretrained.name} is no {loader.__name__}: {said}") from error
    _check_loaded(pretrained, loader.__name__, loading, unread)
    return network.eval()


def config_object(pretrained: Pretrained) -> Any:
    """Return the configuration of a network as transformers reads it."""
    return transformers_library().AutoConfig.from_pretrained(
        pretrained.folder, local_files_only=True, trust_remote_code=False
    )


def load_part(pretrained: Pretrained, auto_class: str) -> Any:
    """Return the image processor, feature extractor or tokenizer that lies beside a network.

    Raises:
        ConfigError: There is none.
    """
    try:
        return getattr(transformers_library(), auto_class).from_pretrained(
            pretrained.folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"path={pretrained.name} has no {auto_class}: {said}; save it beside the network "
            "with save_pretrained"
        ) from error


def _check_files(folder: str, path: str) -> None:
    """Refuse a folder without a configuration, or whose weights are no safetensors."""
    if not os.path.isfile(os.path.join(folder, CONFIG_NAME)):
        raise ConfigError(f"path={path} has no {CONFIG_NAME}; name a folder of save_pretrained")
    if not any(Path(folder).glob("*.safetensors")):
        raise ConfigError(
            f"path={path} has no weights in safetensors; other formats can carry code: load it "
            "where you trust it, and write it anew with save_pretrained"
        )


def _check_loaded(
    pretrained: Pretrained, auto_class: str, loading: Mapping[str, Any], unread: tuple[str, ...]
) -> None:
    """Refuse a network some of whose weights would be random."""
    absent = sorted(str(one) for one in loading.get("missing_keys", ()))
    absent = [one for one in absent if not one.startswith(unread)]
    other = sorted(str(one) for one in loading.get("mismatched_keys", ()))
    if absent or other:
        raise ConfigError(
            f"path={pretrained.name} lacks weights of {auto_class}, which would be random: "
            f"{(absent + other)[:5]}; take a network that was trained for that"
        )


def put_on(network: nn.Module, device: Any) -> nn.Module:
    """Return a network on a device, frozen."""
    return network.requires_grad_(requires_grad=False).to(device)
