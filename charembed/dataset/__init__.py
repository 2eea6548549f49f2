"""Training data: encoded corpora, held-out text, windows."""
