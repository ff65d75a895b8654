"""What a DeepSpeed configuration may say, checked on the driver without importing DeepSpeed."""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from mke_ray.errors import ConfigError
from mke_ray.train.accumulation import StepRules
from mke_ray.train.universal import CONVERTIBLE_OPTIMIZERS, is_convertible
from mke_ray.train.zero import zero_stage

STAGES = (0, 1, 2, 3)
_OURS = {
    "optimizer": "fit.optimizer",
    "scheduler": "fit.schedule",
    "gradient_clipping": "fit.clip_norm",
    "train_micro_batch_size_per_gpu": "scaling.micro_batch",
    "managed_gradient_accumulation": "scaling.micro_batch",
    "activation_checkpointing": "engine.checkpoint_activations",
    "elasticity": "scaling.num_workers",
    "amp": "engine.config.bf16 or engine.config.fp16",
    "bfloat16": "engine.config.bf16",
}
# Those that are checked or that change a fit; DeepSpeed itself passes over what it does not know.
_SECTIONS = ("zero_optimization", "bf16", "fp16", "train_batch_size", "gradient_accumulation_steps")
_DEVICES = ("none", "cpu", "nvme")
ZERO_KEYS = frozenset(
    [
        "stage",
        "contiguous_gradients",
        "reduce_scatter",
        "reduce_bucket_size",
        "use_multi_rank_bucket_allreduce",
        "allgather_partitions",
        "allgather_bucket_size",
        "overlap_comm",
        "compute_grad_norm",
        "load_from_fp32_weights",
        "elastic_checkpoint",
        "offload_param",
        "offload_optimizer",
        "zenflow",
        "sub_group_size",
        "cpu_offload_param",
        "cpu_offload_use_pin_memory",
        "cpu_offload",
        "stage3_prefetch_bucket_size",
        "prefetch_bucket_size",
        "stage3_param_persistence_threshold",
        "param_persistence_threshold",
        "stage3_model_persistence_threshold",
        "model_persistence_threshold",
        "stage3_max_live_parameters",
        "max_live_parameters",
        "stage3_max_reuse_distance",
        "max_reuse_distance",
        "stage3_gather_16bit_weights_on_model_save",
        "gather_16bit_weights_on_model_save",
        "stage3_module_granularity_threshold",
        "module_granularity_threshold",
        "stage3_use_all_reduce_for_fetch_params",
        "use_all_reduce_for_fetch_params",
        "stage3_allgather_sequential",
        "allgather_sequential",
        "stage3_gather_fp16_weights_on_model_save",
        "ignore_unused_parameters",
        "legacy_stage1",
        "round_robin_gradients",
        "parameter_alignment",
        "zero_hpz_partition_size",
        "zero_quantized_weights",
        "zero_quantized_nontrainable_weights",
        "zero_quantized_gradients",
        "memory_efficient_linear",
        "pipeline_loading_checkpoint",
        "override_module_apply",
        "log_trace_cache_warnings",
        "enable_sanity_checks",
        "save_muon_momentum_buffer_in_memory",
        "leaf_module",
    ]
)
OFFLOAD_KEYS = {
    "offload_param": frozenset(
        ["device", "nvme_path", "buffer_count", "buffer_size", "max_in_cpu", "pin_memory"]
    ),
    "offload_optimizer": frozenset(
        [
            "device",
            "nvme_path",
            "buffer_count",
            "pin_memory",
            "pipeline_read",
            "pipeline_write",
            "fast_init",
            "ratio",
            "super_offload",
            "cpuadam_cores_perc",
        ]
    ),
}


def check_config(config: Mapping[str, Any], *, use_gpu: bool) -> None:
    """Refuse a DeepSpeed configuration that cannot work here.

    Args:
        config: A DeepSpeed configuration.
        use_gpu: Whether workers have a GPU.

    Raises:
        ConfigError: It names the key and the way out.
    """
    for key in ("zero_optimization", "bf16", "fp16"):
        if not isinstance(config.get(key, {}), Mapping):
            raise ConfigError(
                f"engine.config.{key}={config[key]!r} is no section; give keys, such as "
                f"engine.config.{key}.{'stage=1' if key == 'zero_optimization' else 'enabled=true'}"
            )
    for key, ours in _OURS.items():
        if key in config:
            raise ConfigError(f"engine.config.{key} is set by {ours}; remove it")
    for key in config:
        near = difflib.get_close_matches(key, (*_SECTIONS, *_OURS), n=1, cutoff=0.8)
        if near and key not in _SECTIONS:
            raise ConfigError(f"engine.config.{key} is no key of DeepSpeed; did you mean {near[0]}")
    if config.get("gradient_accumulation_steps", 1) != 1:
        raise ConfigError(
            "engine.config.gradient_accumulation_steps is set by scaling.micro_batch (most rows "
            "of a worker in one pass); remove it, and set that"
        )
    _check_precision(config, use_gpu=use_gpu)
    _check_zero(config.get("zero_optimization", {}), use_gpu=use_gpu)


