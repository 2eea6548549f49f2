"""Compute contextual word vectors of texts."""
