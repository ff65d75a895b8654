"""From the text of a file to features, a hashed bag of words, or to ids of tokens."""

# D features, L tokens.

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import DecodeSpec, FeatureSpec, TokenSpec
from mke_ray.tokens import TextTokenizer

HASHED, TOKENS = "hashed words", "tokens"


@dataclass(frozen=True, slots=True)
class TextFiles:
    """How files hold text.

    Args:
        field: Field of a JSON object that holds it, a text or a list of texts; None where the file
            is the text, in UTF-8.
    """

    field: str | None = None

    def read(
        self, content: bytes, spec: FeatureSpec | TokenSpec, tokenizer: TextTokenizer | None
    ) -> np.ndarray:
        """Return the features of a file, float32 [D], or the ids of its tokens, int32 [L].

        Args:
            content: The file.
            spec: What is stored.
            tokenizer: That of the modality, where tokens are stored.

        Raises:
            MediaError: It is no text, no JSON or lacks the field (``damaged``), or has no word
                (``empty``).
        """
        text = self.text(content)
        if isinstance(spec, FeatureSpec):
            return hashed_words(text, spec.num_features)
        assert tokenizer is not None
        return tokenizer.ids(text)

    def text(self, content: bytes) -> str:
        """Return the text of a file.

        Raises:
            MediaError: It has none.
        """
        try:
            found: Any = content.decode()
            if self.field is not None:
                found = json.loads(found)[self.field]
        except (ValueError, KeyError, TypeError) as error:
            raise MediaError("damaged", f"no text in field {self.field}: {error!r}") from error
        return " ".join(map(str, found)) if isinstance(found, list) else str(found)


def text_files_of(text: Mapping[str, str] | None) -> TextFiles:
    """Return how files of text are read, as ``source.text`` says.

    Raises:
        ConfigError: A key is unknown.
    """
    if set(text or {}) - {"field"}:
        raise ConfigError(f"source.text={dict(text or {})}; it may have field")
    return TextFiles(**(text or {}))


def text_tokenizers(
    spec: DecodeSpec, where: Mapping[str, Mapping[str, Any]]
) -> dict[str, TextTokenizer]:
    """Return the tokenizer of each modality of tokens.

    Args:
        spec: What is stored.
        where: Per modality ``path`` and ``revision``.

    Raises:
        ConfigError: One is not named, or there is no such tokenizer.
        StoreError: One is another than where the run was planned.
    """
    wanted = {name: one for name, one in spec.items() if isinstance(one, TokenSpec)}
    if missing := sorted(set(wanted) - set(where)):
        raise ConfigError(f"source.tokenizers has none for {missing}; name each with its path")
    return {
        name: TextTokenizer(where[name]["path"], where[name].get("revision"), one)
        for name, one in wanted.items()
    }


def hashed_words(text: str, num_features: int) -> np.ndarray:
    """Return how often words and pairs of words occur, each at the place that its hash says.

    A word adds or takes away by a bit of its hash, so that words which share a place cancel out
    rather than add up. Case counts for nothing. The square of a feature is 1 in the mean.

    Args:
        text: The text.
        num_features: Number of places D.

    Returns:
        float32 [D].

    Raises:
        MediaError: It has no word.

    Source:
        Weinberger et al., Feature Hashing for Large Scale Multitask Learning, ICML 2009.
    """
    features_D = _vectorizer(num_features).transform([text]).toarray()[0]
    if not features_D.any():
        raise MediaError("empty", "the text has no word")
    return (features_D * np.sqrt(num_features)).astype(np.float32)


@cache
def _vectorizer(num_features: int) -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer  # noqa: PLC0415 - slow to import

    return HashingVectorizer(n_features=num_features, ngram_range=(1, 2), norm="l2")
