"""Keep the vectors of recently used texts."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Mapping

from cachetools import LRUCache

from charembed.embedding.engine import Vectors


class VectorCache:
    """A cache of limited size that drops the least recently used vectors. Threads may share it."""

    def __init__(self, max_bytes: int) -> None:
        """
        Args:
            max_bytes: maximum size of the vectors; 0 keeps none.
        """
        self._vectors: LRUCache[Hashable, Vectors] = LRUCache(max_bytes, getsizeof=lambda vectors: vectors.nbytes)
        self._lock = threading.Lock()

    @property
    def is_enabled(self) -> bool:
        """Whether it keeps any vectors."""
        return self._vectors.maxsize > 0

    @property
    def size(self) -> int:
        """Size of the vectors it contains, in bytes."""
        return int(self._vectors.currsize)

    def get(self, keys: Iterable[Hashable]) -> dict[Hashable, Vectors]:
        """Return the cached vectors of those keys that have any."""
        with self._lock:
            return {key: self._vectors[key] for key in keys if key in self._vectors}

    def add(self, vectors: Mapping[Hashable, Vectors]) -> None:
        """Add vectors by key. An array larger than the whole cache is left out."""
        if not self.is_enabled:
            return
        with self._lock:
            for key, array in vectors.items():
                if array.nbytes <= self._vectors.maxsize:
                    self._vectors[key] = array
