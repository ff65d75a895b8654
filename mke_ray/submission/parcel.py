"""What a submitted job takes along: code within a size, and no data, results or secrets."""

import os
import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import yaml

from mke_ray.errors import ConfigError
from mke_ray.secret_looks import has_secret_look, has_secret_variable

_MB = 1_000_000
_MOST_NAMED = 5
_THE_JOBS_OWN = ("OMP_NUM_THREADS",)  # a job gives it to its workers, and Ray takes no name twice


@dataclass(frozen=True, slots=True)
class Rules:
    """What stays here, and what every job gets; the file is one that ``ray job submit`` reads too.

    Args:
        excludes: Patterns of names; one with a slash counts from the top, others at any depth.
        env_vars: Environment variables of every job.
    """

    excludes: tuple[str, ...]
    env_vars: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Taken:
    """A file that is taken along.

    Args:
        name: Its name below the folder.
        size: Size in bytes.
    """

    name: str
    size: int


def read_rules(path: str) -> Rules:
    """Read the rules from a runtime environment of Ray.

    Raises:
        ConfigError: There is no such file, or it holds something else.
    """
    try:
        with open(path, encoding="utf-8") as file:
            plain = yaml.safe_load(file) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if set(plain) - {"excludes", "env_vars"}:
        raise ConfigError(f"{path} has {sorted(plain)}; excludes and env_vars are what it may have")
    return Rules(tuple(plain.get("excludes") or ()), dict(plain.get("env_vars") or {}))


def files_to_take(folder: str, excludes: Sequence[str]) -> list[Taken]:
    """Return the files below a folder that no pattern keeps back, in order of their names.

    Raises:
        ConfigError: There is no such folder, or a link in it leads out.
    """
    if not os.path.isdir(folder):
        raise ConfigError(f"{folder} is no folder; name one with the code that the job needs")
    return sorted(_walk(folder, "", excludes), key=lambda one: one.name)


def check_size(parcels: Mapping[str, Sequence[Taken]], *, max_mb: float) -> None:
    """Refuse more than Ray should carry to every node.

    Args:
        parcels: The files by the folder that they are in.
        max_mb: How much it may be, before compression.

    Raises:
        ConfigError: It is more; the biggest files are named.
    """
    whole = [
        (os.path.join(top, one.name), one.size) for top, some in parcels.items() for one in some
    ]
    num_bytes = sum(size for _, size in whole)
    if num_bytes <= max_mb * _MB:
        return
    biggest = sorted(whole, key=lambda pair: -pair[1])[:_MOST_NAMED]
    named = ", ".join(f"{name} ({size / _MB:.1f} MB)" for name, size in biggest)
    raise ConfigError(
        f"{len(whole)} files of {num_bytes / _MB:.1f} MB would travel, {max_mb:g} MB at most; the "
        f"biggest are {named}. Keep them back with excludes in cluster/runtime_env.yaml (data "
        "belong into a bucket), or raise --max-mb"
    )


def pack(folder: str, files: Sequence[Taken], path: str) -> None:
    """Write files into an archive, which is the same for the same files, so that it travels once.

    Args:
        folder: Where they are.
        files: The files.
        path: The archive, ``.zip``.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for one in files:
            whole = os.path.join(folder, one.name)
            entry = zipfile.ZipInfo(one.name)
            is_program = os.stat(whole).st_mode & stat.S_IXUSR
            entry.external_attr = (0o755 if is_program else 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            with open(whole, "rb") as file:
                archive.writestr(entry, file.read())


def variables(names: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that travel: those that are named, and never a secret.

    Args:
        names: Their names.
        environment: Where their values are.

    Raises:
        ConfigError: One is not there, is likely to be a secret, or is set by the job itself.
    """
    for name in names:
        if "=" in name:
            alone = name.partition("=")[0]
            raise ConfigError(
                f"--env {alone}=...: give the name only, --env {alone}; the value is taken from "
                "the environment here, so export it first"
            )
        if name in _THE_JOBS_OWN:
            raise ConfigError(f"--env {name}: jobs set it themselves; use +ray.env_vars.{name}=...")
        if name not in environment:
            raise ConfigError(f"--env {name}: there is no such variable here; export it first")
        if has_secret_variable(name) or has_secret_look(environment[name]):
            raise ConfigError(
                f"--env {name} is likely to be a secret, and Ray shows what a job was submitted "
                "with to all who see the cluster; set it in the environment of the nodes, or give "
                "them a role (docs/cluster.md)"
            )
    return {name: environment[name] for name in names}


def _walk(folder: str, below: str, excludes: Sequence[str]) -> Iterator[Taken]:
    with os.scandir(os.path.join(folder, below)) as entries:
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            if any(_is_kept_back(name, pattern) for pattern in excludes):
                continue
            if entry.is_symlink():
                _check_link(folder, name, entry)
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(folder, name, excludes)
            elif entry.is_file():
                yield Taken(name, entry.stat().st_size)


def _is_kept_back(name: str, pattern: str) -> bool:
    """Return whether a pattern means a file or a folder; what is above it was asked before."""
    inner = pattern.rstrip("/")
    if "/" in inner:
        return fnmatch(name, inner.lstrip("/"))
    return fnmatch(name.rpartition("/")[2], inner)


def _check_link(folder: str, name: str, entry: Any) -> None:
    """Refuse a link to a folder, and to a file outside.

    Raises:
        ConfigError: It names the link.
    """
    real, top = os.path.realpath(entry.path), os.path.realpath(folder)
    if entry.is_dir() or not real.startswith(f"{top}/"):
        raise ConfigError(
            f"{os.path.join(folder, name)} is a link to {real}, which does not travel; put what "
            "the job needs there, or keep the link back with excludes in cluster/runtime_env.yaml"
        )
