import io

from report_contents import content
from rich.console import Console

from mke_ray.report import terminal_report
from mke_ray.report.terminal import terminal


def shown(one, width=110):
    console = Console(file=io.StringIO(), width=width)
    console.print(terminal_report(one))
    return console.file.getvalue()


def test_the_terminal_shows_the_arms_the_verdict_and_the_broken_files():
    text = shown(content())
    (line,) = [line for line in text.splitlines() if line.startswith("MKE as published")]
    assert line.split()[3:] == [
        *("87.0%", "84.0", "to", "90.0", "+22.0", "+19.0", "to", "+25.0", "60.0%", "2.0%")
    ]
    assert "Promoted. The student is better" in text
    assert "12 partial (no_audio 12), 7 bad, 1 to retry (empty 4, truncated 4)" in text


def test_no_arm_is_cut_off_on_a_narrow_terminal():
    text = shown(content(), width=80)
    assert "Noisy student (unimodal)" in text
    assert "87.0%" in text


def test_brackets_of_values_are_printed_as_they_are(capsys):
    terminal().print("python jobs/expand.py 'arms=[mke]' name=:fire:", soft_wrap=True)
    assert capsys.readouterr().out == "python jobs/expand.py 'arms=[mke]' name=:fire:\n"
