"""What a trial trains from values of keys."""

import pytest
import torch
from composed import composed

pytest.importorskip("transformers", reason="the extra transformers is not installed")

from published_data import write_mm_imdb
from tiny_pretrained import save_bert

from mke_ray.config import build
from mke_ray.expansion.checks import check_job
from mke_ray.randomness import keys_for
from mke_ray.search.candidates import Candidates


def test_a_trial_with_values_of_its_own_knows_the_ids_of_the_tokenizer_too(tmp_path):
    write_mm_imdb(tmp_path / "data", train=6, dev=2, test=2)
    save_bert(tmp_path / "bert")
    overrides = [
        "experiment=mm_imdb_tokens",
        "+smoke=mm_imdb_tokens",
        f"source.root={tmp_path / 'data'}",
        f"root={tmp_path / 'run'}",
        f"decode.plot.tokenizer={tmp_path / 'bert'}",
        "scaling=local",
        "labelling=local",
        "engine=torch",
    ]

    def compose(values):
        return composed(*overrides, *(f"{key}={value}" for key, value in values.items()))[0]

    run = check_job(compose({}))
    unread = {"manifest": None, "labels": None, "teacher": None, "refined": None}
    candidates = Candidates(run=run, **unread, compose=compose, num_looks=1)  # pyright: ignore[reportArgumentType]
    job = candidates.job_of({"views.plot.mask": 0.3})
    assert job.views["plot"] == {**run.job.views["plot"], "mask": 0.3}
    assert job.decode == run.job.decode and candidates.job_of({}) is run.job
    x_BL = torch.arange(5, 15).repeat(4, 1)
    seen_BL = build(job.views["plot"])(x_BL, keys_for(torch.arange(4), seed=0, epoch=0, stream=1))
    assert (seen_BL == run.job.decode["plot"]["mask_id"]).any()
