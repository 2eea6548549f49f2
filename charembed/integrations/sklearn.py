"""Use word vectors as features of scikit-learn estimators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.engine_choice import EngineName, EnginePrecision
from charembed.errors import CharEmbedError, import_extra
from charembed.lm.model import Readout
from charembed.pretrained.parts import Part
from charembed.text.words import TextInput

import_extra("sklearn", extra="sklearn", purpose="charembed.integrations.sklearn")

from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin  # noqa: E402
from sklearn.utils.validation import check_is_fitted  # noqa: E402

_Key = str | tuple[str, ...]
"""A text that can be a key of a dictionary: a string, or the words of a sentence."""


class CharEmbedTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Transforms words in their contexts into vectors.

    Each sample is one word: `(text, (start, end))` with its character offsets, or `(words, index)` with its index in a
    list of words, counted from 0.
    """

    # scikit-learn requires each parameter by name, without checks or changes here: `fit` reports invalid ones.
    def __init__(
        self,
        model: str = "en",
        precision: EnginePrecision = "float32",
        threads: int = 2,
        *,
        readout: Readout | None = None,
        parts: Sequence[Part] | None = None,
        device: str | None = None,
        engine: EngineName = "auto",
        batch_size: int | None = None,
        memory_mb: int = 128,
        cache_mb: int = 0,
        dim: int | None = None,
    ) -> None:
        """
        Args:
            model: name or folder of the model, which `fit` loads; a pickled pipeline that is fitted contains it.
            precision: precision of the computation, as in `CharEmbedder`.
            threads: number of batches computed at the same time on a CPU, as in `CharEmbedder`.
            readout: characters at which states are read, as in `CharEmbedder`; None for the model folder's setting.
            parts: parts of which a vector consists, as in `CharEmbedder`; None for all that the model has.
            device: device to run on, for example "cuda"; None for "cpu".
            engine: software that runs the models, as in `CharEmbedder`.
            batch_size: maximum number of texts in a batch, as in `CharEmbedder`.
            memory_mb: maximum size in megabytes of the vectors held in memory at once, as in `CharEmbedder`.
            cache_mb: size in megabytes of the cache for vectors of texts that appear again, as in `CharEmbedder`.
            dim: number of dimensions, as in `CharEmbedder`; None for all.
        """
        self.model, self.precision, self.threads = model, precision, threads
        self.readout, self.parts, self.device, self.engine = readout, parts, device, engine
        self.batch_size, self.memory_mb, self.cache_mb = batch_size, memory_mb, cache_mb
        self.dim = dim

    def fit(self, X: object = None, y: object = None) -> CharEmbedTransformer:  # noqa: ARG002, N803 (scikit-learn's names)
        """Load the model.

        Raises:
            CharEmbedError: no such model, or an invalid option.
            MissingExtraError: ONNX Runtime is requested but not installed.
        """
        # The other parameters have the names of the embedder's options.
        options = {name: value for name, value in self.get_params(deep=False).items() if name != "model"}
        self.embedder_ = CharEmbedder.from_pretrained(self.model, **options)
        self._n_features_out = self.embedder_.embedding_dim
        return self

    def transform(self, X: Iterable[Any]) -> NDArray[np.float32]:  # noqa: N803
        """Return the vectors of words. A text that occurs in several samples is read once.

        X is a sequence of samples, or a pandas DataFrame with a column of texts and one of offsets or indices.

        Shape: (samples, embedding_dim)

        Raises:
            CharEmbedError: a sample of another form, or a word outside its text.
        """
        check_is_fitted(self)
        # For each text, the positions of the words to embed, with the row of each in the text's vectors.
        words_of: dict[_Key, dict[Any, int]] = {}
        rows: list[tuple[_Key, int]] = []
        # A DataFrame has two columns and is iterated by their names.
        samples = X.itertuples(index=False, name=None) if hasattr(X, "itertuples") else X
        for sample in samples:
            key, position = _parse_sample(sample)
            # All words of a list are embedded anyway, so their rows are their indices.
            positions = words_of.setdefault(key, {} if isinstance(key, str) else {i: i for i in range(len(key))})
            rows.append((key, positions.setdefault(position, len(positions))))
        texts: list[TextInput] = [
            (key, list(positions)) if isinstance(key, str) else list(key) for key, positions in words_of.items()
        ]
        # One pass over the texts, whatever the order of the samples; then each sample takes its row.
        results = zip(words_of, self.embedder_.iter_embed(texts), strict=True)
        vectors = {key: result.vectors for key, result in results}
        return np.array([vectors[key][row] for key, row in rows], np.float32).reshape(-1, self._n_features_out)


def _parse_sample(sample: Any) -> tuple[_Key, Any]:
    """Return the text of a sample, and the offsets or the index of its word.

    Raises:
        CharEmbedError: a sample of another form, or an index outside the list of words.
    """
    try:
        text, position = sample
        if isinstance(text, str):
            return text, tuple(position)
        words = tuple(text)
        # index() refuses negative indices and accepts NumPy's integers.
        return words, range(len(words)).index(position)
    except (TypeError, ValueError) as error:
        raise CharEmbedError(f"a sample must be (text, (start, end)) or (words, index), got {sample!r}") from error
