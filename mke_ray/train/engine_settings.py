"""What the section ``engine`` may say, checked on the driver before any worker starts."""

from collections.abc import Mapping
from typing import Any

from mke_ray.errors import ConfigError
from mke_ray.train.compiling import check_compile
from mke_ray.train.deepspeed_checks import check_config
from mke_ray.train.engine import ENGINES
from mke_ray.train.sharded import SHARDS
from mke_ray.train.zero import SHARDED_STAGE, zero_stage

_OF_ALL = ("type", "checkpoint_activations", "compile")
_KEYS = {
    "torch": (*_OF_ALL, "bf16", "find_unused_parameters", "shard"),
    "deepspeed": (*_OF_ALL, "config"),
}
_SWITCHES = ("checkpoint_activations", "bf16", "find_unused_parameters")


def engine_words(engine: Mapping[str, Any]) -> str:
    """Return what an engine is, for people: ``torch``, ``torch, fsdp2`` or ``deepspeed, ZeRO 1``.

    Args:
        engine: The section ``engine``.
    """
    if engine["type"] == "deepspeed":
        return f"deepspeed, ZeRO {zero_stage(engine.get('config', {}))}"
    return f"torch, {engine['shard']}" if engine.get("shard") else "torch"


def check_engine(engine: Mapping[str, Any], *, launch: str, use_gpu: bool) -> None:
    """Refuse an engine that cannot work.

    Args:
        engine: The section ``engine``: ``type``; of torch ``bf16``, ``find_unused_parameters`` and
            ``shard``, of DeepSpeed its ``config``; of both ``checkpoint_activations`` and
            ``compile``.
        launch: ``scaling.launch``.
        use_gpu: Whether workers have a GPU.

    Raises:
        ConfigError: It names the key and the way out.
    """
    kind = engine.get("type")
    if kind not in ENGINES:
        raise ConfigError(f"engine.type={kind!r}; choose one of {list(ENGINES)}")
    _check_keys(engine, kind)
    check_compile(engine.get("compile"), use_gpu=use_gpu)
    shard = engine.get("shard")
    if shard is not None and shard not in SHARDS:
        raise ConfigError(f"engine.shard={shard!r}; choose one of {list(SHARDS)}, or null")
    if kind != "deepspeed":
        return
    if launch != "trainer":
        raise ConfigError(
            f"engine.type=deepspeed needs scaling.launch=trainer, found {launch}; "
            "use engine=torch, or scaling.launch=trainer"
        )
    config = engine.get("config", {})
    check_config(config, use_gpu=use_gpu)
    if engine.get("compile") and zero_stage(config) == SHARDED_STAGE:
        raise ConfigError(
            "engine.compile does not work with ZeRO 3, whose weights are empty while torch looks "
            "at the network; use stage 0, 1 or 2, or engine=fsdp2"
        )


def _check_keys(engine: Mapping[str, Any], kind: str) -> None:
    """Refuse keys that this engine does not have, and switches that are neither on nor off."""
    for key in engine:
        if key not in _KEYS[kind]:
            owner = next((other for other, keys in _KEYS.items() if key in keys), None)
            hint = f"; it belongs to engine.type={owner}" if owner else ""
            if kind == "deepspeed" and key == "bf16":
                hint = "; use engine.config.bf16.enabled=true"
            raise ConfigError(
                f"engine.{key} is no key of engine.type={kind}{hint}; choose of {list(_KEYS[kind])}"
            )
    for key in _SWITCHES:
        if not isinstance(engine.get(key, False), bool):
            raise ConfigError(f"engine.{key}={engine[key]!r}; give true or false")
