"""The line of a job that is to be submitted, checked before it is shown to a whole cluster."""

import os
import re
import shlex
from collections.abc import Collection, Sequence

from mke_ray.errors import ConfigError
from mke_ray.secret_looks import has_secret_look, has_secret_name, has_secret_variable

_INNER_KEY = re.compile(r"""([\w.]+)["']?\s*[:=]""")
_OF_A_STUDENT = "folder"
_LASTING = {"jobs/report.py": ("roots", "out"), "jobs/serve.py": (_OF_A_STUDENT,)}
_WAY_OUT = (
    "name an absolute folder that every node sees, or an object store such as s3://bucket/runs/1"
)
_VARIABLES = "env_vars"
_CONFIG_DIR = "--config-dir"


def entrypoint(words: Sequence[str]) -> str:
    """Return the line by which the cluster knows a job.

    Args:
        words: The job and what it is told, with or without ``python``.
    """
    return shlex.join(["python", *_without_python(words)])


def job_line(words: Sequence[str], files: Collection[str], folder: str) -> str:
    """Return the line that the cluster runs.

    Args:
        words: The job and what it is told: ``jobs/expand.py root=...``, with or without ``python``.
        files: Names of the files that travel.
        folder: Where they are.

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
    for key in _LASTING.get(told[0], ("root",)):
        _check_lasting(key, told, files, folder)
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


def _check_lasting(key: str, told: Sequence[str], files: Collection[str], folder: str) -> None:
    """Refuse a place below the working folder of a job, which the cluster deletes.

    Args:
        key: The key that names the place, or several.
        told: The job and what it is told.
        files: Names of the files that travel.
        folder: Where they are.

    Raises:
        ConfigError: It does not last, or nothing names one.
    """
    given = _values(key, told) or _values_in_files(key, told, files, folder)
    if not given:
        if not _needs(key, told):
            return
        raise ConfigError(
            f"{key} is not given, and its usual place is below the working folder of the job, "
            f"which the cluster deletes; {_WAY_OUT}"
        )
    for one in _parts(given[-1]):
        if one.startswith("~"):
            raise ConfigError(
                f"{key}={one} is in the home of whoever runs the cluster, on one node; {_WAY_OUT}"
            )
        travels = key == _OF_A_STUDENT and any(
            name.startswith(f"{os.path.normpath(one)}/") for name in files
        )
        if not ("://" in one or one.startswith(("/", "${")) or travels):
            raise ConfigError(
                f"{key}={one} is below the working folder of the job, which the cluster deletes; "
                f"{_WAY_OUT}"
            )


def _needs(key: str, told: Sequence[str]) -> bool:
    """Return whether a place that the line does not name is missing.

    The page of one run lies in its root. What a folder of one's own configuration holds is the
    job's to say, which refuses a root that would be gone with it.
    """
    is_own = any(word.partition("=")[0] in (_CONFIG_DIR, "-cd") for word in told)
    one_root = key == "out" and not any(len(_parts(one)) > 1 for one in _values("roots", told))
    return not (is_own or one_root)


def _values(key: str, told: Sequence[str]) -> list[str]:
    """Return what a line gives for a key."""
    given = re.compile(rf"\+*{key}=(.*)", re.DOTALL)
    return [found[1] for word in told if (found := given.fullmatch(word))]


def _values_in_files(
    key: str, told: Sequence[str], files: Collection[str], folder: str
) -> list[str]:
    """Return what the experiments that a line names give for a key."""
    names = [name for value in _values("experiment", told) for name in _parts(value)]
    found = []
    for file in (one for name in names for one in files if one.endswith(f"experiment/{name}.yaml")):
        with open(os.path.join(folder, file), encoding="utf-8") as content:
            found += re.findall(rf"^{key}:[ \t]*([^\s#].*?)[ \t]*(?: #.*)?$", content.read(), re.M)
    return found


def _parts(value: str) -> list[str]:
    """Return the items of a list of the command line, or its one value, without quotes."""
    return [one for part in value.strip("[]'\" ").split(",") if (one := part.strip("'\" "))]


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
