"""What people labelled is taken back into the probe, also after some of it was forgotten."""

from types import SimpleNamespace

import pytest

from mke_ray.config_ask import AskConfig
from mke_ray.errors import ConfigError
from mke_ray.expansion.more_probe import with_more_probe
from mke_ray.labels.asked import AskedSample, AskRecord, forget_asked, table_of
from mke_ray.labels.probe import GATE, probe_part
from mke_ray.schema import LabelSpace, sample_id
from mke_ray.storage import open_root

GROUPS = [one for one in (f"g{number}" for number in range(40)) if probe_part(one) == GATE][:12]
SAMPLES = tuple(
    AskedSample(f"q1-{number:04d}", sample_id(group), group, None, None, group, "agree")
    for number, group in enumerate(GROUPS)
)


@pytest.fixture
def run(tmp_path):
    """A run whose one draw is filled in, with its table beside the root."""
    root = open_root(str(tmp_path / "run"))
    AskRecord("q1", "settle", "fit", 0, 1.5, {"agree": 1.0}, SAMPLES).write(root)
    table = "".join(f"{line}cat\n" for line in table_of(SAMPLES).splitlines()[1:])
    (tmp_path / "labels.csv").write_text(f"{table_of(())}{table}")
    return SimpleNamespace(
        root=root,
        source=SimpleNamespace(label_space=LabelSpace(("cat", "dog"))),
        job=SimpleNamespace(
            ask=AskConfig(),
            probe=SimpleNamespace(more=str(tmp_path / "labels.csv")),
            gate=SimpleNamespace(select_fraction=0.5),
        ),
    )


def test_a_draw_of_which_samples_were_forgotten_is_still_taken(run):
    assert len(with_more_probe(run).answers) == 12
    forget_asked(run.root, {one.sample_id for one in SAMPLES[:3]})
    assert with_more_probe(run).answers[SAMPLES[4].sample_id] == (0,)
    run.job.gate.select_fraction = 0.99
    with pytest.raises(ConfigError, match=f"puts {GROUPS[3]} into the select part"):
        with_more_probe(run)


def test_nobody_has_to_label_what_was_forgotten(run, tmp_path):
    forget_asked(run.root, {one.sample_id for one in SAMPLES[:3]})
    table = (tmp_path / "labels.csv").read_text().splitlines()
    table[1:4] = [line.removesuffix("cat") for line in table[1:4]]
    (tmp_path / "labels.csv").write_text("\n".join(table))
    assert with_more_probe(run).answers[SAMPLES[0].sample_id] is None
