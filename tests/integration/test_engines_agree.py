"""All engines train the same network, in fresh processes: ZeRO 3 leaves a patch in its process."""

import json
from pathlib import Path

import pytest
import torch
from engine_process import Case, run_ranks
from training_stores import fit_spec, make_run

from mke_ray.storage import open_root
from mke_ray.train.assemble import Workplace, assemble
from mke_ray.train.checkpoints import open_checkpoint, read_state
from mke_ray.train.loop import fit
from mke_ray.train.run import FitWatch

CURVES = Path(__file__).parent.parent / "assets" / "curves"
# Slices of 8 and 7 rows: uneven over ranks, and over passes of three rows.
FIT = {"num_steps": 20, "global_batch": 15, "clip_norm": 0.5, "ema_decay": 0.9}
TORCH = {"type": "torch"}
FSDP2 = {"type": "torch", "shard": "fsdp2"}
SKIP_ONE = {"skip_non_finite": 1}
OTHER_CPUS = 1e-4  # relative; 20 steps of AdamW on other kernels of torch


def zero(stage, **keys):
    section = {"stage": stage, **keys}
    if stage == 3:
        section["stage3_param_persistence_threshold"] = 40  # some weights stay whole, some do not
    return {"type": "deepspeed", "config": {"zero_optimization": section}}


def plain_and_in_passes(name, engine):
    return [Case(name, engine, FIT, {}), Case(f"{name}-passes", engine, FIT, {"micro_batch": 3})]


def spoilt(name, engine):
    """The second step has a finite loss whose gradient is not, on one rank."""
    fault = {"_target_": "training_faults.SpoiltGradient", "calls": [1]}
    return Case(f"{name}-spoilt", engine, {**FIT, "num_steps": 2, "objective": fault}, SKIP_ONE)


def saving(name, engine):
    return Case(f"{name}-saved", engine, FIT, {}, save_at=10)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    make_run(open_root(str(root)), {"labelled": 20, "unlabeled": 90, "probe": 40})
    return root


@pytest.fixture(scope="module")
def one_process(root, tmp_path_factory):
    half = Case("torch-half", TORCH, {**FIT, "num_steps": 10}, {})
    cases = [*plain_and_in_passes("torch", TORCH), half]
    return run_ranks(cases, num_ranks=1, root=root, folder=tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def two_ranks(root, tmp_path_factory):
    """All engines but ZeRO 3, one after the other on the same two ranks."""
    folder, cases = tmp_path_factory.mktemp("two"), []
    engines = {"ddp": TORCH, "fsdp2": FSDP2, "zero0": zero(0), "zero1": zero(1), "zero2": zero(2)}
    engines["offload"] = zero(2, offload_optimizer={"device": "cpu"})
    for name, engine in engines.items():
        cases += [*plain_and_in_passes(name, engine), spoilt(name, engine)]
    cases += [Case("ddp-first", TORCH, {**FIT, "num_steps": 1}, {}), saving("fsdp2", FSDP2)]
    return run_ranks(cases, num_ranks=2, root=root, folder=folder), folder


@pytest.fixture(scope="module")
def zero3(root, tmp_path_factory):
    folder, engine = tmp_path_factory.mktemp("three"), zero(3)
    cases = [*plain_and_in_passes("zero3", engine), spoilt("zero3", engine)]
    cases.append(saving("zero3", engine))
    return run_ranks(cases, num_ranks=2, root=root, folder=folder), folder


def assert_agree(mine, other, *, atol):
    torch.testing.assert_close(
        torch.tensor(mine.losses), torch.tensor(other.losses), rtol=0, atol=atol
    )
    torch.testing.assert_close(
        torch.tensor(mine.answers), torch.tensor(other.answers), rtol=0, atol=10 * atol
    )
    assert mine.weights.keys() == other.weights.keys()
    for name, weight in mine.weights.items():
        torch.testing.assert_close(weight, other.weights[name], rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["torch", "torch-passes"])
def test_the_loss_falls_along_the_curve_that_is_kept(one_process, name):
    kept = json.loads((CURVES / f"{name}.json").read_text())
    assert one_process[name].losses == pytest.approx(kept, rel=OTHER_CPUS)


@pytest.mark.parametrize("way", ["", "-passes"])
@pytest.mark.parametrize("name", ["fsdp2", "zero0", "zero1", "zero2", "offload"])
def test_engines_agree_on_losses_and_on_the_mean_of_the_weights(two_ranks, name, way):
    results, _ = two_ranks
    atol = 1e-5 if name == "fsdp2" else 1e-6
    assert_agree(results[name + way], results["ddp" + way], atol=atol)


@pytest.mark.parametrize("way", ["", "-passes"])
def test_several_processes_agree_with_one(one_process, two_ranks, zero3, way):
    for results in (two_ranks[0], zero3[0]):
        for name in {"ddp", "zero3"} & results.keys():
            assert_agree(results[name + way], one_process["torch" + way], atol=1e-5)


def test_a_step_in_passes_is_that_of_one_pass(one_process):
    assert_agree(one_process["torch-passes"], one_process["torch"], atol=1e-5)


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "zero0", "zero1", "zero2", "offload", "zero3"])
def test_a_gradient_that_is_not_finite_stops_before_the_update(two_ranks, zero3, name):
    results = {**two_ranks[0], **zero3[0]}
    spoilt_fit, first = results[f"{name}-spoilt"], two_ranks[0]["ddp-first"]
    assert [one.get("left_out") for one in spoilt_fit.history] == [None, "gradient"]
    for key, weight in first.weights.items():
        torch.testing.assert_close(spoilt_fit.weights[key], weight, rtol=0, atol=1e-6)


def test_a_sharded_fit_goes_on_with_more_ranks(two_ranks, root, tmp_path):
    results, folder = two_ranks
    case = Case("more", FSDP2, FIT, {}, resume=str(folder / "fsdp2-saved" / "checkpoint"))
    more = run_ranks([case], num_ranks=3, root=root, folder=tmp_path)["more"]
    assert_agree(more, results["fsdp2"], atol=1e-5)


def test_a_sharded_fit_goes_on_in_one_process(two_ranks, root):
    results, folder = two_ranks
    spec = fit_spec(**FIT)
    parts = assemble(spec, Workplace(open_root(str(root)), FSDP2))
    saved = open_checkpoint(folder / "fsdp2-saved" / "checkpoint")
    state = read_state(saved, spec.fingerprint(), parts)
    assert state.cursor == 10
    fit(spec, parts, state=state, watch=FitWatch(spec, None, None, 1, 0))
    mean = parts.average.over(parts.engine.weights())
    for name, weight in results["fsdp2"].weights.items():
        torch.testing.assert_close(mean[name], weight, rtol=0, atol=1e-5)


def test_the_mean_that_zero_3_keeps_in_parts_is_read_by_one_process(zero3, root, one_process):
    parts = assemble(fit_spec(**FIT), Workplace(open_root(str(root)), TORCH))
    parts.average.restore(zero3[1] / "zero3-saved" / "checkpoint")
    mean = parts.average.over(parts.engine.weights())
    for name, weight in one_process["torch-half"].weights.items():
        torch.testing.assert_close(mean[name], weight, rtol=0, atol=1e-5)
