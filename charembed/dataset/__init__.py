"""Encode text for training, hold out validation text and cut the rest into windows."""
