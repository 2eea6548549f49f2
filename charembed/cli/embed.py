"""The commands that embed words: embed, neighbors."""

from __future__ import annotations

import dataclasses
import re
import sys

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from charembed.cli.command import Command
from charembed.cli.options import add_cluster, add_device, add_files, add_model, add_parts, chosen_parts, read_corpus
from charembed.cli.parser import Parser
from charembed.util.files import user_path

EXCERPT_CHARACTERS = 30
"""Characters shown on each side of a neighbor."""


def run_embed(arguments: Namespace) -> int:
    """Write the word vectors of files into a folder."""
    from charembed.embedding.context import Context
    from charembed.embedding.embedder import CharEmbedder
    from charembed.embedding.options import EmbedderOptions
    from charembed.output import OutputConfig, write_embeddings

    # The options of the command are those of three objects: the output, the context and the embedder.
    config = OutputConfig(**{field.name: arguments[field.name] for field in dataclasses.fields(OutputConfig)})
    context = None
    if arguments.context_characters is not None or arguments.context_sentences is not None:
        context = Context(arguments.context_characters, arguments.context_sentences)
    # `dim` is an option of the output here, so that a projection can be fitted to its text.
    names = EmbedderOptions.__annotations__.keys() - {"dim"}
    options = {name: arguments[name] for name in names if name in arguments}
    options["parts"] = chosen_parts(arguments)
    if arguments.cluster is not None:
        options["threads"] = 1  # one worker per core
    embedder = CharEmbedder.from_pretrained(arguments.model, **options)
    try:
        if arguments.cluster is None:
            manifest = write_embeddings(embedder, read_corpus(arguments), arguments.output, config, context)
        else:
            from charembed.cluster.embedding import embed_on_cluster

            address = arguments.cluster
            manifest = embed_on_cluster(
                embedder, read_corpus(arguments), arguments.output, config, context, address=address
            )
    except KeyboardInterrupt:
        print(
            "charembed: to resume after the last complete file, run the same command again (without --overwrite)",
            file=sys.stderr,
        )
        raise
    dimensions = manifest.projected.get("dim", embedder.embedding_dim)
    read = embedder.preparation
    unknown = f", {read.unknown / read.characters:.4%} of characters unknown" if read.characters else ""
    print(f"{arguments.output}: {manifest.size}, {dimensions} dimensions{unknown}")
    return 0


def _add_embed_options(parser: Parser) -> None:
    from charembed.embedding.embedder import CharEmbedder
    from charembed.output import OutputConfig

    add_model(parser)
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=str,
        help="Folder to write. Its files have one row per word: source (file), number (line or record, from 1), word,"
        " start and end (characters in the line), vector. To resume an interrupted run, run the same command again",
    )
    add_files(parser)
    parser.add_argument(
        "--context_characters",
        type=PositiveInt,
        default=None,
        help="Read this many characters of the neighboring lines on each side of a line, up to a blank line",
    )
    parser.add_argument(
        "--context_sentences",
        type=PositiveInt,
        default=None,
        help="Read this many neighboring lines on each side of a line, up to a blank line",
    )
    add_device(parser)
    add_cluster(parser, "words")
    parser.add_class_arguments(OutputConfig)
    add_parts(parser)
    parser.add_class_arguments(CharEmbedder, skip={"pretrained", "device", "parts", "cache_mb", "dim", "limits"})


def run_neighbors(arguments: Namespace) -> int:
    """Print the words of files whose vectors are most similar to that of a word in its sentence."""
    from charembed.embedding.embedder import CharEmbedder
    from charembed.embedding.neighbors import find_neighbors, query_vector
    from charembed.embedding.occurrence_index import open_index

    embedder = CharEmbedder.from_pretrained(arguments.model, device=arguments.device)
    corpus, word = read_corpus(arguments), arguments.word
    if arguments.index is None:
        texts = (text.text for text in corpus.texts())
        neighbors = find_neighbors(embedder, arguments.sentence, word, texts, count=arguments.count)
    else:
        vector = query_vector(embedder, arguments.sentence, word)
        neighbors = open_index(embedder, corpus, user_path(arguments.index)).neighbors(vector, word, arguments.count)
    for neighbor in neighbors:
        start, end = neighbor.span
        before = neighbor.text[max(0, start - EXCERPT_CHARACTERS) : start]
        after = neighbor.text[end : end + EXCERPT_CHARACTERS]
        excerpt = f"{before:>{EXCERPT_CHARACTERS}}[{neighbor.word}]{after}"
        excerpt = re.sub(r"\s", " ", excerpt)  # a record may have lines
        print(f"{neighbor.similarity:6.3f}  {neighbor.word:<16} … {excerpt} …")
    return 0


def _add_neighbors_options(parser: Parser) -> None:
    add_model(parser)
    parser.add_argument("--sentence", required=True, type=str, help="Sentence with the word")
    parser.add_argument("--word", required=True, type=str, help="Word of the sentence")
    add_files(parser)
    parser.add_argument("--count", default=10, type=PositiveInt, help="Number of words to print")
    parser.add_argument(
        "--index",
        type=str,
        default=None,
        help="Folder of an index of all words of the files, which is built if it is missing and makes later searches"
        " quick; without one, the first 20,000 words are searched",
    )
    add_device(parser)


EMBED = Command(
    run_embed,
    _add_embed_options,
    "Write the contextual vectors of all words of text files into a folder; each line or record is one text.",
    examples=(
        "charembed embed --model en my_text.txt --output vectors",
        "charembed embed -m runs/mine/best notes.jsonl --text-column body -o vectors --format parquet --dim 128",
        "charembed embed -m en corpus/ -o vectors --format parquet --cluster auto",
    ),
)
NEIGHBORS = Command(
    run_neighbors,
    _add_neighbors_options,
    "Find the words of text files that are used most like a word in its sentence; other occurrences of the word"
    " itself are left out.",
    examples=(
        'charembed neighbors --model en my_text.txt --sentence "He went to the bank." --word bank',
        'charembed neighbors --model en my_text.txt --index runs/index --sentence "The river bank." --word bank',
    ),
)
