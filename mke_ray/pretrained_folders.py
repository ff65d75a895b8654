"""Folders of pretrained networks and tokenizers, local or of the Hub, and the digests of files."""

import hashlib
import importlib
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from mke_ray.errors import ConfigError

# No file that carries code.
OF_TOKENIZERS = ("*.json", "*.txt", "*.model", "*.jinja")
KEPT = (*OF_TOKENIZERS, "*.safetensors")

_COMMIT = re.compile(r"[0-9a-f]{40}")
_BLOCK_BYTES = 1 << 22


def found_folder(path: str, revision: str | None, *, patterns: Sequence[str] = KEPT) -> str:
    """Return a local folder by its path, or by its name on the Hub.

    What is of the Hub is fetched once per machine, into the cache of ``huggingface_hub``. Its
    revision is a whole commit: a branch or a tag may move between two workers.

    Args:
        path: A local folder, or ``owner/name``.
        revision: Commit of the Hub, 40 hexadecimal digits; None for a local folder.
        patterns: Files that are fetched.

    Raises:
        ConfigError: There is no such folder, or its revision is no commit.
    """
    local = os.path.expanduser(path)
    return local if os.path.isdir(local) else _fetched(path, revision, patterns)


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file, read once by a process as long as its size and time stay."""
    stat = os.stat(path)
    return _digest_as_of(os.path.abspath(path), stat.st_size, stat.st_mtime_ns)


def files_digest(folder: str, patterns: Sequence[str] = KEPT) -> str:
    """Return the SHA-256 of names and contents of the files in a folder that have such names."""
    whole = hashlib.sha256()
    names = {one for pattern in patterns for one in Path(folder).glob(pattern) if one.is_file()}
    for name in sorted(names):
        whole.update(f"{name.name}\0{file_digest(name)}\0".encode())
    return whole.hexdigest()


@lru_cache(maxsize=4096)
def _digest_as_of(path: str, _num_bytes: int, _mtime_ns: int) -> str:
    found = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found.update(block)
    return found.hexdigest()


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


def _fetched(path: str, revision: str | None, patterns: Sequence[str]) -> str:
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
        return hub.snapshot_download(path, revision=revision, allow_patterns=list(patterns))
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"path={path} revision={revision} cannot be fetched: {said}; fetch it where there is "
            "a network, and name the folder"
        ) from error
