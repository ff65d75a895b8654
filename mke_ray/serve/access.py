"""Who may ask: whoever knows the token, and without a token only this machine."""

import hashlib
import hmac
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from mke_ray.errors import ConfigError
from mke_ray.serve.problems import ProblemError

TOKEN_VARIABLE = "MKE_RAY_SERVE_TOKEN"  # noqa: S105 - the name of a variable, and no token

_LEAST_LETTERS = 16


@dataclass(frozen=True, slots=True)
class Access:
    """What a request has to show.

    Args:
        token_digest: SHA-256 of the token, so that neither logs nor Ray hold the token; None lets
            anybody ask who reaches the port, which then is open to this machine alone.
    """

    token_digest: bytes | None = None

    def check(self, headers: Mapping[str, str]) -> None:
        """Refuse a request that may not ask.

        Without a token, web pages in a browser of this machine are refused too: they send the
        name that they were loaded from as host or origin.

        Args:
            headers: Headers by their names in small letters.

        Raises:
            ProblemError: It may not.
        """
        if self.token_digest is None:
            self._check_is_here(headers)
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(token.strip().encode()).digest()
        if scheme.lower() != "bearer" or not hmac.compare_digest(digest, self.token_digest):
            raise ProblemError(401, "no token, or a wrong one", "send Authorization: Bearer TOKEN")

    def _check_is_here(self, headers: Mapping[str, str]) -> None:
        host, origin = headers.get("host", ""), headers.get("origin")
        is_here = is_loopback(_host_of(f"//{host}"))
        # Pages in a sandbox or of a file have the origin "null", which is no host.
        if not is_here or (origin is not None and not is_loopback(_host_of(origin))):
            raise ProblemError(
                403,
                "without a token only programs of this machine are served",
                f"ask 127.0.0.1, or set {TOKEN_VARIABLE} or token_file",
            )


def access_of(token_file: str | None, environment: Mapping[str, str] | None = None) -> Access:
    """Return who may ask, by the token of a file or of the environment.

    Args:
        token_file: File that holds the token; None looks into ``MKE_RAY_SERVE_TOKEN``.
        environment: The environment; None takes that of this process.

    Raises:
        ConfigError: The file cannot be read, or the token is short.
    """
    environment = os.environ if environment is None else environment
    token = environment.get(TOKEN_VARIABLE)
    if token_file is not None:
        try:
            with open(os.path.expanduser(token_file), encoding="utf-8") as file:
                token = file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"token_file={token_file} cannot be read: {error}") from error
    if token is None:
        return Access()
    if len(token) < _LEAST_LETTERS:
        raise ConfigError(
            f"the token of {'token_file' if token_file else TOKEN_VARIABLE} has {len(token)} "
            f"letters; {_LEAST_LETTERS} are the least, openssl rand -hex 32 makes one"
        )
    return Access(hashlib.sha256(token.encode()).digest())


def check_bind(host: str, access: Access) -> None:
    """Refuse to listen to other machines without a token.

    Raises:
        ConfigError: That is what is asked for.
    """
    if access.token_digest is None and not is_loopback(host):
        raise ConfigError(
            f"host={host} listens to other machines, and there is no token: set {TOKEN_VARIABLE} "
            "or token_file, or host=127.0.0.1"
        )


def _host_of(address: str) -> str:
    """Return the host of an address, "" where it has none or is no address."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine and nothing else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
