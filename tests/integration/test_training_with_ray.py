import json
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from training_stores import NO_NOISE, STUDENT, fit_spec, make_run

from mke_ray.errors import DeviceMemoryError, TrainingError
from mke_ray.storage import Root, open_root
from mke_ray.train.fits import FitStore, RowSelection
from mke_ray.train.launch import run_fits

TORCH = {"type": "torch"}
FSDP2 = {"type": "torch", "shard": "fsdp2"}
ZERO_1 = {"type": "deepspeed", "config": {"zero_optimization": {"stage": 1}}}
TWO_WORKERS = {"num_workers": 2, "checkpoint_every_steps": 5}
MIXED = (
    RowSelection("unlabeled", "pseudo"),
    RowSelection("labelled", "true", modalities=("a",), weight=0.25),
)
STEPS = {"num_steps": 24, "validate_every_steps": 12}


def new_run(folder: Path) -> Root:
    root = open_root(str(folder))
    make_run(root, {"labelled": 20, "unlabeled": 90, "probe": 40})
    return root


def weights_of(root: Root, spec) -> dict[str, torch.Tensor]:
    return FitStore(root).weights(spec.fingerprint())


@pytest.fixture(scope="module")
def zero_run(ray_session, tmp_path_factory):
    """Three fits in one worker group of two ranks, ZeRO 1, nothing going wrong."""
    root = new_run(tmp_path_factory.mktemp("zero"))
    fits = [
        fit_spec(**STEPS),
        fit_spec(**STEPS, rows=MIXED, seed=1, clip_norm=0.5),
        fit_spec(**STEPS, student={**STUDENT, "dropout": 0.3}, ema_decay=0.9),
    ]
    told = []
    run_fits(
        fits,
        root=root,
        launch="trainer",
        scaling=TWO_WORKERS,
        engine=ZERO_1,
        progress=lambda *line: told.append(line),
    )
    return root, fits, told


def test_all_fits_of_a_run_are_trained_in_one_group_and_progress_is_told(zero_run):
    root, fits, told = zero_run
    store = FitStore(root)
    assert all(store.has(one.fingerprint()) for one in fits)
    folders = [store.student_folder(one.fingerprint()) for one in fits]
    assert [json.loads(one.read("fit.json"))["world_size"] for one in folders] == [2, 2, 2]
    assert told[-1][:2] == (72, 72)
    history = store.history(fits[0].fingerprint())
    assert [r["step"] for r in history if "select_accuracy" in r] == [12, 24]


def test_zero_1_distributed_torch_and_one_process_agree(zero_run, tmp_path):
    root, fits, _ = zero_run
    torch_root = new_run(tmp_path / "torch")
    run_fits(fits[:2], root=torch_root, launch="trainer", scaling=TWO_WORKERS, engine=TORCH)
    local_root = new_run(tmp_path / "local")
    run_fits(fits[:2], root=local_root, launch="local", scaling={}, engine=TORCH)
    for one in fits[:2]:
        zero, ddp, local = (weights_of(r, one) for r in (root, torch_root, local_root))
        for name, weight in zero.items():
            torch.testing.assert_close(weight, ddp[name], rtol=0, atol=1e-6)
            torch.testing.assert_close(weight, local[name], rtol=0, atol=1e-4)


def test_nothing_was_compiled(zero_run):
    # DeepSpeed builds its operators below this folder, which takes minutes on two cores.
    assert not list(Path("~/.cache/torch_extensions").expanduser().rglob("*.so"))


def test_a_killed_worker_costs_steps_and_not_the_result(zero_run, tmp_path):
    root, fits, _ = zero_run
    marker = tmp_path / "killed"
    fault = {"_target_": "training_faults.KillOnce", "marker": str(marker)}
    broken = [replace(one, objective=fault) for one in (fits[0], fits[2])]
    once = {**TWO_WORKERS, "max_failures": 1}  # a restart more would be for no reason
    told: list[str] = []
    run_fits(
        broken,
        root=root,
        launch="trainer",
        scaling=once,
        engine=ZERO_1,
        progress=lambda done, total, text: told.append(text),
    )
    assert marker.exists() and told[-1].endswith(", restarted 1 time")
    assert any(one.startswith("starting workers again: lost worker") for one in told)
    store = FitStore(root)
    for before, after in zip((fits[0], fits[2]), broken, strict=True):
        assert store.weights_digest(before.fingerprint()) == store.weights_digest(
            after.fingerprint()
        )
    steps = [round(24 * float(line)) for line in Path(f"{marker}.calls").read_text().splitlines()]
    resumed_at = steps[16]
    assert steps == [*range(16), *range(resumed_at, 24), *range(24)]
    assert resumed_at in (5, 10, 15)  # the last checkpoint may not have been committed yet


