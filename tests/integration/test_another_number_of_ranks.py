"""A fit that two ranks began, one goes on with and three end: as if nothing had been."""

import json

import pytest
import torch
from rank_processes import Phase, run_phases
from training_stores import fit_spec, make_run

from mke_ray.errors import TrainingError
from mke_ray.storage import open_root
from mke_ray.train.checkpoints import damage_of, open_checkpoint
from mke_ray.train.fits import FitStore
from mke_ray.train.launch import run_fits

STAGES = (1, 2, 3)
SHARDED = "fsdp2"
KINDS = (SHARDED, *STAGES)  # ZeRO 3 leaves a patch of torch in its process
MICRO_BATCH = 8
SPEC = {"num_steps": 18, "global_batch": 22, "clip_norm": 0.5}


def engine_of(stage: int | str) -> dict:
    if stage == SHARDED:
        return {"type": "torch", "shard": SHARDED}
    zero = {"stage": stage}
    if stage == 3:
        zero["stage3_param_persistence_threshold"] = 0
    return {"type": "deepspeed", "config": {"zero_optimization": zero}}


def spec_of():
    return fit_spec(**SPEC, ema_decay=0.9)


@pytest.fixture(scope="module")
def resized(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("resized")
        (folder / "temporary").mkdir()
        patch.setenv("TMPDIR", str(folder / "temporary"))
        return folder, resize(folder)


def resize(folder):
    """Train a fit of each kind by two ranks, then by one, then by three, and return their roots."""
    roots = {stage: str(folder / f"run{stage}") for stage in KINDS}
    for root in roots.values():
        make_run(open_root(root), {"labelled": 20, "unlabeled": 90, "probe": 40})
    last = None
    for number, (num_ranks, stop_at) in enumerate([(2, 6), (1, 12), (3, None)]):
        phases = [
            Phase(
                root,
                spec_of().to_dict(),
                engine_of(stage),
                stop_at,
                str(folder / f"{number}/{stage}"),
                None if last is None else str(folder / f"{last}/{stage}"),
                MICRO_BATCH,
            )
            for stage, root in roots.items()
        ]
        run_phases(phases, num_ranks)
        last = number
    return roots


@pytest.mark.parametrize("stage", KINDS)
def test_two_ranks_then_one_then_three_end_with_the_weights_of_one(resized, stage, tmp_path):
    _, roots = resized
    spec, root = spec_of(), open_root(str(tmp_path / "one"))
    make_run(root, {"labelled": 20, "unlabeled": 90, "probe": 40})
    run_fits([spec], root=root, launch="local", scaling={}, engine={"type": "torch"})
    expected = FitStore(root).weights(spec.fingerprint())
    found = FitStore(open_root(roots[stage])).weights(spec.fingerprint())
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-4)


@pytest.mark.parametrize("stage", KINDS)
def test_every_step_is_made_once_whoever_makes_it(resized, stage):
    history = FitStore(open_root(resized[1][stage])).history(spec_of().fingerprint())
    assert [record["step"] for record in history] == list(range(1, 19))


def test_the_universal_form_is_not_left_behind(resized):
    assert not list((resized[0] / "temporary").glob("mke_ray-universal-*"))


def test_a_checkpoint_with_a_changed_or_missing_file_is_refused_by_name(resized):
    folder = resized[0] / "1/1"
    assert damage_of(folder, num_ranks=1) == ""
    state = open_checkpoint(folder).head
    assert (state["world_size"], state["cursor"]) == (1, 12)
    assert damage_of(folder, num_ranks=2) == "digests/1.json is missing"
    assert damage_of(folder, num_ranks=1, names=["../x"]) == "../x lies outside it"
    (folder / "state.json").write_text(json.dumps({**state, "cursor": 11}))
    with pytest.raises(TrainingError, match=r"state\.json is missing or not the file"):
        open_checkpoint(folder)
