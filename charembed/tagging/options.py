"""The options that training a tagger and comparing models by taggers have in common."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field

from charembed.embedding.embedder import CharEmbedder
from charembed.errors import CharEmbedError
from charembed.lm.model import Readout
from charembed.static_vectors import StaticVectors, load_static_vectors
from charembed.tagging.fitting import FitConfig
from charembed.tagging.labelled_text import Columns
from charembed.tagging.network import EncoderName, NetworkConfig
from charembed.tagging.splits import LabelledSplits, read_splits
from charembed.util.checks import MAX_THREADS, check_integer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TaggerOptions:
    """The labelled files, the word vectors, the network and how it is trained."""

    train: str
    """Labelled file to train on: CoNLL columns, CoNLL-U (.conllu), JSONL with character spans (.jsonl, .json) or a
    DocBin of spaCy (.spacy); it may be compressed."""
    dev: str | None = None
    """Labelled file that chooses the best epoch; a tenth of the training documents (or sentences) by default."""
    test: str | None = None
    """Labelled file to report the scores on; a quarter of the training documents (or sentences) by default."""
    token_column: int = 0
    """Column of the word in files of columns, from 0; negative numbers count from the last one."""
    tag_columns: dict[str, int | str] | None = None
    """Layers of tags: the name of each and its column (from 0), or its field in CoNLL-U, such as upos. By default one
    layer, from column 1, or upos in CoNLL-U."""
    words: str | None = None
    """Static word vectors beside those of the model: a text file of word2vec, GloVe or fastText, a folder of model2vec
    or a model folder."""
    readout: Readout | None = None
    """Characters at which states are read; by default the setting of the model."""
    dim: int | None = None
    """Reduce the vectors of the model to this number of dimensions by its projection; all by default."""
    encoder: EncoderName = "bilstm"
    """bilstm: a bidirectional LSTM; linear: none, which is faster and less accurate."""
    projection_size: int = 256
    """Dimensions to which a linear layer reduces the word vectors."""
    hidden_size: int = 128
    """Units of the LSTM in each direction."""
    dropout: float = 0.3
    """Probability of dropping units in training."""
    fit: FitConfig = field(default_factory=FitConfig)
    """How the network is trained."""
    threads: int = 1
    """CPU threads."""

    def __post_init__(self) -> None:
        check_integer("threads", self.threads, maximum=MAX_THREADS)
        if self.tag_columns == {}:
            raise CharEmbedError("tag_columns must name at least one layer")
        self.network(input_size=1)  # checks the options of the network before any work

    def read_splits(self) -> LabelledSplits:
        """Read the labelled files, and log how they were read.

        Sentences without words are left out: nothing can be learned from them.

        Raises:
            CharEmbedError: a labelled file is wrong (see `charembed.tagging.splits.read_splits`).
            OSError: a file cannot be read.
        """
        labelled = read_splits(self.train, self.dev, self.test, Columns(self.token_column, self.tag_columns))
        for note in labelled.notes:
            logger.info("%s", note)
        splits = labelled.splits
        kept = dataclasses.replace(
            splits, **{name: [one for one in getattr(splits, name) if one.words] for name in ("train", "dev", "test")}
        )
        origins = {"train": self.train, "dev": self.dev, "test": self.test}
        listed = (f"{size:,} {name} ({origins[name] or 'drawn from train'})" for name, size in kept.sizes().items())
        logger.info("sentences: %s", ", ".join(listed))
        return dataclasses.replace(labelled, splits=kept)

    def load_embedder(self, model: str) -> CharEmbedder:
        """Load a language model.

        Args:
            model: its name, folder or address.

        Raises:
            CharEmbedError: it does not exist, or an option does not fit it.
        """
        return CharEmbedder.from_pretrained(model, threads=self.threads, readout=self.readout, dim=self.dim)

    def load_words(self) -> StaticVectors | None:
        """Load the static vectors of the option `words`.

        Raises:
            CharEmbedError: the file is wrong.
            OSError: it cannot be read.
        """
        return None if self.words is None else load_static_vectors(self.words)

    def network(self, input_size: int) -> NetworkConfig:
        """Return the architecture of the network.

        Args:
            input_size: dimensions of a word vector.

        Raises:
            CharEmbedError: an option is invalid.
        """
        return NetworkConfig(input_size, self.encoder, self.projection_size, self.hidden_size, self.dropout)
