"""What an encoder from ``transformers`` is, as plain data that needs no file to build it again."""

import os
from collections.abc import Mapping
from typing import Any

from mke_ray.errors import ConfigError, StoreError
from mke_ray.models.pretrained import Pretrained, config_object, find_pretrained, load_part
from mke_ray.tokens import facts_beside

BACKBONE, TIMM = "transformers", "timm"  # types of encoders
FRAMES, CLIPS, WAVES, BANKS = "frames", "clips", "waves", "banks"
MAPS = "maps"  # pictures at the size that is stored, of a dense student
TOKENS = "tokens"
READS = (FRAMES, CLIPS, WAVES, BANKS, MAPS, TOKENS)

_OF_PATH = ("path", "revision", "digest")
_NOT_NEEDED = ("id2label", "label2id", "architectures", "transformers_version", "auto_map", "dtype")
_TEXT_TYPES = ("bert", "roberta", "xlm-roberta", "distilbert", "electra", "deberta-v2", "mpnet")
_OF_PICTURES = ("image_size", "patch_size", "num_channels")
_CLIP_TYPES = ("videomae", "timesformer", "vivit", "vjepa2")
_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_INPUTS: dict[str, dict[str, Any]] = {
    FRAMES: {"size": None, **_IMAGENET},
    CLIPS: {"size": None, **_IMAGENET},
    MAPS: _IMAGENET,
    WAVES: {"sample_rate_hz": 16000, "standardise": True},
    BANKS: {
        "sample_rate_hz": 16000,
        "num_mel_bins": 128,
        "max_length": 1024,
        "mean": -4.2677393,
        "std": 4.5689974,
    },
    TOKENS: {"pad_id": None, "tokenizer": None},
}


