"""Pretrained networks of ``transformers``: their folder, local or of the Hub, and their digest."""

import hashlib
import importlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from mke_ray.errors import ConfigError

CONFIG_NAME = "config.json"
KEPT = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")  # no file that carries code

_COMMIT = re.compile(r"[0-9a-f]{40}")
_BLOCK_BYTES = 1 << 22


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

    A network of the Hub is fetched once per machine, into the cache of ``huggingface_hub``. Its
    revision is a whole commit: a branch or a tag may move between two workers.

    Args:
        path: A local folder, or ``owner/name``.
        revision: Commit of the Hub, 40 hexadecimal digits; None for a local folder.

    Raises:
        ConfigError: There is no such network, its revision is no commit, or it holds no weights
            in safetensors.
    """
    local = os.path.expanduser(path)
    folder = local if os.path.isdir(local) else _fetched(path, revision)
    _check_files(folder, path)
    return Pretrained(folder, path, digest_of(folder))


def digest_of(folder: str) -> str:
    """Return the SHA-256 of names and contents of the files that decide what a network answers."""
    whole = hashlib.sha256()
    names = {one for pattern in KEPT for one in Path(folder).glob(pattern) if one.is_file()}
    for name in sorted(names):
        whole.update(f"{name.name}\0{file_digest(name)}\0".encode())
    return whole.hexdigest()


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file, read once by a process as long as its size and time stay."""
    stat = os.stat(path)
    return _digest_as_of(os.path.abspath(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest_as_of(path: str, _num_bytes: int, _mtime_ns: int) -> str:
    found = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found.update(block)
    return found.hexdigest()


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


def transformers_library() -> ModuleType:
    """Return transformers, imported when it is first needed.

    Raises:
        ConfigError: It is not installed.
    """
    library = optional_library("transformers", "transformers")
    library.utils.logging.disable_progress_bar()
    library.utils.logging.set_verbosity_error()  # it tells of torchvision, which nothing here needs
    return library


def optional_library(name: str, extra: str) -> ModuleType:
    """Return a library that an extra installs.

    Args:
        name: Name of the module.
        extra: Extra of ours that has it.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"{name} cannot be imported ({error}); pip install 'mke-ray[{extra}]' on every node"
        ) from error


def _fetched(path: str, revision: str | None) -> str:
    """Return the folder of a network of the Hub in the cache of this machine."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", path):
        raise ConfigError(f"path={path} is neither a folder here nor owner/name of the Hub")
    if not revision or not _COMMIT.fullmatch(revision):
        raise ConfigError(
            f"path={path} is no folder here, and as a name of the Hub it needs a revision that "
            f"cannot move: revision={revision} is no commit of 40 hexadecimal digits; take it "
            "from the page of the network (Files, History)"
        )
    hub = optional_library("huggingface_hub", "transformers")
    try:
        return hub.snapshot_download(path, revision=revision, allow_patterns=list(KEPT))
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"path={path} revision={revision} cannot be fetched: {said}; fetch it where there is "
            "a network, and name the folder"
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
