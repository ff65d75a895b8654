"""Classes that the student never answers are named on the page and in the terminal."""

import io
from dataclasses import replace

from report_contents import content, diagnosis, evaluation, full_content
from rich.console import Console

from mke_ray.evaluation.diagnosis import Move
from mke_ray.evaluation.results import Flow
from mke_ray.report import ReportContent, terminal_report
from mke_ray.report.never_answered import never_answered_line
from mke_ray.report.page import draw_pictures, render_page


def answering(*answered: int, num_classes: int, absent: int = -1) -> ReportContent:
    """Return a run whose student answers some classes alone; one class may be absent on test."""
    moves = tuple(Move(0, one, 10, 5, 5) for one in answered)
    flows = [Flow(0 if one == absent else 10, 0, 0, 0) for one in range(num_classes)]
    found = replace(diagnosis(), by_class=tuple(flows), moves=moves)
    names = [f"c{one}" for one in range(num_classes)]
    return content(evaluation=evaluation(diagnosis=found), classes=names)


def test_it_names_what_is_never_answered_and_occurs() -> None:
    """No answer at all (-1) is no class, and a class without test samples is not missed."""
    said = never_answered_line(answering(0, -1, num_classes=4, absent=2))
    assert said == "The student never answers c1, c3 on the test set, where they occur."
    one = never_answered_line(answering(0, num_classes=2))
    assert one == "The student never answers c1 on the test set, where it occurs."


def test_of_many_it_names_the_first() -> None:
    """The line stays a line."""
    said = never_answered_line(answering(0, num_classes=21))
    assert "c1, c2, c3, c4, c5, c6 and 14 more on" in said


def test_nothing_is_said_where_all_are_answered_or_nobody_counted() -> None:
    """Several classes per sample have no moves."""
    assert never_answered_line(full_content()) == ""
    assert never_answered_line(content()) == ""
    several = replace(diagnosis(), moves=())
    assert never_answered_line(content(evaluation=evaluation(diagnosis=several))) == ""


def test_page_and_terminal_say_it() -> None:
    """Both in their verdict."""
    whole = full_content()
    found = replace(diagnosis(), moves=tuple(one for one in diagnosis().moves if one.student != 1))
    one = replace(whole, evaluation=replace(whole.evaluation, diagnosis=found))
    line = "The student never answers dog on the test set, where it occurs."
    page = render_page(one, draw_pictures(one))
    assert line in page[: page.index("<nav")]
    console = Console(file=io.StringIO(), width=200)
    console.print(terminal_report(one))
    assert line in console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