def pinned(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a student's specification with all that its pretrained encoders are.

    What stands in their folders now is written down: the configuration, what the input has to be,
    and the digest that the files must have wherever they are read again.

    Args:
        spec: The specification of a student.

    Raises:
        ConfigError: There is no such network.
    """
    dense = {"reads": MAPS} if spec.get("decoder") else {}
    return _with_encoders(
        spec, BACKBONE, lambda name, one: _pinned_one({**one, **dense}, f"student.encoders.{name}")
    )


def portable(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a student's specification that names no file: its weights are saved with it.

    Args:
        spec: The specification of a student.
    """
    whole = _with_encoders(pinned(spec), TIMM, lambda _, one: _without(one, ("weights",)))
    return _with_encoders(whole, BACKBONE, lambda _, one: _without(one, _OF_PATH))


def resolved(spec: Mapping[str, Any], key: str) -> tuple[dict[str, Any], Pretrained | None]:
    """Return ``config``, ``reads`` and ``input`` of an encoder, and where its weights are.

    Args:
        spec: What stands in the specification of it.
        key: Where it stands in the configuration.

    Raises:
        ConfigError: It has neither path nor configuration, or something in them does not fit.
        StoreError: The files are other ones than those that were pinned.
    """
    found = None
    if path := spec.get("path"):
        found = find_pretrained(path, spec.get("revision"))
        if spec.get("digest") not in (None, found.digest):
            raise StoreError(
                f"{key}.path={path} has the digest {found.digest} here, and had {spec['digest']} "
                "where the run was planned; give all nodes the same files"
            )
    config = _config(spec.get("config"), found, key)
    part = config.get(_part_of(spec.get("tower"))) or config
    reads = spec.get("reads") or _reads(part)
    if reads not in READS:
        raise ConfigError(f"{key}.reads={reads}; choose one of {list(READS)}")
    return {"config": config, "reads": reads, "input": _input(spec, reads, part, found, key)}, found


def _with_encoders(spec: Mapping[str, Any], kind: str, change: Any) -> dict[str, Any]:
    """Return a specification with those of its encoders changed that are of a type."""
    encoders = {
        name: change(name, one) if one.get("type") == kind else one
        for name, one in (spec.get("encoders") or {}).items()
    }
    return {**spec, "encoders": encoders}


def _without(spec: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key not in keys}


def _pinned_one(spec: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the specification of an encoder with what stands in its folder."""
    if spec.get("digest"):
        return dict(spec)
    whole, found = resolved(spec, key)
    if found is None:
        return {**spec, **whole}
    where = {"path": os.path.abspath(found.name) if os.path.isdir(found.name) else found.name}
    return {**spec, **whole, **where, "digest": found.digest}


def _config(plain: Mapping[str, Any] | None, found: Pretrained | None, key: str) -> dict[str, Any]:
    """Return the configuration of a network."""
    if plain is not None:
        if not isinstance(plain.get("model_type"), str):
            raise ConfigError(f"{key}.config lacks model_type; name one of transformers, as vit")
        return dict(plain)
    if found is None:
        raise ConfigError(f"{key} has neither path nor config; give the weights or a configuration")
    whole = config_object(found).to_dict()
    return _plain(whole)


def _plain(node: Any) -> Any:
    """Return a configuration as JSON knows it, without what no network is built from."""
    if isinstance(node, Mapping):
        return {
            str(name): _plain(one)
            for name, one in node.items()
            if name not in _NOT_NEEDED and not str(name).startswith("_")
        }
    if isinstance(node, list | tuple):
        return [_plain(one) for one in node]
    return node if isinstance(node, str | int | float | bool | None) else str(node)


def _part_of(tower: str | None) -> str:
    """Return the part of a configuration of two networks that is of one: vision_config."""
    return (tower or "").replace("_model", "_config")


def _reads(config: Mapping[str, Any]) -> str:
    """Return what a network reads, by its configuration."""
    if config.get("model_type") in _CLIP_TYPES:
        return CLIPS
    if config.get("model_type") == "audio-spectrogram-transformer":
        return BANKS
    if "conv_stride" in config:
        return WAVES
    sees = any(key in config for key in _OF_PICTURES)  # BEiT has a vocabulary of patches
    is_text = config.get("model_type") in _TEXT_TYPES or ("vocab_size" in config and not sees)
    return TOKENS if is_text else FRAMES


def _input(
    spec: Mapping[str, Any],
    reads: str,
    config: Mapping[str, Any],
    found: Pretrained | None,
    key: str,
) -> dict[str, Any]:
    """Return what the input of a network has to be: as told, as beside its weights, or usual."""
    given = dict(spec.get("input") or {})
    usual = _INPUTS[reads]
    if unknown := sorted(set(given) - set(usual)):
        raise ConfigError(f"{key}.input has the keys {unknown}; choose from {sorted(usual)}")
    beside = {} if found is None or set(given) == set(usual) else _beside(reads, found)
    whole = {**usual, **beside, **given}
    if reads == BANKS:
        sizes = {name: config[name] for name in ("num_mel_bins", "max_length") if name in config}
        whole |= sizes
    if reads == TOKENS and whole["pad_id"] is None:
        whole["pad_id"] = config.get("pad_token_id") or 0
    if "size" in whole and whole["size"] is None:
        size = config.get("image_size")
        if size is None:
            raise ConfigError(f"{key}.input.size is missing; give [height, width]")
        whole["size"] = size
    if isinstance(whole.get("size"), int):
        whole["size"] = [whole["size"], whole["size"]]
    return whole


def _beside(reads: str, found: Pretrained) -> dict[str, Any]:
    """Return what the processor beside the weights says of the input."""
    if reads in (FRAMES, CLIPS, MAPS):
        said = load_part(found, "AutoImageProcessor").to_dict()
        return {"mean": list(said["image_mean"]), "std": list(said["image_std"])}
    if reads == TOKENS:
        facts = facts_beside(found.folder)
        return {"tokenizer": facts["digest"], "pad_id": facts["pad_id"]} if facts else {}
    extractor = load_part(found, "AutoFeatureExtractor")
    rate = {"sample_rate_hz": int(extractor.sampling_rate)}
    if reads == WAVES:
        return {**rate, "standardise": bool(extractor.do_normalize)}
    return {**rate, "mean": float(extractor.mean), "std": float(extractor.std)}
