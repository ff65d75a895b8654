"""Runs side by side: paired where they share samples, by their spread over draws."""

import json
from dataclasses import fields

import numpy as np
import pyarrow as pa
import pytest
from report_contents import arm, content, evaluation

from mke_ray.config_schema import LabellingConfig, ScalingConfig
from mke_ray.config_upkeep import ReportConfig
from mke_ray.errors import ConfigError, StoreError
from mke_ray.expansion.reporting import report
from mke_ray.metrics import bootstrap_by_group
from mke_ray.report import compare_page, comparing, write_report
from mke_ray.report.compare_page import comparison_dict, comparison_words, write_comparison
from mke_ray.report.comparing import DRAWS, PAIRED, arm_scores, compare, short_names
from mke_ray.report.stored import StoredRun
from mke_ray.storage import open_root

NUM = 60
RIGHT = np.random.default_rng(0).random((4, NUM)) < np.array([[0.6], [0.8], [0.85], [0.9]])


def scores(student_N, *, first=0, seeds=1, digest=7):
    columns = {
        "sample_id": np.arange(first, first + NUM),
        "group": [f"g{one // 2}" for one in range(first, first + NUM)],
        "digest": np.full(NUM, digest, np.uint64),
        "teacher/0": RIGHT[0].astype(np.float32),
    }
    for seed in range(seeds):
        columns[f"mke/{seed}"] = np.roll(student_N, seed).astype(np.float32)
    return pa.table(columns)


def run(uri, table, *, data_seed=0, source="s", classes=("cat", "dog"), config=None, **more):
    made = content(
        classes=list(classes),
        drawn={"source": source, "data_seed": data_seed},
        config={"name": uri, "root": uri, "fit": {"num_steps": 10}, **(config or {})},
        **more,
    )
    return StoredRun(uri, made, table)


def test_runs_of_the_same_samples_are_paired_by_group():
    runs = [run("x/a", scores(RIGHT[1])), run("x/b", scores(RIGHT[3]))]
    found = compare(runs)
    assert found.kind == PAIRED and found.names == ["a", "b"]
    assert (found.num_common, found.num_groups) == (NUM, NUM // 2)
    teacher, student = found.differences
    assert (teacher.arm, teacher.difference) == ("teacher", 0.0)
    wanted = bootstrap_by_group(RIGHT[3].astype(float) - RIGHT[1], np.arange(NUM) // 2)
    assert student.difference == pytest.approx(RIGHT[3].mean() - RIGHT[1].mean())
    assert student.ci95 == pytest.approx((wanted.low, wanted.high))


def test_the_best_of_several_is_judged_by_simultaneous_intervals():
    runs = [run(name, scores(RIGHT[row])) for name, row in (("a", 1), ("b", 2), ("c", 3))]
    found = compare(runs)
    groups = np.arange(NUM) // 2
    gain_N = RIGHT[3].astype(float) - RIGHT[1]
    wanted = bootstrap_by_group(gain_N, groups, num_resamples=4000, confidence=0.975)
    best = found.differences[-1]
    assert best.ci95 == pytest.approx((wanted.low, wanted.high))
    alone = compare([runs[0], runs[2]]).differences[-1]
    assert best.ci95[0] < alone.ci95[0] < alone.ci95[1] < best.ci95[1]
    assert "simultaneous 95% intervals over 2 comparisons" in comparison_words(found)


def test_groups_of_all_runs_count_whichever_is_first():
    plain = scores(RIGHT[1])
    alone = plain.set_column(1, "group", pa.array([f"s{one}" for one in range(NUM)]))
    sixes = pa.array([f"g{one // 6}" for one in range(NUM)])
    speakers = scores(RIGHT[3]).set_column(1, "group", sixes)
    a, b = run("a", alone), run("b", speakers)
    one, two = compare([a, b]), compare([b, a])
    assert one.num_groups == two.num_groups == NUM // 6
    low, high = two.differences[1].ci95
    assert one.differences[1].ci95 == pytest.approx((-high, -low))
    across = pa.array([f"p{(one + 1) // 6}" for one in range(NUM)])
    assert (
        compare([b, run("c", plain.set_column(1, "group", across))]).num_groups == 1
    )  # each cuts across the other


def test_the_page_says_that_scores_of_samples_are_no_mean_iou_of_a_part(tmp_path):
    dense = {"evaluation": evaluation(metric="miou")}
    runs = [run("a", scores(RIGHT[1]), **dense), run("b", scores(RIGHT[2], first=20), **dense)]
    root = open_root(str(tmp_path))
    write_comparison(root, compare(runs))
    assert "is not the mean IoU of that part" in root.read("index.html").decode()


def test_only_samples_that_both_have_are_paired():
    found = compare([run("a", scores(RIGHT[1])), run("b", scores(RIGHT[2], first=20))])
    assert found.num_common == NUM - 20
    student = found.differences[1]
    assert student.base == pytest.approx(RIGHT[1][20:].mean())
    assert student.value == pytest.approx(RIGHT[2][: NUM - 20].mean())


def test_seeds_of_an_arm_are_averaged():
    table = scores(RIGHT[1], seeds=2)
    other_N = np.roll(RIGHT[1], 1)
    assert (other_N != RIGHT[1]).any()
    assert arm_scores(table, "mke") == pytest.approx((RIGHT[1].astype(float) + other_N) / 2)
    assert arm_scores(table, "mk") is None


def test_draws_of_the_data_are_compared_by_their_spread():
    arms = [{"teacher": arm("teacher", 0.65), "mke": arm("mke", one)} for one in (0.7, 0.8, 0.6)]
    runs = [
        run(f"d/{n}", scores(RIGHT[1], digest=n), data_seed=n, evaluation=evaluation(arms=one))
        for n, one in enumerate(arms)
    ]
    found = compare(runs)
    student = found.spreads[1]
    assert found.kind == DRAWS and not found.differences
    assert student.mean == pytest.approx(0.7) and student.std == pytest.approx(0.1)
    assert student.gain == pytest.approx(0.05) and student.above == pytest.approx(2 / 3)
    half = 4.302653 * 0.1 / 3**0.5  # t of two degrees of freedom
    assert student.gain_ci95 == pytest.approx((0.05 - half, 0.05 + half), abs=1e-6)
    assert "gains +5.0 points" in comparison_words(found)


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (0, "draws of the data on the same 60 test samples "),
        (20, "up to 67% are the same in two of them"),
    ],
)
def test_draws_that_share_test_samples_get_no_interval(tmp_path, first, said):
    runs = [run(f"d/{n}", scores(RIGHT[n + 1], first=n * first), data_seed=n) for n in range(3)]
    found = compare(runs)
    assert found.kind == DRAWS and all(one.gain_ci95 is None for one in found.spreads)
    assert found.spreads[1].std is not None
    words = comparison_words(found)
    assert said in words and "interval" not in words and "nothing of other samples" in words
    root = open_root(str(tmp_path))
    write_comparison(root, found)
    assert "the spread says nothing of other test samples" in root.read("index.html").decode()


