"""Modalities of tokens: what a run fills in from their tokenizers, and what does not suit ids."""

import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

from mke_ray.config import find_class
from mke_ray.config_schema import JobConfig
from mke_ray.data.codec import decode_modality
from mke_ray.data.token_views import TokenView
from mke_ray.errors import ConfigError
from mke_ray.expansion.probing import Probed
from mke_ray.models.backbone_spec import BACKBONE
from mke_ray.schema import DecodeSpec, TokenSpec
from mke_ray.tokens import tokenizer_facts

_KIND = "tokens"
_PLACE, _VIEW = "tokenizers", f"{TokenView.__module__}.{TokenView.__qualname__}"
_OF_VIEWS = ("pad_id", "mask_id", "special_ids")


def fill_in_tokens(job: JobConfig) -> None:
    """Write into a configuration what the tokenizers say that its ``decode`` names.

    ``decode`` gets their digests and ids, ``source`` where they lie, views of tokens their ids, and
    encoders that begin without weights the id of padding.

    Args:
        job: The configuration; it is changed.

    Raises:
        ConfigError: There is no such tokenizer, or the source gives no text.
    """
    named = {name: one for name, one in job.decode.items() if one.get("kind") == _KIND}
    if not named:
        return
    _check_source(job.source, next(iter(named)))
    job.decode = {**job.decode, **{name: _filled_in(name, one) for name, one in named.items()}}
    job.source = {**job.source, _PLACE: {name: _where(job.decode[name]) for name in named}}
    job.student.encoders = _with_padding(job.student.encoders, job.decode)
    job.views = _with_ids(job.views, job.decode)
    if job.plain_views is not None:
        job.plain_views = _with_ids(job.plain_views, job.decode)
    if job.teacher.views is not None:
        job.teacher.views = _with_ids(job.teacher.views, job.decode)


def check_tokens(job: JobConfig, decode: DecodeSpec) -> None:
    """Refuse what adds up or mixes values where there are ids.

    Args:
        job: The configuration.
        decode: What is stored of every modality.

    Raises:
        ConfigError: Samples are mixed, or noise is named for a modality of tokens.
    """
    names = [name for name, one in decode.items() if isinstance(one, TokenSpec)]
    read = [name for name in names if name in job.student.encoders]
    for key, objective in (("objective", job.objective), ("supervised", job.supervised)):
        if read and objective.get("mix"):
            raise ConfigError(
                f"{key}.mix: {read[0]} is stored as ids of tokens, between which there is nothing "
                f"to mix; set {key}.mix=null"
            )
        alpha = objective.get("alpha")
        of_each = alpha if isinstance(alpha, Mapping) else {}
        for name in names:
            if of_each.get(name):
                raise ConfigError(
                    f"{key}.alpha.{name}={of_each[name]}: ids of tokens take no noise; leave it "
                    f"out, and mask tokens with views.{name}={{_target_: {_VIEW}, mask: 0.15}}"
                )


def token_lines(decode: DecodeSpec, good: Sequence[Probed]) -> list[str]:
    """Say how many of the texts that were read fill all ids that are stored of them.

    Args:
        decode: What is stored of every modality.
        good: Samples that were read.
    """
    lines = []
    for name, spec in decode.items():
        if not isinstance(spec, TokenSpec):
            continue
        texts = [one.stored.pieces[name] for one in good if name in one.stored.pieces]
        num_full = sum(decode_modality(one, spec)[-1] != spec.pad_id for one in texts)
        lines.append(
            f"tokens          {name}: {num_full} of {len(texts)} texts that were read fill all "
            f"{spec.num_tokens} ids; longer ones are cut (decode.{name}.num_tokens)"
        )
    return lines


def _filled_in(name: str, one: Mapping[str, Any]) -> dict[str, Any]:
    """Return the specification of a modality with what its tokenizer says."""
    path = one.get("tokenizer")
    if not path:
        raise ConfigError(
            f"decode.{name}.tokenizer is missing; name the folder of a tokenizer (that of the "
            "network that shall read it), or owner/name of the Hub with its revision"
        )
    try:
        facts = tokenizer_facts(path, one.get("revision"))
    except ConfigError as error:
        raise ConfigError(f"decode.{name}.tokenizer: {error}") from error
    if one.get("digest") not in (None, facts["digest"]):
        raise ConfigError(
            f"decode.{name}.digest={one['digest']}: the tokenizer {path} has the digest "
            f"{facts['digest']}; leave the key out, which a run fills in, or name that tokenizer"
        )
    folder = os.path.expanduser(path)
    here = os.path.abspath(folder) if os.path.isdir(folder) else path
    return {**one, **facts, "tokenizer": here}


def _where(one: Mapping[str, Any]) -> dict[str, Any]:
    return {"path": one["tokenizer"], "revision": one.get("revision")}


def _with_ids(views: Mapping[str, Any], decode: Mapping[str, Any]) -> dict[str, Any]:
    """Return views of which those of tokens know the ids."""
    return {
        name: {**{key: decode[name][key] for key in _OF_VIEWS}, **view}
        if view.get("_target_") == _VIEW and decode.get(name, {}).get("kind") == _KIND
        else view
        for name, view in views.items()
    }


def _with_padding(
    encoders: Mapping[str, Any], decode: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
    """Return encoders of which those of tokens without files pad as their tokenizer does."""
    filled = dict(encoders)
    for name, one in encoders.items():
        is_of_tokens = decode.get(name, {}).get("kind") == _KIND
        if not is_of_tokens or one.get("type") != BACKBONE or one.get("path"):
            continue
        pad_id = decode[name]["pad_id"]
        config = {"pad_token_id": pad_id, **(one.get("config") or {})}
        filled[name] = {
            **one,
            "config": config,
            "input": {"pad_id": pad_id, **(one.get("input") or {})},
        }
    return filled


def _check_source(source: Mapping[str, Any], name: str) -> None:
    """Refuse a source that gives no text."""
    target = source.get("_target_")
    if not isinstance(target, str):
        return
    if _PLACE not in inspect.signature(find_class(target)).parameters:
        raise ConfigError(
            f"decode.{name}.kind={_KIND}: source={target} gives no text; take source=pairs with "
            "source.text, or source=mm_imdb (texts in a column of a table: docs/cases.md)"
        )
