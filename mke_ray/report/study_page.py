"""What the pages of studies share: how they are rendered from a template, and written."""

import json
import posixpath
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from mke_ray.report.style import Picture
from mke_ray.storage import Root


def write_study(
    folder: Root,
    *,
    name: str,
    plain: Mapping[str, Any],
    pictures: Sequence[Picture],
    page: str,
) -> str:
    """Write what a study leaves for people: its numbers, figures, and index.html last.

    Args:
        folder: Folder that they are written to.
        name: Name of the JSON file of the numbers.
        plain: The numbers.
        pictures: The figures.
        page: The page.

    Returns:
        Path or URI of the page.
    """
    folder.write(name, json.dumps(plain, indent=1, allow_nan=False).encode())
    for picture in pictures:
        folder.write(f"figures/{picture.name}.png", picture.png)
    folder.write("index.html", page.encode())
    return posixpath.join(folder.uri, "index.html")


def study_page(
    package: str,
    template: str,
    *,
    filters: Mapping[str, Callable[..., str]] | None = None,
    **given: Any,
) -> str:
    """Return a page as one HTML text that loads nothing from anywhere.

    Everything is escaped, and a missing name is an error.

    Args:
        package: Package of the template.
        template: File of the template.
        filters: Filters of the template.
        **given: What the template is given, besides ``css``.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= filters or {}
    css = Markup(_file("mke_ray.report", "page.css"))  # noqa: S704 - a file of ours
    return environment.from_string(_file(package, template)).render(css=css, **given)


def _file(package: str, name: str) -> str:
    """Return a file of a package."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