def test_rows_of_drawn_tables_are_told_apart_by_their_version():
    tables = [
        scores(RIGHT[1]).append_column("version", pa.array([n] * NUM, pa.uint64()))
        for n in range(2)
    ]
    found = compare([run(f"d/{n}", one, data_seed=n) for n, one in enumerate(tables)])
    assert found.shared == 0.0 and found.spreads[1].gain_ci95 is not None


def test_settings_that_differ_are_listed_and_then_no_spread_is_told():
    runs = [
        run("a", scores(RIGHT[1])),
        run("b", scores(RIGHT[2]), config={"fit": {"num_steps": 20}, "seed": 1}),
    ]
    found = compare(runs)
    assert found.settings == {"fit.num_steps": [10, 20], "seed": [None, 1]}
    assert not found.spreads


@pytest.mark.parametrize(
    ("config", "is_repeat"),
    [
        ({"seed": 1}, True),
        ({"model_seeds": [1], "scaling": {"num_workers": 4}, "labelling": {"num_cpus": 2}}, True),
        ({"seed": 1, "labelling": {"teachers_pool": {"num_gpus": 1}}}, True),
        ({}, False),  # a copy of the first
        ({"scaling": {"num_workers": 4}}, False),
        ({"seed": 1, "engine": {"bf16": True}}, False),
        ({"seed": 1, "scaling": {"micro_batch": 8}}, False),
        ({"seed": 1, "scaling": {"window_units": 2}}, False),
        ({"seed": 1, "labelling": {"precision": "bfloat16"}}, False),
    ],
)
def test_runs_are_repeats_only_where_each_has_its_own_seeds_and_nothing_else(config, is_repeat):
    runs = [run("a", scores(RIGHT[1])), run("b", scores(RIGHT[2]), config=config)]
    assert bool(compare(runs).spreads) == is_repeat
    copied = [*runs, run("c", scores(RIGHT[2]), config=config)]
    assert not compare(copied).spreads


def test_where_the_data_are_is_no_setting_but_which_table_says_what_is_labelled_is():
    there = {"root": "/a", "places": [], "storage_options": {}, "table": "few.csv"}
    moved = {
        "root": "s3://b/a",
        "places": ["/links"],
        "storage_options": {"key": "x"},
        "endpoint_url": "http://store",
        "region": "r",
        "anonymous": True,
        "table": "few.csv",
    }
    runs = [
        run("a", scores(RIGHT[1]), config={"source": there}),
        run("b", scores(RIGHT[2]), config={"source": moved, "seed": 1}),
    ]
    found = compare(runs)
    assert list(found.settings) == ["seed"] and found.spreads
    runs[1] = run(
        "b", scores(RIGHT[2]), config={"source": {**moved, "table": "all.csv"}, "seed": 1}
    )
    assert "source.table" in compare(runs).settings and not compare(runs).spreads


