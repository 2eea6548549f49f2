"""Write the vectors of a corpus to files."""

from charembed.output.writer import OutputConfig, write_embeddings

__all__ = ["OutputConfig", "write_embeddings"]
