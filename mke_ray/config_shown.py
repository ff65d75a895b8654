"""What may be shown of a configuration: all but what may be a secret."""

import re
from collections.abc import Mapping
from typing import Any

from mke_ray.secret_looks import has_secret_look, has_secret_name, without_secrets

HIDDEN = "***"

_SECRET_SECTIONS = ("options", "env_vars")
_PASSWORD = re.compile(r"//[^/@\s]*@")


def hide_secrets(node: Any, *, is_secret: bool = False) -> Any:
    """Return plain data with every value hidden that may be a secret.

    Args:
        node: Plain nested data.
        is_secret: Whether all of it may be one.
    """
    if isinstance(node, Mapping):
        return {
            name: hide_secrets(child, is_secret=is_secret or is_secret_name(str(name)))
            for name, child in node.items()
        }
    if isinstance(node, list | tuple):
        return [hide_secrets(child, is_secret=is_secret) for child in node]
    if isinstance(node, str) and not is_secret:
        shown = without_secrets(_PASSWORD.sub(f"//{HIDDEN}@", node))
        return HIDDEN if has_secret_look(shown) else shown
    return HIDDEN if is_secret and node is not None else node


def is_secret_name(name: str) -> bool:
    """Return whether what a key holds, or any of it, may be a secret.

    Args:
        name: Its last name, or that of a section.
    """
    return name.endswith(_SECRET_SECTIONS) or has_secret_name(name)
