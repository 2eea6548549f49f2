"""The options for writing vectors to files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from charembed.errors import CharEmbedError
from charembed.output.shards import Format
from charembed.util.checks import check_choice

DType = Literal["float32", "float16"]


@dataclass
class OutputConfig:
    """Options for writing vectors to files."""

    format: Format = "npz"
    """Format of the files: npz (NumPy), parquet (Apache Parquet) or arrow (Arrow IPC). Parquet and Arrow need pip
    install 'charembed[parquet]'."""
    dtype: DType = "float32"
    """Data type of the vectors: float32, or float16 for files of half the size."""
    dim: int | None = None
    """Reduce the vectors to this number of dimensions by principal component analysis (PCA). The projection is that of
    the model, if it has one with enough dimensions; otherwise it is fitted to a sample of the text. It is saved next to
    the vectors. By default the vectors are not reduced."""
    projection: str | None = None
    """Reduce the vectors with the projection of an earlier output, given as its folder or projection file, instead of
    fitting a new one with dim. Vectors are comparable only if they were reduced with the same projection."""
    shard_mb: int = 64
    """Approximate size of each file in megabytes. An interrupted command resumes after the last complete file, so it
    loses at most the work of one file and of the texts read ahead (see memory_mb)."""
    overwrite: bool = False
    """Delete the vectors that the output folder already contains and start over. By default the command resumes an
    interrupted output, and reports an error if the folder contains vectors made with other options."""

    def __post_init__(self) -> None:
        check_choice("format", self.format, get_args(Format))
        check_choice("dtype", self.dtype, get_args(DType))
        if self.shard_mb < 1:
            raise CharEmbedError(f"shard_mb must be positive, got {self.shard_mb}")
        if self.dim is not None and self.projection is not None:
            raise CharEmbedError(
                f"dim ({self.dim}) fits a new projection and projection ({self.projection}) names an existing one:"
                " give only one of the two"
            )
