"""Compute contextual word vectors."""
