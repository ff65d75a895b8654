"""What people labelled, as more of the probe."""

import os

from mke_ray.config_ask import PURPOSES, SETTLE
from mke_ray.data.sources import Source
from mke_ray.errors import ConfigError
from mke_ray.expansion.run import Run
from mke_ray.labels.asked import MoreProbe, read_answers, records_of
from mke_ray.labels.probe import GATE, SELECT, probe_part
from mke_ray.schema import LabelKind


def with_more_probe(run: Run) -> Source:
    """Return the source of a run, with the labels of ``probe.more`` where there are any.

    Raises:
        ConfigError: A table is not what was asked for, or the probe is divided in another way
            than when it was drawn.
    """
    job = run.job
    check_ask(run)
    more = job.probe.more
    tables = [] if more is None else [more] if isinstance(more, str) else list(more)
    if not tables:
        return run.source
    records = records_of(run.root)
    tables = [one if "://" in one else os.path.abspath(os.path.expanduser(one)) for one in tables]
    answers = read_answers(tables, records, run.source.label_space)
    for record in records:
        part = GATE if record.purpose == SETTLE else SELECT
        for one in record.samples:
            if not one.group or one.sample_id not in answers:  # forgotten, or not of these tables
                continue
            found = probe_part(one.group, select_fraction=job.gate.select_fraction)
            if found != part:
                raise ConfigError(
                    f"gate.select_fraction={job.gate.select_fraction} puts {one.key} into the "
                    f"{found} part, but it was asked for as one of the {part} part; set what it "
                    f"was when {record.name} was drawn"
                )
    return MoreProbe(run.source, answers)


def check_ask(run: Run) -> None:
    """Refuse keys of ``ask`` that make no sense.

    Raises:
        ConfigError: It names the key.
    """
    ask = run.job.ask
    if ask.purpose not in PURPOSES:
        raise ConfigError(f"ask.purpose={ask.purpose!r}; choose one of {list(PURPOSES)}")
    for key, number in (("num", ask.num), ("max_per_group", ask.max_per_group)):
        if number < 1:
            raise ConfigError(f"ask.{key}={number}; give a number of at least 1")
    if run.job.probe.more and run.source.label_space.kind is LabelKind.DENSE:
        raise ConfigError("probe.more takes names of classes, and dense labels are maps; leave it")