def test_a_sharded_fit_in_micro_batches_survives_the_loss_of_a_worker(ray_session, tmp_path):
    root = new_run(tmp_path / "run")
    fault = {"_target_": "training_faults.KillOnce", "marker": str(tmp_path / "killed")}
    plain = fit_spec(**STEPS, ema_decay=0.9)
    fits = [plain, replace(plain, objective=fault)]
    scaling = {**TWO_WORKERS, "micro_batch": 3}
    run_fits(fits, root=root, launch="trainer", scaling=scaling, engine=FSDP2)
    assert (tmp_path / "killed").exists()
    store = FitStore(root)
    assert store.weights_digest(fits[0].fingerprint()) == store.weights_digest(
        fits[1].fingerprint()
    )


def test_a_loss_that_is_not_finite_on_one_rank_ends_the_run_at_once_with_the_samples(
    ray_session, tmp_path
):
    root, marker = new_run(tmp_path / "run"), tmp_path / "samples"
    fault = {"_target_": "training_faults.NotFinite", "marker": str(marker)}
    spec = fit_spec(objective=fault)
    with pytest.raises(TrainingError, match="step 3") as error:
        run_fits([spec], root=root, launch="trainer", scaling=TWO_WORKERS, engine=ZERO_1)
    tries = marker.read_text().splitlines()
    assert len(tries) == 1  # a restart would only meet it again
    assert all(sample in str(error.value) for sample in tries[0].split())
    assert not FitStore(root).has(spec.fingerprint())


def test_an_error_of_one_rank_that_a_restart_cannot_mend_costs_no_restart(ray_session, tmp_path):
    root, marker = new_run(tmp_path / "run"), tmp_path / "raised"
    fault = {"_target_": "training_faults.Raises", "marker": str(marker)}
    spec = fit_spec(objective={**fault, "error": "DeviceMemoryError"})
    with pytest.raises(DeviceMemoryError, match="the memory of this rank is full"):
        run_fits([spec], root=root, launch="trainer", scaling=TWO_WORKERS, engine=TORCH)
    assert marker.read_text().splitlines() == ["raised"]


def test_fits_side_by_side_as_tasks_are_those_of_one_process(ray_session, tmp_path):
    teacher = fit_spec(student={**STUDENT, "encoders": {"a": STUDENT["encoders"]["a"]}})
    fits = [
        teacher,
        fit_spec(init_from=teacher.fingerprint()),
        *(fit_spec(seed=seed, num_steps=None, num_epochs=2) for seed in range(2)),
    ]
    told = []
    tasks_root, local_root = new_run(tmp_path / "tasks"), new_run(tmp_path / "local")
    run_fits(
        fits,
        root=tasks_root,
        launch="tasks",
        scaling={},
        engine=TORCH,
        progress=lambda *line: told.append(line),
    )
    run_fits(fits, root=local_root, launch="local", scaling={}, engine=TORCH)
    for one in fits:
        assert FitStore(tasks_root).weights_digest(one.fingerprint()) == FitStore(
            local_root
        ).weights_digest(one.fingerprint())
    assert told[-1][0] == told[-1][1]


def test_an_error_of_ours_in_a_task_is_raised_as_it_is(ray_session, tmp_path):
    root = new_run(tmp_path / "run")
    fault = {"_target_": "training_faults.NotFinite", "marker": str(tmp_path / "samples")}
    spec = fit_spec(objective=fault)
    with pytest.raises(TrainingError, match="step 3"):
        run_fits([spec], root=root, launch="tasks", scaling={}, engine=TORCH)


@pytest.mark.s3
def test_tasks_that_hang_are_ended_and_their_processes_are_gone(ray_session, tmp_path):
    root = new_run(tmp_path / "run")
    hangs = {"_target_": "training_faults.Hangs", "marker": str(tmp_path / "hangs")}
    fits = [fit_spec(**STEPS), fit_spec(**STEPS, objective=hangs)]
    with pytest.raises(TrainingError, match=r"no step for 12 s .* search\.silence_s"):
        run_fits(fits, root=root, launch="tasks", scaling={"silence_s": 12.0}, engine=TORCH)
    assert FitStore(root).has(fits[0].fingerprint())
    hung = int((tmp_path / "hangs").read_text())
    psutil.wait_procs([psutil.Process(hung)] if psutil.pid_exists(hung) else [], timeout=60)
    assert not psutil.pid_exists(hung)


def test_a_run_in_a_bucket_checkpoints_there_and_survives_a_kill(ray_session, s3_server, tmp_path):
    root = open_root(s3_server.uri("training"))
    make_run(root, {"unlabeled": 40})
    fault = {"_target_": "training_faults.KillOnce", "marker": str(tmp_path / "killed")}
    fits = [fit_spec(**STEPS), fit_spec(**STEPS, objective=fault)]
    run_fits(fits, root=root, launch="trainer", scaling=TWO_WORKERS, engine=TORCH)
    digests = {FitStore(root).weights_digest(one.fingerprint()) for one in fits}
    assert len(digests) == 1
    assert any("state.json" in name for name in root.names("train"))
    assert fits[0].objective == NO_NOISE
