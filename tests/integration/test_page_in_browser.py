import shutil
import subprocess

import pytest
from PIL import Image
from report_contents import content

from mke_ray.report import write_report
from mke_ray.storage import open_root

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_renders_the_page_without_errors_and_within_its_width(tmp_path, width):
    page = write_report(open_root(str(tmp_path)), content())
    with open(page, "a") as file:  # the page has no script of its own: this one measures it
        file.write("<script>document.title = document.documentElement.scrollWidth</script>")
    picture = tmp_path / "page.png"
    command = [
        *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
        *(f"--user-data-dir={tmp_path}/profile", f"--window-size={width},1500"),
    ]
    shot = subprocess.run(
        [*command, f"--screenshot={picture}", f"file://{page}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    dom = subprocess.run(
        [*command, "--dump-dom", f"file://{page}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in shot.stderr
    assert len(Image.open(picture).convert("RGB").getcolors(1 << 24) or []) > 50
    title = dom.stdout.split("<title>")[1].split("</title>")[0]
    assert int(title) <= max(width, 500)  # headless windows are at least 500 wide
