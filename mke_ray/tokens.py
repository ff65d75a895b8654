"""Texts as ids of tokens: the tokenizer of a language model, and what a run notes of it."""

# L tokens.

import hashlib
import json
import os
from functools import lru_cache
from typing import Any

import numpy as np

from mke_ray.errors import ConfigError, MediaError, StoreError
from mke_ray.pretrained_folders import (
    OF_TOKENIZERS,
    files_digest,
    found_folder,
    optional_library,
    transformers_library,
)
from mke_ray.schema import TokenSpec

_STATE = ("truncation", "padding", "version")  # of the last call, and of the library
_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
_UNKNOWN = "unk"
_MEANINGS = ("bos", "eos", "sep", "cls", _UNKNOWN)


class TextTokenizer:
    """The tokenizer of one modality.

    Args:
        path: Folder with a tokenizer of ``save_pretrained``, or ``owner/name`` of the Hub.
        revision: Commit of the Hub.
        spec: What is stored.

    Raises:
        ConfigError: There is no such tokenizer.
        StoreError: It is another one than where the run was planned.
    """

    def __init__(self, path: str, revision: str | None, spec: TokenSpec) -> None:
        found = tokenizer_of(path, revision)
        digest = _digest(found)
        if digest != spec.digest:
            raise StoreError(
                f"the tokenizer {path} has the digest {digest} here, and had {spec.digest} where "
                "the run was planned; give all nodes the same files"
            )
        library = optional_library("tokenizers", "transformers")
        self._tokenizer = library.Tokenizer.from_str(found.backend_tokenizer.to_str())
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec.num_tokens)
        self._tokenizer.encode_special_tokens = True  # in a text they are words as any other
        self._special_ids = frozenset(spec.special_ids)
        unknown_id = found.unk_token_id
        self._unknown_id: int | None = None if unknown_id in self._special_ids else unknown_id
        self._spec = spec

    def ids(self, text: str) -> np.ndarray:
        """Return the ids of the tokens of a text, int32 [L], padded behind its end.

        A longer text is cut; the special tokens that the tokenizer puts around it stay. A piece of
        the text that is written as a special token is an unknown word.

        Raises:
            MediaError: It has no word (``empty``).
        """
        encoded = self._tokenizer.encode(text)
        is_around = [bool(one) for one in encoded.special_tokens_mask]
        pieces = zip(encoded.ids, is_around, strict=True)
        ids = [number if is_one else self._of_text(number) for number, is_one in pieces]
        kept = [number for number in ids if number is not None]
        if len(kept) == sum(is_around):
            raise MediaError("empty", "the text has no token")
        ids_L = np.full(self._spec.num_tokens, self._spec.pad_id, np.int32)
        ids_L[: len(kept)] = kept
        return ids_L

    def text(self, ids_L: np.ndarray) -> str:
        """Return the text of ids as far as it can be told: cut, and in the tokenizer's spelling.

        Args:
            ids_L: Stored ids [L].
        """
        own = {self._spec.pad_id, *self._special_ids}
        return self._tokenizer.decode([one for one in ids_L.tolist() if one not in own])

    def _of_text(self, number: int) -> int | None:
        """Return the id of a piece of a text; pieces of Unigram may have that of a special one."""
        return self._unknown_id if number in self._special_ids else number


def tokenizer_facts(path: str, revision: str | None) -> dict[str, Any]:
    """Return what a store notes of a tokenizer, as keys of ``TokenSpec``.

    Args:
        path: Folder with a tokenizer of ``save_pretrained``, or ``owner/name`` of the Hub.
        revision: Commit of the Hub.

    Raises:
        ConfigError: There is none, or it has no token of its own for padding.
    """
    found = tokenizer_of(path, revision)
    pad_id = found.pad_token_id
    others = {one: getattr(found, f"{one}_token_id") for one in _MEANINGS}
    if pad_id is None or pad_id in others.values():
        means = sorted(one for one, number in others.items() if number == pad_id)
        raise ConfigError(
            f"the tokenizer {path} has no token for padding alone"
            f"{f' (its is the one of {means})' if pad_id is not None else ''}, by which the end of "
            "a text is known; add one (add_special_tokens) to it and its network, and save both"
        )
    return {
        "digest": _digest(found),
        "num_ids": max(found.get_vocab().values()) + 1,
        "pad_id": pad_id,
        "mask_id": found.mask_token_id,
        "special_ids": _special_ids(found),
    }


def _special_ids(tokenizer: Any) -> list[int]:
    """Return the ids that stand for no part of a text: the one of unknown words does."""
    others = {
        getattr(tokenizer, f"{one}_token_id") for one in (*_MEANINGS, "mask") if one != _UNKNOWN
    }
    return sorted(set(tokenizer.all_special_ids) - ({tokenizer.unk_token_id} - others))


def facts_beside(folder: str) -> dict[str, Any] | None:
    """Return the facts of the tokenizer in the folder of a network, None where there is none.

    Args:
        folder: A local folder.

    Raises:
        ConfigError: It cannot be read, or has no token of its own for padding.
    """
    has_one = any(os.path.isfile(os.path.join(folder, one)) for one in _FILES)
    return tokenizer_facts(folder, None) if has_one else None


def tokenizer_of(path: str, revision: str | None) -> Any:
    """Return a fast tokenizer of transformers, loaded once per process.

    Raises:
        ConfigError: There is none.
    """
    folder = found_folder(path, revision, patterns=OF_TOKENIZERS)
    return _loaded(folder, files_digest(folder, OF_TOKENIZERS), path)


@lru_cache(maxsize=8)
def _loaded(folder: str, _files: str, path: str) -> Any:
    try:
        found = transformers_library().AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        said = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"the tokenizer {path} cannot be read: {said}; name a folder where a tokenizer was "
            "saved with save_pretrained"
        ) from error
    if getattr(found, "backend_tokenizer", None) is None:
        raise ConfigError(
            f"the tokenizer {path} ({type(found).__name__}) is no fast one; save it as such "
            "(PreTrainedTokenizerFast), which writes tokenizer.json"
        )
    return found


def _digest(tokenizer: Any) -> str:
    """Return the SHA-256 of all that decides which ids a text becomes, in whatever files it is."""
    plain = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {name: one for name, one in plain.items() if name not in _STATE}
    said = {"tokenizer": kept, "pad": tokenizer.pad_token_id}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
