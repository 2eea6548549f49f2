"""Write the vectors of a corpus to files."""

from charembed.output.config import OutputConfig
from charembed.output.writer import write_embeddings

__all__ = ["OutputConfig", "write_embeddings"]
