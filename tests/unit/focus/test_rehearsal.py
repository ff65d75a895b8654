"""A rehearsal goes the whole way of a draw on two samples, and refuses what ends there."""

import csv
from pathlib import Path

import pytest
from composed import composed
from focus_table import features, table

from mke_ray.errors import ConfigError
from mke_ray.focus import distilling
from mke_ray.focus.rehearsal import rehearse_draw, rehearse_gaussian


def unlabelled(folder: Path, *, but: int) -> None:
    """Take the classes of all rows of the table but some."""
    path = folder / "t.csv"
    with path.open() as file:
        head, *rows = list(csv.reader(file))
    place = head.index("label")
    for number, row in enumerate(rows):
        row[place] = row[place] if number < but else ""
    path.write_text("\n".join(",".join(row) for row in [head, *rows]))


def test_every_fit_takes_one_step_on_two_samples_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path)
    fitted = []
    fit_networks = distilling.fit_networks

    def counted(networks, loss, table, keys, **more) -> None:
        fitted.append((len(networks), keys.num_steps, table.num_samples))
        fit_networks(networks, loss, table, keys, **more)

    monkeypatch.setattr(distilling, "fit_networks", counted)
    said = rehearse_draw(features(tmp_path)[0])
    assert said[0].endswith("2 to train on and 2 to test were read")
    assert said[1].endswith("layer fusion has 8 channels, of which 4 are kept")
    assert sorted(fitted) == [(1, 1, 2)] * 15 + [(2, 1, 2)]
    assert [one.name for one in tmp_path.iterdir()] == ["t.csv"]


def test_a_layer_without_channels_to_choose_from_is_refused_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    table(tmp_path)
    (first, *_) = features(tmp_path, "student.encoders.a.hidden=[1]")
    with pytest.raises(ConfigError, match=r"focus\.layer: the layer has 1 channel"):
        rehearse_draw(first)


def test_splits_without_true_classes_are_named_with_what_was_read(tmp_path: Path) -> None:
    table(tmp_path)
    unlabelled(tmp_path, but=72)
    with pytest.raises(ConfigError, match=r"has all of \['a', 'b'\].*48 no true class"):
        rehearse_draw(features(tmp_path, "focus.splits=[unlabeled]")[0])


def test_a_source_that_makes_its_own_samples_makes_none_where_they_belong(tmp_path: Path) -> None:
    whose = "focus.select_from=multimodal"
    (job,) = composed("experiment=two_moon", f"root={tmp_path}/run", whose)
    assert rehearse_draw(job)[0].startswith("samples         2 to train on and 2 to test")
    assert list(tmp_path.iterdir()) == []


def test_the_synthetic_study_takes_one_step_of_every_setting() -> None:
    (job,) = composed("experiment=gaussian", "focus.gaussian.extras=[0]")
    assert "in each of 10 settings" in rehearse_gaussian(job)[0]