def check_fit(
    config: Mapping[str, Any],
    *,
    global_batch: int,
    averages: bool,
    rules: StepRules,
    num_workers: tuple[int, int],
) -> None:
    """Refuse a DeepSpeed configuration that contradicts a fit.

    Args:
        config: A DeepSpeed configuration.
        global_batch: Rows of a step; 0 for all there are.
        averages: Whether the fit keeps a running mean of its weights.
        rules: How steps are made.
        num_workers: Least and most workers; batches are uneven at some number where they differ.

    Raises:
        ConfigError: It names both keys.
    """
    params = config.get("zero_optimization", {}).get("offload_param") or {}
    if averages and params.get("device") == "nvme":
        raise ConfigError(
            "fit.ema_decay needs the weights in memory, and "
            "engine.config.zero_optimization.offload_param.device=nvme keeps them on disk; set "
            "fit.ema_decay=null, or offload to cpu"
        )
    stated = config.get("train_batch_size")
    if stated is None or not global_batch:
        return
    if stated != global_batch:
        raise ConfigError(
            f"engine.config.train_batch_size={stated} but fit.global_batch={global_batch}; "
            "remove the first, or make them equal"
        )
    least, most = num_workers
    if least == most:
        _check_product(global_batch, rules=rules, num_workers=most)


def check_resizable(config: Mapping[str, Any], optimizer: Mapping[str, Any]) -> None:
    """Refuse a number of workers that may change where the optimizer's state could not follow.

    Args:
        config: A DeepSpeed configuration.
        optimizer: ``type`` and arguments of the optimizer.

    Raises:
        ConfigError: It names the keys.
    """
    if zero_stage(config) > 0 and not is_convertible(optimizer):
        raise ConfigError(
            f"scaling.num_workers may change, but DeepSpeed cannot divide the state of "
            f"fit.optimizer.type={optimizer['type']} among another number of workers; use one of "
            f"{CONVERTIBLE_OPTIMIZERS}, engine=torch or zero0, or a fixed scaling.num_workers"
        )


def _check_product(global_batch: int, *, rules: StepRules, num_workers: int) -> None:
    """Refuse a stated batch that is not micro batch times passes times workers."""
    micro = rules.rows_of_pass(global_batch, world_size=num_workers)
    passes = rules.num_passes(global_batch, world_size=num_workers)
    if micro * passes * num_workers != global_batch:
        raise ConfigError(
            f"engine.config.train_batch_size={global_batch} is not micro batch x passes x workers "
            f"= {micro} x {passes} x {num_workers}; remove it (batches may be uneven here), or "
            "change scaling.micro_batch or scaling.num_workers"
        )


def _check_precision(config: Mapping[str, Any], *, use_gpu: bool) -> None:
    """Refuse numbers that cannot be computed in, and steps by gradients that are not finite."""
    bf16, fp16 = config.get("bf16", {}), config.get("fp16", {})
    if bf16.get("enabled") and fp16.get("enabled"):
        raise ConfigError("engine.config has both bf16 and fp16 enabled; choose one")
    if fp16.get("enabled") and not use_gpu:
        raise ConfigError(
            "engine.config.fp16 needs a GPU; use engine.config.bf16.enabled=true, or "
            "scaling.gpus_per_worker=1"
        )
    if not bf16.get("check_grad_overflow", True):
        raise ConfigError(
            "engine.config.bf16.check_grad_overflow=false lets gradients that are not finite spoil "
            "the weights; remove it, and let scaling.skip_non_finite say how many steps may be "
            "left out"
        )


def _check_zero(zero: Mapping[str, Any], *, use_gpu: bool) -> None:
    """Refuse a section ``zero_optimization`` that cannot work."""
    stage = zero_stage({"zero_optimization": zero})
    if stage not in STAGES:
        raise ConfigError(
            f"engine.config.zero_optimization.stage is {stage}; choose of {list(STAGES)}"
        )
    _check_keys(zero, ZERO_KEYS, "zero_optimization")
    for name, keys in OFFLOAD_KEYS.items():
        section = zero.get(name)
        if section:
            _check_keys(section, keys, f"zero_optimization.{name}")
            least = 3 if name == "offload_param" else 1
            _check_offload(section, name, stage=stage, least=least, use_gpu=use_gpu)


def _check_offload(
    section: Mapping[str, Any], name: str, *, stage: int, least: int, use_gpu: bool
) -> None:
    """Refuse a place outside the device that cannot be used."""
    key, device = f"engine.config.zero_optimization.{name}", section.get("device", "none")
    if device not in _DEVICES:
        raise ConfigError(f"{key}.device is {device!r}; choose one of {list(_DEVICES)}")
    least = 3 if device == "nvme" else least
    if device != "none" and stage < least:
        raise ConfigError(f"{key}.device={device} needs stage {least} or above, found {stage}")
    if device == "nvme" and not section.get("nvme_path"):
        raise ConfigError(f"{key}.nvme_path is missing; give a folder on a fast local disk")
    if device == "nvme" and not use_gpu:
        raise ConfigError(
            f"{key}.device=nvme needs workers with a GPU (and libaio on their machines); use cpu, "
            "or scaling.gpus_per_worker=1"
        )


def _check_keys(section: Mapping[str, Any], known: Collection[str], name: str) -> None:
    """Refuse keys that DeepSpeed does not know."""
    for key in section:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}" if near else f"choose of {sorted(known)}"
            raise ConfigError(f"engine.config.{name}.{key} is no key of DeepSpeed; {hint}")
