"""Static vectors: one vector per word, whatever its context."""

from charembed.static_vectors.bag_of_subwords import with_ngrams
from charembed.static_vectors.reading import load_static_vectors, read_static_vectors
from charembed.static_vectors.word_vectors import StaticVectors

__all__ = ["StaticVectors", "load_static_vectors", "read_static_vectors", "with_ngrams"]
