"""Pages of studies escape what they are told, miss no name, and are written last."""

import json
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from mke_ray.report.study_page import study_page, write_study
from mke_ray.report.style import Picture
from mke_ray.storage import open_root

FOCUS = ("mke_ray.focus", "focus.html.j2")
NAMES = {"metrics": "n.json", "time": "1 s"}
CONTENT = {
    "title": "<b>bold</b>",
    "said": [],
    "tiles": [],
    "pictures": [],
    "tables": [],
    "notes": [],
}


def test_what_a_page_is_told_is_escaped_and_its_style_is_not() -> None:
    page = study_page(*FOCUS, content=CONTENT, **NAMES)
    assert "&lt;b&gt;bold" in page and "<b>" not in page
    style = page[page.index("<style>") : page.index("</style>")]
    assert len(style) > 1000 and "&" not in style


def test_a_name_that_a_page_lacks_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="metrics"):
        study_page(*FOCUS, content=CONTENT, time="1 s")


def test_the_page_lies_beside_its_numbers_and_figures(tmp_path: Path) -> None:
    folder = open_root(str(tmp_path))
    picture = Picture("one", "title", "<svg/>", b"png")
    uri = write_study(folder, name="n.json", plain={"a": 1.5}, pictures=[picture], page="whole")
    assert uri == f"{tmp_path}/index.html" and Path(uri).read_text() == "whole"
    assert json.loads((tmp_path / "n.json").read_text()) == {"a": 1.5}
    assert (tmp_path / "figures" / "one.png").read_bytes() == b"png"


def test_numbers_that_json_lacks_are_refused_before_the_page_is_there(tmp_path: Path) -> None:
    folder = open_root(str(tmp_path))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_study(folder, name="n.json", plain={"a": float("nan")}, pictures=[], page="")
    assert not (tmp_path / "index.html").exists()