def test_every_neutral_key_is_a_key_of_the_configuration():
    for group, kind in (("scaling", ScalingConfig), ("labelling", LabellingConfig)):
        assert set(comparing._NEUTRAL[group]) <= {one.name for one in fields(kind)}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"classes": ("cat", "owl")}, "z/b has the classes .*another label space"),
        ({"evaluation": evaluation(metric="map")}, "z/b is measured by map"),
        ({"table": scores(RIGHT[1], digest=8)}, "z/b was tested on other data than z/a"),
        ({"table": scores(RIGHT[1], first=500)}, "z/b was tested on other data than z/a"),
        ({"source": "t", "table": scores(RIGHT[1], first=1)}, "z/b .*shares 59"),
        ({"source": "t", "data_seed": 1}, "z/b was tested on other data .*source is another"),
        (
            {"data_seed": 1, "config": {"fit": {"num_steps": 20}}},
            "z/b is of another draw .*fit.num_steps",
        ),
    ],
)
def test_runs_that_cannot_be_compared_are_named_with_the_reason(other, said):
    table = other.pop("table", scores(RIGHT[1]))
    with pytest.raises(StoreError, match=said):
        compare([run("z/a", scores(RIGHT[1])), run("z/b", table, **other)])


def test_draws_and_repeats_of_one_draw_are_not_mixed():
    runs = [run(n, scores(RIGHT[1]), data_seed=seed) for n, seed in (("a", 0), ("b", 1), ("c", 0))]
    with pytest.raises(StoreError, match="c is of the same draw of the data as a"):
        compare(runs)


def test_names_are_as_short_as_they_may_be():
    assert short_names(["/o/a/seed-0", "/o/b/seed-0"]) == ["a/seed-0", "b/seed-0"]
    assert short_names(["/o/a", "/o/b/"]) == ["a", "b"]


def test_the_page_and_its_numbers_say_the_same(tmp_path):
    found = compare([run("a", scores(RIGHT[1])), run("b", scores(RIGHT[3]))])
    root = open_root(str(tmp_path))
    page = write_comparison(root, found)
    assert page == f"{tmp_path}/index.html"
    plain = json.loads(root.read("compare.json"))
    assert plain == json.loads(json.dumps(comparison_dict(found)))
    shown = root.read("index.html").decode()
    assert plain["said"] in shown and "better" in plain["said"]
    assert f"{100 * plain['differences'][1]['difference']:+.1f}" in shown
    assert root.exists("figures/compared_arms.png") and "<script" not in shown


def test_names_with_underscores_dollars_and_signs_are_drawn(tmp_path, monkeypatch):
    drawn = []
    keep = compare_page.style.to_picture
    monkeypatch.setattr(
        compare_page.style,
        "to_picture",
        lambda figure, **words: drawn.append(figure) or keep(figure, **words),
    )
    names = ["$a_$", "_old", "<b>"]
    runs = [run(f"r/{name}", scores(RIGHT[row])) for row, name in enumerate(names, start=1)]
    root = open_root(str(tmp_path))
    write_comparison(root, compare(runs))
    legends = [[one.get_text() for one in figure.legends[0].get_texts()] for figure in drawn]
    assert legends == [names, names[1:]]
    assert "&lt;b&gt;" in root.read("index.html").decode()


def test_the_job_makes_a_page_again_and_compares(tmp_path, capsys):
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    for uri, row in ((a, 1), (b, 3)):
        write_report(open_root(uri), run(uri, scores(RIGHT[row])).content, scores(RIGHT[row]))
    page = open_root(a).read("report/index.html")
    open_root(a).delete("report/index.html")
    report([ReportConfig(roots=a)])
    report([ReportConfig(roots=[a])])
    assert open_root(a).read("report/index.html") == page
    out = str(tmp_path / "out")
    report([ReportConfig(roots=[a, b], out=out, dry_run=True)])
    assert not open_root(out).exists("index.html")
    report([ReportConfig(roots=[a, b], out=out)])
    assert open_root(out).exists("index.html")
    assert f"Comparison: {out}/index.html" in capsys.readouterr().out


def test_draws_below_one_root_are_taken_together(tmp_path, capsys):
    root = open_root(str(tmp_path))
    root.write("draws.json", b"{}")
    for number in range(2):
        one = run(f"{tmp_path}/data-seed-{number}", scores(RIGHT[1]), data_seed=number)
        write_report(open_root(one.uri), one.content, one.scores)
        open_root(one.uri).write("manifest/meta.json", b"{}")
    report([ReportConfig(roots=[str(tmp_path)], dry_run=True)])
    assert "Over 2 draws of the data" in capsys.readouterr().out


def test_roots_that_make_no_comparison_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"roots=\[\]"):
        report([ReportConfig()])
    with pytest.raises(ConfigError, match="is there twice"):
        report([ReportConfig(roots=[str(tmp_path), str(tmp_path)])])
    with pytest.raises(StoreError, match=f"{tmp_path}/a holds no finished report"):
        report([ReportConfig(roots=[str(tmp_path / "a")])])
