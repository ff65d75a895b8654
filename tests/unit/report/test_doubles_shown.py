import io

from report_contents import content
from rich.console import Console

from mke_ray.report import DoublePair, metrics_of, terminal_report
from mke_ray.report.page import draw_pictures, render_page

FOUND = {
    "probe": {"copy_of_test": 1},
    "unlabeled": {"copy_of_test": 1200, "copy_of_labelled": 3},
}
PAIR = DoublePair("unlabeled/<7>.mp4", "copy_of_test", "test/7.mp4", 0.031)


def with_doubles(found):
    return content(doubles=found, num_excluded_doubles=1201, double_pairs=[PAIR])


def on_terminal(one):
    console = Console(file=io.StringIO(), width=120)
    console.print(terminal_report(one))
    return console.file.getvalue()


def test_metrics_count_what_occurs_twice_by_split_and_kind():
    assert metrics_of(with_doubles(FOUND))["doubles"] == {**FOUND, "excluded": 1201}
    assert metrics_of(content())["doubles"] is None


def test_the_terminal_has_a_line_only_where_something_occurs_twice():
    line = "doubles: probe copy of test 1, unlabeled copy of test 1,200, unlabeled copy of labelled"
    assert line in on_terminal(with_doubles(FOUND))
    assert "1,201 left out" in on_terminal(with_doubles(FOUND))
    assert "doubles" not in on_terminal(with_doubles({}))
    assert "doubles" not in on_terminal(content())


def test_the_page_counts_them_and_shows_some_escaped():
    one = with_doubles(FOUND)
    page = render_page(one, draw_pictures(one))
    assert "Samples that occur twice; 1,201 of them are left out" in page
    assert "unlabeled: copy of test" in page
    assert "unlabeled/&lt;7&gt;.mp4" in page and "copy of test: test/7.mp4" in page
    assert "occur twice" not in render_page(content(), draw_pictures(content()))
