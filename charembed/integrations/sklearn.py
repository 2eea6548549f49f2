"""Receives words in their texts; hands on their vectors, as a transformer of scikit-learn's before a classifier."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.engine_choice import EnginePrecision
from charembed.errors import CharEmbedError, import_extra

import_extra("sklearn", extra="sklearn", purpose="charembed.integrations.sklearn")

from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin  # noqa: E402
from sklearn.utils.validation import check_is_fitted  # noqa: E402


class CharEmbedTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Vectors of words in their contexts, one sample a word: `(text, (start, end))`, or `(words, number)` from 0."""

    def __init__(self, model: str = "en", precision: EnginePrecision = "float32", threads: int = 2) -> None:
        """
        Args:
            model: name or folder of the model, which `fit` loads; a fitted pipeline that is pickled holds it.
            precision: of the computation, as in `CharEmbedder`.
            threads: batches computed at the same time, as in `CharEmbedder`.
        """
        self.model, self.precision, self.threads = model, precision, threads

    def fit(self, X: object = None, y: object = None) -> CharEmbedTransformer:  # noqa: ARG002, N803 (scikit-learn's names)
        """Load the model. Raises CharEmbedError where there is none."""
        self.embedder_ = CharEmbedder.from_pretrained(self.model, precision=self.precision, threads=self.threads)
        self._n_features_out = self.embedder_.embedding_dim
        return self

    def transform(self, X: Iterable[Any]) -> NDArray[np.float32]:  # noqa: N803
        """Each text is read once, however many of its words are asked for. Shape: (samples, embedding_dim)

        Raises:
            CharEmbedError: a sample of another form, or a word that is not in its text.
        """
        check_is_fitted(self)
        asked: dict[str | tuple[str, ...], dict[Any, int]] = {}  # of each text, the places and their numbers
        rows = []
        for sample in X:
            try:
                text, place = sample
                key = text if isinstance(text, str) else tuple(text)
                where = tuple(place) if isinstance(text, str) else range(len(key)).index(place)
            except (TypeError, ValueError) as error:
                raise CharEmbedError(f"a sample is (text, (start, end)) or (words, number), got {sample!r}") from error
            places = asked.setdefault(key, {} if isinstance(key, str) else {k: k for k in range(len(key))})
            rows.append((key, places.setdefault(where, len(places))))
        texts = [(key, list(places)) if isinstance(key, str) else list(key) for key, places in asked.items()]
        vectors = {key: found.vectors for key, found in zip(asked, self.embedder_.iter_embed(texts), strict=True)}
        return np.array([vectors[key][row] for key, row in rows], np.float32).reshape(-1, self._n_features_out)
