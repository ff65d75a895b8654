"""The line of a job that is to be submitted, checked before it is shown to a whole cluster."""

import os
import re
import shlex
from collections.abc import Collection, Sequence

from mke_ray.errors import ConfigError
from mke_ray.secret_looks import has_secret_look, has_secret_name, has_secret_variable

_INNER_KEY = re.compile(r"""([\w.]+)["']?\s*[:=]""")
_VARIABLES = "env_vars"
_CONFIG_DIR = "--config-dir"


def entrypoint(words: Sequence[str]) -> str:
    """Return the line by which the cluster knows a job.

    Args:
        words: The job and what it is told, with or without ``python``.
    """
    return shlex.join(["python", *_without_python(words)])


def job_line(words: Sequence[str], files: Collection[str]) -> str:
    """Return the line that the cluster runs.

    Args:
        words: The job and what it is told: ``jobs/expand.py root=...``, with or without ``python``.
        files: Names of the files that travel.

    Raises:
        ConfigError: There is no such job, the line carries a secret, its root would be gone with
            the job, or its own configuration does not travel.
    """
    told = _without_python(words)
    if not told:
        raise ConfigError("what is to run? Give it behind --, as in -- jobs/expand.py root=...")
    if told[0] not in files:
        raise ConfigError(f"{told[0]} is not among the files that travel; name a job of jobs/")
    for word in told[1:]:
        _check_secret(word)
    _check_root(told)
    _check_config_dir(told, files)
    return entrypoint(told)


def _without_python(words: Sequence[str]) -> list[str]:
    return list(words[1:] if words[:1] == ["python"] else words)


def _check_secret(word: str) -> None:
    """Refuse a word that carries a secret.

    Raises:
        ConfigError: It names the key, and not what it holds.
    """
    key, _, value = word.partition("=")
    is_secret = has_secret_variable if _VARIABLES in key else has_secret_name
    named = [name for name in [key, *_INNER_KEY.findall(value)] if is_secret(name)]
    if named or has_secret_look(word):
        raise ConfigError(
            f"{named[0] if named else key} carries what is likely to be a secret, and Ray shows "
            "the lines of its jobs to all who see the cluster; set it in the environment of the "
            "nodes, or give them a role (docs/cluster.md)"
        )


def _check_root(told: Sequence[str]) -> None:
    """Refuse a root below the working folder, which the cluster deletes.

    Raises:
        ConfigError: There is none that lasts.
    """
    roots = [word.partition("=")[2] for word in told if re.match(r"\+*root=", word)]
    if not roots or not ("://" in roots[-1] or roots[-1].startswith("/")):
        said = f"root={roots[-1]}" if roots else "root is not given, and its usual place"
        raise ConfigError(
            f"{said} is below the working folder of the job, which the cluster deletes; name an "
            "absolute folder that every node sees, or an object store such as s3://bucket/runs/1"
        )


def _check_config_dir(told: Sequence[str], files: Collection[str]) -> None:
    """Refuse a folder of one's own configuration that does not travel.

    Raises:
        ConfigError: It does not.
    """
    for number, word in enumerate(told):
        flag, has_value, value = word.partition("=")
        if flag not in (_CONFIG_DIR, "-cd"):
            continue
        folder = value if has_value else told[number + 1] if number + 1 < len(told) else ""
        inner = os.path.normpath(folder)
        if not any(name.startswith(f"{inner}/") for name in files):
            raise ConfigError(
                f"{_CONFIG_DIR} {folder} does not travel; put it below the working folder, and "
                "name it from there"
            )
