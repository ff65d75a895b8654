"""From the text of a file to features: a hashed bag of words."""

# D features.

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from mke_ray.errors import MediaError
from mke_ray.schema import FeatureSpec

HASHED = "hashed words"


@dataclass(frozen=True, slots=True)
class TextFiles:
    """How files hold text.

    Args:
        field: Field of a JSON object that holds it, a text or a list of texts; None where the file
            is the text, in UTF-8.
    """

    field: str | None = None

    def read(self, content: bytes, spec: FeatureSpec) -> np.ndarray:
        """Return the features of a file, float32 [D].

        Raises:
            MediaError: It is no text, no JSON or lacks the field (``damaged``), or has no word
                (``empty``).
        """
        return hashed_words(self.text(content), spec.num_features)

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
