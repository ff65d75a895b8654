import os
import subprocess
import sys

import pytest

from mke_ray.errors import ConfigError
from mke_ray.train.accumulation import StepRules
from mke_ray.train.deepspeed_checks import OFFLOAD_KEYS, ZERO_KEYS, check_config, check_fit
from mke_ray.train.zero import deepspeed_config, zero_stage

NVME = {"device": "nvme", "nvme_path": "/local"}


def zero(**keys):
    return {"zero_optimization": keys}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"optimizer": {"type": "AdamW"}}, "fit.optimizer"),
        ({"scheduler": {}}, "fit.schedule"),
        ({"gradient_clipping": 1.0}, "fit.clip_norm"),
        ({"train_micro_batch_size_per_gpu": 4}, "scaling.micro_batch"),
        ({"gradient_accumulation_steps": 2}, "scaling.micro_batch"),
        ({"activation_checkpointing": {}}, "engine.checkpoint_activations"),
        ({"elasticity": {"enabled": True}}, "scaling.num_workers"),
        ({"zero_optimisation": {"stage": 2}}, "did you mean zero_optimization"),
        ({"fp16": {"enabled": True}}, "bf16"),
        ({"bf16": None}, "engine.config.bf16=None is no section"),
        ({"bf16": True}, "engine.config.bf16.enabled=true"),
        ({"zero_optimization": None}, "zero_optimization.stage=1"),
        ({"bfloat16": {"enabled": True}}, "engine.config.bf16"),
        ({"fp16": {"enabled": True}, "bf16": {"enabled": True}}, "choose one"),
        ({"bf16": {"check_grad_overflow": False}}, "check_grad_overflow"),
        (zero(stage=4), "stage is 4"),
        (zero(stage=2, overlap_com=True), "did you mean overlap_comm"),
        (zero(stage=2, offload_optimizer={"devise": "cpu"}), "did you mean device"),
        (zero(stage=2, offload_optimizer={"device": "disk"}), "device is 'disk'"),
        (zero(stage=0, offload_optimizer={"device": "cpu"}), "stage 1 or above"),
        (zero(stage=2, offload_param={"device": "cpu"}), "stage 3 or above"),
        (zero(stage=2, offload_optimizer=NVME), "stage 3 or above"),
        (zero(stage=3, offload_optimizer={"device": "nvme"}), "nvme_path"),
        (zero(stage=3, offload_optimizer=NVME), "workers with a GPU"),
    ],
)
def test_a_deepspeed_configuration_that_cannot_work_is_refused_by_key(config, words):
    with pytest.raises(ConfigError, match=words):
        check_config(config, use_gpu=False)


@pytest.mark.parametrize(
    ("config", "use_gpu"),
    [
        ({"gradient_accumulation_steps": 1, "wall_clock_breakdown": False}, False),
        ({"bf16": {"enabled": True}, **zero(stage=2, overlap_comm=True)}, False),
        ({"fp16": {"enabled": True}}, True),
        (zero(stage=1, offload_optimizer={"device": "cpu"}), False),
        (zero(stage=3, offload_optimizer=NVME, offload_param=NVME), True),
    ],
)
def test_a_deepspeed_configuration_that_can_work_is_accepted(config, use_gpu):
    check_config(config, use_gpu=use_gpu)


def fit_of(config, *, global_batch=64, averages=False, micro_batch=None, num_workers=(2, 2)):
    rules = StepRules(micro_batch)
    check_fit(
        config, global_batch=global_batch, averages=averages, rules=rules, num_workers=num_workers
    )


def test_a_batch_size_that_contradicts_the_fit_is_refused():
    fit_of({"train_batch_size": 64}, micro_batch=8)
    fit_of({"train_batch_size": 64}, num_workers=(1, 3))
    fit_of({}, global_batch=63)
    with pytest.raises(ConfigError, match=r"train_batch_size=32 .* fit\.global_batch=64"):
        fit_of({"train_batch_size": 32})
    with pytest.raises(ConfigError, match="22 x 1 x 3"):
        fit_of({"train_batch_size": 64}, num_workers=(3, 3))
    with pytest.raises(ConfigError, match="5 x 7 x 2"):
        fit_of({"train_batch_size": 64}, micro_batch=5)


def test_a_mean_of_weights_that_lie_on_disk_is_refused():
    with pytest.raises(ConfigError, match=r"fit\.ema_decay"):
        fit_of(zero(stage=3, offload_param=NVME), averages=True)


def test_the_known_keys_are_those_of_the_installed_deepspeed():
    code = """
import deepspeed.runtime.zero.config as zero, deepspeed.runtime.zero.offload_config as offload
for one in (zero.DeepSpeedZeroConfig, offload.DeepSpeedZeroOffloadParamConfig,
            offload.DeepSpeedZeroOffloadOptimizerConfig):
    names = [[name, field.alias or name] for name, field in one.model_fields.items()]
    print("keys", *sorted({key for both in names for key in both}))
"""
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split()[1:] for line in told.stdout.splitlines() if line.startswith("keys")]
    known = [ZERO_KEYS, OFFLOAD_KEYS["offload_param"], OFFLOAD_KEYS["offload_optimizer"]]
    assert lines == [sorted(keys) for keys in known]


def test_deepspeed_is_told_not_to_clip_where_nobody_asked_for_it():
    # Left out, DeepSpeed 0.19 clips at 1.0 without a word.
    assert deepspeed_config({}, micro_batch=4, clip_norm=None)["gradient_clipping"] == 0.0
    assert deepspeed_config({}, micro_batch=4, clip_norm=2.0)["gradient_clipping"] == 2.0


def test_the_users_deepspeed_configuration_is_handed_on_unchanged():
    config = {"zero_optimization": {"stage": 2, "overlap_comm": True}, "train_batch_size": 8}
    full = deepspeed_config(config, micro_batch=4, num_passes=3, clip_norm=None)
    assert full["zero_optimization"] == config["zero_optimization"]
    assert full["train_micro_batch_size_per_gpu"] == 4 and "train_batch_size" not in full
    assert full["gradient_accumulation_steps"] == 3
    assert zero_stage(config) == 2 and zero_stage({}) == 0
