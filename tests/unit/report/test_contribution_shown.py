"""What each modality is worth, in metrics.json, in words, on the page and as a figure."""

import io

import pytest
from PIL import Image
from report_contents import content, contribution
from rich.console import Console

from mke_ray.evaluation.contribution import Contribution, SeenResult, parts_of_all
from mke_ray.report import metrics_of, terminal_report
from mke_ray.report.contribution import contribution_line, contribution_picture, shown_title
from mke_ray.report.page import draw_pictures, render_page


def _three() -> Contribution:
    names = ("audio", "depth", "rgb")
    parts = [
        SeenResult(one, 0.1 * n, None, 0.1 * n - 0.9) for n, one in enumerate(parts_of_all(names))
    ]
    return Contribution("mke", names, SeenResult(names, 0.9, None), tuple(parts), True)


def test_metrics_tell_what_is_lost_without_each_modality_and_what_it_reaches_alone():
    found = metrics_of(content(contribution=contribution()))["contribution"]
    assert found["arm"] == "mke" and found["value"] == 0.933 and found["trained_with_gaps"]
    audio = found["modalities"]["audio"]
    assert audio["without"] == 0.742 and audio["without_ci95"] == [0.722, 0.761]
    assert audio["lost"] == pytest.approx(0.191) and audio["lost_ci95"] == [0.174, 0.208]
    assert audio["alone"] == 0.861 and audio["alone_ci95"] == [0.845, 0.876]
    assert found["modalities"]["image"]["without"] == 0.861


def test_what_was_not_asked_for_is_null_and_nowhere_shown():
    one = content()
    assert metrics_of(one)["contribution"] is None
    assert "contribution" not in draw_pictures(one)
    assert "What is each modality worth?" not in render_page(one, draw_pictures(one))


def test_the_terminal_says_it_in_a_line():
    console = Console(file=io.StringIO(), width=200)
    console.print(terminal_report(content(contribution=contribution())))
    assert (
        "With all modalities the student reaches 93.3%, without audio 74.2% (-19.1 points), "
        "without image 86.1% (-7.2 points)." in console.file.getvalue()
    )


def test_a_student_that_never_missed_a_modality_is_said_to_be_surprised():
    assert "never missed a modality in training" in contribution_line(contribution(False))
    assert "never missed" not in contribution_line(contribution())
    drawn = contribution_picture(contribution(False), teacher=0.7, metric="Accuracy")
    assert "never missed" in drawn.note


def test_three_modalities_are_also_shown_alone():
    found = _three()
    assert "with one alone: audio 30.0%, depth 40.0%, rgb 50.0%." in contribution_line(found)
    titles = [shown_title(one, found) for one in [found.whole, *found.parts]]
    assert titles == [
        *("All modalities", "Without audio", "Without depth", "Without RGB"),
        *("Audio alone", "Depth alone", "RGB alone"),
    ]


def test_the_page_has_the_figure_and_the_table():
    one = content(contribution=contribution())
    pictures = draw_pictures(one)
    assert pictures["contribution"].alt == (
        "Accuracy on the test set: Audio and image 93.3%; Image alone 74.2%; Audio alone 86.1%"
    )
    width, height = Image.open(io.BytesIO(pictures["contribution"].png)).size
    assert width > 1000 and height > 400
    page = render_page(one, pictures)
    assert page.count("What is each modality worth?") == 1
    assert "<td>-19.1<small>-20.8 to -17.4</small></td>" in page
