"""Measure charembed's taggers: against Flair's `SequenceTagger` on the same language models, and in memory.

    python -m scripts.benchmarks.tagging speed wnut17/train.conll wnut17/test.conll
    python -m scripts.benchmarks.tagging latency wnut17/train.conll ud_en_ewt/test.conllu.xz
    python -m scripts.benchmarks.tagging memory en-ner en_wiki/train_00.txt.xz

Both taggers read the states of the same weights, and consist of a linear layer, a bidirectional LSTM and a conditional
random field of the same sizes. They are measured in turn, and medians are printed. Needs `charembed[flair,onnx,dev]`.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from charembed import CharEmbedder, Tagger
from charembed.cli.runner import run_script
from charembed.pretrained.model_folder import Pretrained
from charembed.tagging.fitting import FitConfig, Fitter, LabelledVectors
from charembed.tagging.labelled_text import LabelledSentence, read_labelled
from charembed.tagging.network import NetworkConfig, TaggerNetwork
from charembed.tagging.splits import Splits
from charembed.tagging.stored_vectors import StoredVectors
from charembed.tagging.tag_layer import TagLayer
from charembed.text.corpus import Corpus
from charembed.util.devices import has_bfloat16_units
from scripts.benchmarks.interleaved import interleaved
from scripts.benchmarks.process import memory_table, write_repeated

PROJECTION_SIZE, HIDDEN_SIZE = 256, 128
"""Sizes of the linear layer and of the LSTM of both taggers, those of `charembed tag train`."""
MINI_BATCH = 32
"""Sentences per step of training, and sentences that Flair tags at a time."""
ENGINES: dict[str, dict[str, Any]] = {
    "charembed float32": {},
    **({"charembed bfloat16": {"precision": "bfloat16"}} if has_bfloat16_units(torch.device("cpu")) else {}),
    "charembed int8": {"precision": "int8"},
}


class _Taggers:
    """A charembed tagger and a Flair tagger that read the same language models, and the sentences to train them on."""

    def __init__(self, model: str, sentences: list[LabelledSentence], folder: Path) -> None:
        """
        Args:
            model: the language models.
            sentences: sentences to train on, with one layer of entities.
            folder: folder for the vectors of the sentences.
        """
        from flair.embeddings import StackedEmbeddings
        from flair.models import SequenceTagger

        from scripts.benchmarks.flair_reference import flair_embeddings
        from scripts.quality.flair_tagger import flair_corpus

        # Flair's vectors are the states at separators, without static vectors.
        loaded = Pretrained.load(model)
        self._pretrained = Pretrained(loaded.model, loaded.vocab, readout="separator")
        embedder = CharEmbedder(self._pretrained, threads=torch.get_num_threads())
        (name,) = sentences[0].tags
        torch.manual_seed(1)
        config = NetworkConfig(embedder.embedding_dim, projection_size=PROJECTION_SIZE, hidden_size=HIDDEN_SIZE)
        self._network = TaggerNetwork(config, [TagLayer.of(name, "entities", sentences)])
        path = folder / "vectors.bin"
        StoredVectors.write(path, (each.vectors for each in embedder.iter_embed(one.words for one in sentences)))
        stored = StoredVectors(path, [len(one.words) for one in sentences], embedder.embedding_dim)
        center, variance = stored.moments()
        self._network.set_scale(torch.from_numpy(center), variance)
        self._vectors = LabelledVectors(sentences, stored)

        corpus = flair_corpus(Splits(sentences, sentences[:1], sentences[:1]), "ner")
        self._flair_sentences = list(corpus.train)  # type: ignore[call-overload]
        self.flair = SequenceTagger(
            StackedEmbeddings(flair_embeddings(self._pretrained)),
            corpus.make_label_dictionary("ner", add_unk=False),
            "ner",
            hidden_size=HIDDEN_SIZE,
            reproject_embeddings=PROJECTION_SIZE,  # type: ignore[arg-type]  # a width, as the documentation says
        )

    def epochs(self) -> dict[str, Callable[[], Any]]:
        """Return functions that train each tagger for an epoch on stored vectors."""
        from scripts.benchmarks.flair_tagger import train_epoch

        one_sentence = LabelledVectors(self._vectors.sentences[:1], self._vectors.vectors)

        def train() -> None:
            Fitter(self._network, self._vectors, one_sentence, FitConfig(epochs=1, batch_size=MINI_BATCH)).fit()

        return {"Flair": partial(train_epoch, self.flair, self._flair_sentences, MINI_BATCH, "cpu"), "charembed": train}

    def predictors(self) -> dict[str, Callable[[list[str]], Any]]:
        """Return functions that tag raw texts."""
        predictors: dict[str, Callable[[list[str]], Any]] = {"Flair": self._predict_with_flair}
        for name, options in ENGINES.items():
            embedder = CharEmbedder(self._pretrained, threads=torch.get_num_threads(), **options)
            predictors[name] = Tagger(embedder, self._network).predict
        return predictors

    def _predict_with_flair(self, texts: list[str]) -> None:
        from flair.data import Sentence

        sentences = [Sentence(text) for text in texts]
        self.flair.predict(sentences, mini_batch_size=MINI_BATCH)


@contextmanager
def _taggers(train: str, model: str, sentences: int, threads: int) -> Iterator[_Taggers]:
    torch.set_num_threads(threads)
    labelled = [sentence for sentence in read_labelled(train).sentences if sentence.words][:sentences]
    with tempfile.TemporaryDirectory() as folder:
        yield _Taggers(model, labelled, Path(folder))


def speed(train: str, test: str, model: str = "en", sentences: int = 1000, rounds: int = 5, threads: int = 1) -> None:
    """Measure an epoch of training on stored vectors, and sentences tagged per second from raw text.

    Args:
        train: labelled file with entities.
        test: labelled file whose sentences, joined by spaces, are tagged.
        model: language model of both taggers.
        sentences: number of sentences to train on and to tag, from the beginning of the files.
        rounds: number of measurements of each tagger.
        threads: CPU threads of PyTorch's operators and of charembed.
    """
    texts = [" ".join(sentence.words) for sentence in read_labelled(test).sentences[:sentences]]
    with _taggers(train, model, sentences, threads) as taggers:
        # Training comes first: an untrained tagger would find entities everywhere.
        seconds = {
            "epoch": interleaved(taggers.epochs(), rounds),
            "predict": interleaved({name: partial(run, texts) for name, run in taggers.predictors().items()}, rounds),
        }
    for work, times in seconds.items():
        medians = {name: statistics.median(values) for name, values in times.items()}
        rows = [
            [name, f"{median:.2f}", f"{sentences / median:,.0f}", _ratio(times["Flair"], times[name])]
            for name, median in medians.items()
        ]
        headers = [work, "seconds", "sentences per second", "speed relative to Flair"]
        print("\n" + tabulate(rows, headers, tablefmt="github", disable_numparse=True), flush=True)


def latency(train: str, test: str, model: str = "en", sentences: int = 30, rounds: int = 3, threads: int = 1) -> None:
    """Measure the median time to tag one sentence of 80 to 120 characters at a time.

    Args:
        train: labelled file with entities, on which both taggers are trained for an epoch.
        test: labelled file with the sentences, joined by spaces.
        model: language model of both taggers.
        sentences: number of sentences.
        rounds: number of measurements of each sentence.
        threads: CPU threads of PyTorch's operators and of charembed.
    """
    joined = (" ".join(sentence.words) for sentence in read_labelled(test).sentences)
    texts = [text for text in joined if 80 <= len(text) <= 120][:sentences]
    with _taggers(train, model, 1000, threads) as taggers:
        for run in taggers.epochs().values():
            run()
        predictors = taggers.predictors()
        times: dict[str, list[float]] = {name: [] for name in predictors}
        for number in range(rounds + 1):  # the first round warms up
            for text in texts:
                for name, predict in predictors.items():
                    started = time.perf_counter()
                    predict([text])
                    if number:
                        times[name].append(time.perf_counter() - started)
    print(f"{len(texts)} sentences of {statistics.mean(map(len, texts)):.0f} characters on average")
    rows = [
        [name, f"{1e3 * statistics.median(values):.1f}", _ratio(times["Flair"], values)]
        for name, values in times.items()
    ]
    headers = ["tagger", "ms per sentence", "speed relative to Flair"]
    print("\n" + tabulate(rows, headers, tablefmt="github", disable_numparse=True))


def _ratio(reference: list[float], values: list[float]) -> str:
    """Return the median of the ratios of measurements that were taken in turn."""
    return f"{statistics.median(one / other for one, other in zip(reference, values, strict=True)):.2f}"


def memory(tagger: str, text: str, megabytes: int = 1000, minutes: float = 5.0, precision: str = "float32") -> None:
    """Measure the peak memory of `charembed tag predict` on a large text, against a few words.

    Args:
        tagger: folder of a tagger or name of a bundled one.
        text: text that the large text repeats.
        megabytes: size of the large text.
        minutes: time after which the process is killed.
        precision: precision of the language model.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few, large = folder / "few words.txt", folder / "large text.txt"
        few.write_text("a few words", encoding="utf-8")
        write_repeated(large, "".join(f"{line.text}\n" for line in Corpus(text).texts()).encode(), 1e6 * megabytes)
        command = [sys.executable, "-m", "charembed", "tag", "predict", tagger, "--precision", precision]
        commands = {path: [*command, str(path), "-o", str(path.with_suffix(".jsonl"))] for path in (few, large)}
        print(memory_table(commands, 60 * minutes))


if __name__ == "__main__":
    run_script({"speed": speed, "latency": latency, "memory": memory}, as_positional=True)
