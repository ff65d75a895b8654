"""How a cluster is reached: the URL of its dashboard, and the token that it asks for."""

import os
import re
from collections.abc import Mapping

from mke_ray.errors import ConfigError

MODE, TOKEN, TOKEN_FILE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"

_URL = re.compile(r"https?://[^/]")
_USUAL_FILE = os.path.join("~", ".ray", "auth_token")


def check_address(address: str) -> None:
    """Refuse what is no URL: Ray would look for a cluster of its own kind there, for a minute.

    Raises:
        ConfigError: It names the URL that may be meant.
    """
    if _URL.match(address):
        return
    place = address.rpartition("://")[2]
    meant = f"did you mean http://{place}?" if place else "as in http://127.0.0.1:8265"
    raise ConfigError(
        f"--address {address}: give the URL of the cluster's dashboard, with http:// or https://; "
        f"{meant}"
    )


def token_trouble(environment: Mapping[str, str]) -> str:
    """Say what is wrong with the token that a cluster did not take, and the way out.

    Args:
        environment: The environment variables of this process; the token itself is never said.
    """
    given = f"export {MODE}=token and {TOKEN_FILE}=FILE, the file with the token of this cluster"
    if environment.get(MODE, "").lower() != "token":
        mode = environment.get(MODE)
        found = f"{MODE} is not set here" if mode is None else f"{MODE}={mode} here"
        return f"it asks for a token, and {found}; {given}"
    if environment.get(TOKEN):
        return f"it does not take the token in {TOKEN}; {given}, and unset {TOKEN}"
    if path := environment.get(TOKEN_FILE):
        return (
            f"{TOKEN_FILE}={path}: {_of_file(path)}; name the file with the token of this cluster"
        )
    if os.path.isfile(os.path.expanduser(_USUAL_FILE)):
        return f"it does not take the token in {_USUAL_FILE}; {given}"
    return f"it asks for a token, and neither {TOKEN_FILE} nor {TOKEN} is set here; {given}"


def _of_file(path: str) -> str:
    """Say why the token of a file is none that the cluster takes."""
    if not os.path.exists(path):
        return "there is no such file"
    if not os.path.isfile(path):
        return "that is no file"
    if not os.access(path, os.R_OK):
        return "the file may not be read"
    return "the cluster does not take its token" if os.path.getsize(path) else "the file is empty"
