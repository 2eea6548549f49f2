"""Receives words in their texts; hands on their vectors, as a transformer of scikit-learn's before a classifier."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charembed.embedder import CharEmbedder, Precision
from charembed.errors import import_extra
from charembed.words import Span

import_extra("sklearn", extra="sklearn", purpose="charembed.integrations.sklearn")

from sklearn.base import BaseEstimator, TransformerMixin  # noqa: E402

WordInText = tuple[str, Span] | tuple[Sequence[str], int]


class CharEmbedTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Vectors of words in their contexts, one sample a word: `(text, (start, end))`, or `(words, number)` from 0.

    There is nothing to fit: the model is loaded when first used, and a fitted pipeline that is pickled holds it.
    """

    def __init__(self, model: str = "en", precision: Precision = "float32", threads: int = 2) -> None:
        """
        Args:
            model: name or folder of the model.
            precision: of the computation, as in `CharEmbedder`.
            threads: texts computed at the same time, as in `CharEmbedder`.
        """
        self.model, self.precision, self.threads = model, precision, threads

    def fit(self, X: object = None, y: object = None) -> CharEmbedTransformer:  # noqa: ARG002, N803 (scikit-learn's names)
        """Load the model.

        Raises:
            CharEmbedError: there is no such model.
        """
        self.embedder_ = CharEmbedder.from_pretrained(self.model, precision=self.precision, threads=self.threads)
        return self

    def transform(self, X: Iterable[WordInText]) -> NDArray[np.float32]:  # noqa: N803
        """Each text is read once, however many of its words are asked for. Shape: (samples, embedding_dim)"""
        samples = [(text if isinstance(text, str) else tuple(text), where) for text, where in X]
        asked: dict[str | tuple[str, ...], dict[Any, int]] = {}  # of each text, the spans and their numbers
        for text, where in samples:
            places = asked.setdefault(text, {})
            places.setdefault(where, len(places))
        items = [(text, list(places)) if isinstance(text, str) else list(text) for text, places in asked.items()]
        embedder = self.embedder_ if hasattr(self, "embedder_") else self.fit().embedder_
        found = {text: each.vectors for text, each in zip(asked, embedder.iter_embed(items), strict=True)}
        rows = [found[text][asked[text][at] if isinstance(text, str) else at] for text, at in samples]
        return np.stack(rows) if rows else np.empty((0, embedder.embedding_dim), dtype=np.float32)
