"""The network of a tagger: a linear layer, a bidirectional LSTM and conditional random fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from charembed.errors import CharEmbedError
from charembed.recurrent import LSTM
from charembed.tagging.crf import LinearChainCRF
from charembed.tagging.decoding import TagLattice
from charembed.tagging.tag_layer import TagLayer
from charembed.util.checks import MAX_DIM, check_choice, check_integer, shown

EncoderName = Literal["bilstm", "linear"]


@dataclass(frozen=True)
class NetworkConfig:
    """The architecture of a `TaggerNetwork`, without its tags."""

    input_size: int
    """Dimensions of a word vector."""
    encoder: EncoderName = "bilstm"
    """What is between the projection and the tags: a bidirectional LSTM, or nothing."""
    projection_size: int = 256
    """Dimensions to which a linear layer reduces the word vectors."""
    hidden_size: int = 128
    """Units of the LSTM in each direction; not used by the linear encoder."""
    dropout: float = 0.3
    """Probability of dropping units before the projection, the LSTM and the tags in training."""

    def __post_init__(self) -> None:
        check_choice("encoder", self.encoder, get_args(EncoderName))
        for name in ("input_size", "projection_size", "hidden_size"):
            check_integer(name, getattr(self, name), maximum=MAX_DIM)
        if not 0 <= self.dropout < 1:
            raise CharEmbedError(f"dropout must be at least 0 and less than 1, got {shown(self.dropout)}")


class TaggerNetwork(nn.Module):
    """A BiLSTM-CRF tagger (Huang, Xu & Yu 2015) of one or several layers of tags on word vectors.

    Word vectors are centered, divided by one number and reduced by a linear layer, so that vectors of any scale train
    with the same learning rate.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, config: NetworkConfig, layers: Sequence[TagLayer]) -> None:
        super().__init__()
        self.config = config
        self.layers = tuple(layers)
        self.register_buffer("center", torch.zeros(config.input_size))
        self.register_buffer("scale", torch.ones(()))
        self.dropout = nn.Dropout(config.dropout)
        self.projection = nn.Linear(config.input_size, config.projection_size)
        self.lstm = None
        width = config.projection_size
        if config.encoder == "bilstm":
            self.lstm = LSTM(config.projection_size, config.hidden_size, bidirectional=True)
            width = self.lstm.output_size
        # In the order of the layers: a name may contain characters that names of modules must not have.
        self.heads = nn.ModuleList(nn.Linear(width, len(layer.tags)) for layer in layers)
        self.crfs = nn.ModuleList(LinearChainCRF(layer) for layer in layers)

    @property
    def fields(self) -> list[LinearChainCRF]:
        """The conditional random field of each layer."""
        return [crf for crf in self.crfs if isinstance(crf, LinearChainCRF)]

    def set_scale(self, center: Tensor, variance: float) -> None:
        """Set what is subtracted from word vectors, and the number by which they are divided.

        Args:
            center: mean of the vectors of the training words. Shape: (input_size,)
            variance: mean over the dimensions of their variance.
        """
        self.center.copy_(center)
        self.scale.fill_(variance**0.5 if variance > 0 else 1.0)

    def emissions(self, vectors: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return the scores of the tags of each layer, and the mask of words.

        Args:
            vectors: word vectors of each sentence, which has at least one word. Shape: (words, input_size) each

        Returns:
            One tensor per layer, and the mask. Shape: (batch, words, tags), (batch, words)
        """
        lengths = torch.tensor([len(sentence) for sentence in vectors])
        # All words of the batch at once; padding comes last.
        words = (torch.cat(list(vectors)) - self.center) / self.scale
        narrow = self.projection(self.dropout(words))
        states = pad_sequence(narrow.split(lengths.tolist()), batch_first=True)
        if self.lstm is not None:
            output, _ = self.lstm(self.dropout(states).transpose(0, 1), lengths=lengths)
            states = output.transpose(0, 1)
        states = self.dropout(states)
        mask = (torch.arange(states.shape[1]) < lengths[:, None]).to(states.device)
        return [head(states) for head in self.heads], mask

    @torch.inference_mode()
    def lattices(self, vectors: Sequence[Tensor]) -> list[TagLattice]:
        """Return all tag sequences of sentences with their probabilities, one lattice per layer.

        Args:
            vectors: word vectors, as in `emissions`.

        Raises:
            CharEmbedError: the scores are not finite.
        """
        self.eval()
        scores, _ = self.emissions(vectors)
        if not all(emissions.isfinite().all() for emissions in scores):
            raise CharEmbedError("this tagger computes scores of tags that are not finite: its weights are damaged")
        lengths = np.array([len(sentence) for sentence in vectors])
        return [
            TagLattice(emissions.float().cpu().numpy(), lengths, crf.transition_scores())
            for crf, emissions in zip(self.fields, scores, strict=True)
        ]

    def predict(self, vectors: Sequence[Tensor]) -> list[dict[str, list[str]]]:
        """Return the most probable tags of each sentence by layer.

        Args:
            vectors: word vectors, as in `emissions`.
        """
        sentences: list[dict[str, list[str]]] = [{} for _ in vectors]
        if not sentences:
            return sentences
        for layer, lattice in zip(self.layers, self.lattices(vectors), strict=True):
            for tags, path in zip(sentences, lattice.best_paths(), strict=True):
                tags[layer.name] = [layer.tags[tag] for tag in path]
        return sentences

    def loss(self, vectors: Sequence[Tensor], tags: Sequence[Sequence[Tensor]]) -> Tensor:
        """Return the negative log-likelihood of the tags of all layers, averaged over sentences.

        Args:
            vectors: word vectors, as in `emissions`.
            tags: for each layer, the numbers of the tags of each sentence. Shape: (words,) each
        """
        scores, mask = self.emissions(vectors)
        total = torch.zeros((), device=mask.device)
        for crf, emissions, layer_tags in zip(self.fields, scores, tags, strict=True):
            targets = pad_sequence(list(layer_tags), batch_first=True).to(mask.device)
            total = total - crf.log_likelihood(emissions, targets, mask).mean()
        return total
