"""Train character language models."""
