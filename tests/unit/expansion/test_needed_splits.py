"""Data without a split that a run needs end a dry run too, and name it."""

import pytest
from composed import composed
from published_data import write_av_mnist_arrays

from mke_ray.errors import ConfigError
from mke_ray.expansion import expand

ENCODER = "{type: features, num_inputs: 1, hidden: [4]}"
COLUMNS = "{label: label, split: split}"


def dry_run(folder, splits, *overrides):
    rows = [f"{n},{n % 2},{n % 2},{['p', 'q'][n % 2]},{one}" for n, one in enumerate(splits)]
    (folder / "rows.csv").write_text("\n".join(["n,a,b,label,split", *rows]))
    (job,) = composed(
        "experiment=features",
        "objective=mke",
        "tracking=off",
        f"source.root={folder}",
        "source.table=rows.csv",
        "source.modalities={a: a, b: b}",
        "source.classes=[p,q]",
        f"++source.columns={COLUMNS}",
        *(f"++decode.{one}={{kind: features, num_features: 1}}" for one in "ab"),
        *(f"++student.encoders.{one}={ENCODER}" for one in "ab"),
        "teacher.modality=a",
        f"root={folder / 'run'}",
        "dry_run=true",
        *overrides,
    )
    expand([job])


@pytest.mark.parametrize("missing", ["labelled", "unlabeled", "test"])
def test_a_dry_run_names_the_split_that_is_missing(tmp_path, missing):
    there = [one for one in ("labelled", "unlabeled", "test") if one != missing]
    said = rf"no rows with split={missing}; .*'{there[0]}': 4.*in the table or by folder"
    with pytest.raises(ConfigError, match=said):
        dry_run(tmp_path, there * 4)


def test_of_a_source_that_draws_its_splits_the_keys_are_named(tmp_path):
    write_av_mnist_arrays(tmp_path)
    (job,) = composed(
        "experiment=av_mnist_arrays",
        "tracking=off",
        f"source.root={tmp_path}",
        "source.num_probe=69",
        "source.labelled=0.9",
        f"root={tmp_path / 'run'}",
        "dry_run=true",
    )
    said = r"no rows with split=\w+; .*source\.labelled=0\.9, source\.num_probe=69: change these"
    with pytest.raises(ConfigError, match=said) as caught:
        expand([job])
    assert "folder" not in str(caught.value)


def test_a_dry_run_needs_no_labelled_rows_where_the_teacher_is_there(tmp_path, capsys):
    network = "{_target_: label_fakes.FakeTeacher, modality: a, num_classes: 2, kind: features}"
    dry_run(
        tmp_path,
        ["unlabeled", "test"] * 6,
        "teacher=custom",
        "teacher.modality=a",
        f"+teacher.network={network}",
        "allow_targets=[label_fakes]",
    )
    assert "nothing was written" in capsys.readouterr().out
