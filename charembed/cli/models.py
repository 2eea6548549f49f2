"""The commands that use or convert whole models: evaluate, generate, add-words, add-projection, import-flair,
export-onnx."""

from __future__ import annotations

import itertools

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from charembed.cli.command import Command
from charembed.cli.options import add_device, add_files, add_model, add_parts, chosen_parts, read_corpus
from charembed.cli.parser import Parser
from charembed.errors import CharEmbedError


def run_evaluate(arguments: Namespace) -> int:
    """Print the bits per character of a model on files."""
    from charembed.lm.scoring import evaluate
    from charembed.pretrained.model_folder import Pretrained

    evaluation = evaluate(Pretrained.load(arguments.model, arguments.device), read_corpus(arguments))
    for direction, bits in evaluation.bits_per_character.items():
        print(f"{direction:8} {bits:.4f} bits per character")
    print(f"{evaluation.characters:,} characters, {evaluation.unknown_rate:.4%} unknown")
    return 0


def _add_evaluate_options(parser: Parser) -> None:
    add_model(parser)
    add_files(parser)
    add_device(parser)


def run_generate(arguments: Namespace) -> int:
    """Print text that the forward model generates."""
    from charembed.lm.generation import generate
    from charembed.pretrained.model_folder import Pretrained

    pretrained = Pretrained.load(arguments.model, arguments.device)
    characters = generate(
        pretrained.model.direction("forward"),
        pretrained.vocab,
        arguments.prompt,
        temperature=arguments.temperature,
        seed=arguments.seed,
    )
    print(arguments.prompt, end="")
    for character in itertools.islice(characters, arguments.characters):
        print(character, end="", flush=True)
    print()
    return 0


def _add_generate_options(parser: Parser) -> None:
    add_model(parser)
    parser.add_argument("--prompt", default="", type=str, help="Text to continue")
    parser.add_argument("--characters", default=500, type=NonNegativeInt, help="Number of characters to generate")
    parser.add_argument(
        "--temperature",
        default=0.7,
        type=float,
        help="Randomness: 1 samples from the model's probabilities, lower values are more predictable",
    )
    parser.add_argument("--seed", default=None, type=int, help="Random seed; the same seed generates the same text")
    add_device(parser)


def run_add_words(arguments: Namespace) -> int:
    """Write a model with static vectors of words."""
    from charembed.pretrained.added_words import add_words
    from charembed.pretrained.model_folder import Pretrained, check_replaceable
    from charembed.static_vectors import load_static_vectors
    from charembed.util.files import user_path

    check_replaceable(user_path(arguments.output).resolve())  # before the time is spent on reading
    pretrained = Pretrained.load(arguments.model)
    static = load_static_vectors(arguments.words, arguments.limit, buckets=arguments.buckets)
    add_words(pretrained, static, source=arguments.words).save(arguments.output, arguments.dtype)
    print(
        f"{arguments.output}: static vectors of {len(static):,} words and {static.buckets:,} buckets of n-grams,"
        f" {static.dim} dimensions, {static.rows.nbytes / 1e6:.1f} MB"
    )
    return 0


def _add_words_options(parser: Parser) -> None:
    add_model(parser)
    parser.add_argument(
        "--words",
        required=True,
        type=str,
        help="Vectors of words: a text file of word2vec, fastText (.vec) or GloVe, also compressed; a folder of"
        " model2vec; or another model folder, from which they are taken as they are",
    )
    parser.add_argument("-o", "--output", required=True, type=str, help="Model folder to write")
    parser.add_argument(
        "--limit",
        default=50_000,
        type=PositiveInt,
        help="Maximum number of words to take from the beginning of the file; one takes a byte per dimension",
    )
    parser.add_argument(
        "--buckets",
        default=10_000,
        type=NonNegativeInt,
        help="Number of buckets for the character n-grams of words, which give all other words vectors; with 0, those"
        " are zeros. A bucket takes as much space as a word",
    )
    _add_dtype(parser)


def _add_dtype(parser: Parser) -> None:
    """Add `--dtype`."""
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=["float32", "float16"],
        help="Type of the stored weights; float16 halves the size",
    )


def run_add_projection(arguments: Namespace) -> int:
    """Fit a projection to fewer dimensions and write the model with it."""
    from charembed.embedding.embedder import CharEmbedder
    from charembed.output.sample import CorpusSample
    from charembed.pretrained.model_folder import check_replaceable
    from charembed.util.files import user_path

    check_replaceable(user_path(arguments.output).resolve())  # before the time is spent on embedding
    embedder = CharEmbedder.from_pretrained(
        arguments.model, arguments.device, readout=arguments.readout, parts=chosen_parts(arguments)
    )
    sample = CorpusSample.draw(read_corpus(arguments))
    reduced = embedder.fit_projection(sample.shuffled(), arguments.dim)
    reduced.save_pretrained(arguments.output, arguments.dtype)
    assert reduced.projection is not None
    print(
        f"{arguments.output}: a projection from {embedder.embedding_dim} to {arguments.dim} dimensions, which keeps"
        f" {reduced.projection.explained:.1%} of the variance"
    )
    return 0


def _add_projection_options(parser: Parser) -> None:
    add_model(parser)
    parser.add_argument("-o", "--output", required=True, type=str, help="Model folder to write")
    parser.add_argument(
        "--dim",
        required=True,
        type=PositiveInt,
        help="Number of dimensions of the projection. An embedder of the model can be asked for any number up to it",
    )
    add_files(parser)
    parser.add_argument(
        "--readout",
        default=None,
        choices=["word", "separator"],
        help="Readout for which to fit the projection, which becomes the setting of the new folder. By default that of"
        " the model",
    )
    add_parts(parser)
    _add_dtype(parser)
    add_device(parser)


def run_import_flair(arguments: Namespace) -> int:
    """Convert a pair of Flair language models to a model folder."""
    from charembed.pretrained.flair_checkpoint import read_flair
    from charembed.pretrained.model_folder import check_replaceable
    from charembed.util.files import user_path

    check_replaceable(user_path(arguments.output).resolve())  # before the time is spent on reading
    pretrained = read_flair(arguments.forward, arguments.backward, arguments.readout)
    pretrained.save(arguments.output)
    config = pretrained.model.config
    print(
        f"{arguments.output}: {config.num_layers} layer(s) of {config.cell}, hidden size {config.hidden_size},"
        f" {config.vocab_size} characters, vectors of {pretrained.model.embedding_dim} dimensions"
    )
    return 0


def _add_import_options(parser: Parser) -> None:
    parser.add_argument(
        "forward", type=str, help="File of Flair's forward language model (.pt), or of a tagger that has it"
    )
    parser.add_argument("backward", type=str, help="File of Flair's backward language model (.pt), or the same tagger")
    parser.add_argument("output", type=str, help="Model folder to write")
    parser.add_argument(
        "--readout",
        default="separator",
        choices=["separator", "word"],
        help="Vectors to reproduce: separator, those of FlairEmbeddings(with_whitespace=True), Flair's default; word,"
        " those of with_whitespace=False",
    )


def run_export_onnx(arguments: Namespace) -> int:
    """Write a model or a tagger as ONNX graphs."""
    from charembed.integrations.onnx import export_onnx
    from charembed.pretrained.model_folder import Pretrained
    from charembed.tagging.tagger_folder import is_tagger

    if is_tagger(arguments.model):
        return _export_tagger(arguments)
    pretrained = Pretrained.load(arguments.model)
    exported = export_onnx(pretrained, arguments.output, arguments.precision, dim=arguments.dim)
    print(
        f"{arguments.output}: {exported.megabytes:.1f} MB; compared with PyTorch's vectors: largest difference"
        f" {exported.difference:.1e}, smallest cosine {exported.cosine:.6f}. See embed.py in the folder for an example"
    )
    return 0


def _export_tagger(arguments: Namespace) -> int:
    from charembed.integrations.onnx_tagger import export_tagger_onnx
    from charembed.tagging.tagger import Tagger

    if arguments.dim is not None:
        raise CharEmbedError("--dim cannot be set for a tagger: the size of its vectors is that of its training")
    exported = export_tagger_onnx(Tagger.load(arguments.model), arguments.output, arguments.precision)
    print(
        f"{arguments.output}: {exported.megabytes:.1f} MB; compared with PyTorch: word vectors, largest difference"
        f" {exported.difference:.1e}, smallest cosine {exported.cosine:.6f}; scores of tags, largest difference"
        f" {exported.emission_difference:.1e}. See tag.py in the folder for an example"
    )
    return 0


def _add_export_options(parser: Parser) -> None:
    add_model(parser, "model or tagger")
    parser.add_argument("output", type=str, help="Folder to write")
    parser.add_argument(
        "--precision",
        default="float32",
        choices=["float32", "int8"],
        help="Precision of the recurrent weights and their products; int8 is a quarter of the size and several times"
        " faster, but less exact",
    )
    parser.add_argument(
        "--dim",
        default=None,
        type=PositiveInt,
        help="Reduce vectors to this number of dimensions, by the projection of the model; by default all are kept",
    )


EVALUATE = Command(
    run_evaluate,
    _add_evaluate_options,
    "Measure how well a model predicts text files, in bits per character (lower is better).",
    examples=("charembed evaluate --model en my_text.txt",),
)
GENERATE = Command(
    run_generate,
    _add_generate_options,
    "Generate text with the forward model.",
    examples=('charembed generate --model en --prompt "The city of " --characters 200 --seed 1',),
)
ADD_WORDS = Command(
    run_add_words,
    _add_words_options,
    "Add static vectors of words to a model: they become the third part of the vector of a word, after the states of"
    " the language models.",
    examples=(
        "charembed add-words --model en --words cc.en.300.vec.gz --output runs/en-words",
        "charembed add-words --model runs/mine/best --words glove.6B.100d.txt --limit 100000 -o runs/mine-words",
    ),
)
ADD_PROJECTION = Command(
    run_add_projection,
    _add_projection_options,
    "Fit a projection to fewer dimensions (PCA) to the word vectors of text files, and write the model with it: an"
    " embedder of the model can then be asked for fewer dimensions.",
    examples=(
        "charembed add-projection --model en my_text.txt --dim 256 --output runs/en-256",
        "charembed add-projection --model en my_text.txt --dim 256 --readout separator --dtype float16 -o runs/en-256",
    ),
)
IMPORT_FLAIR = Command(
    run_import_flair,
    _add_import_options,
    "Convert a pair of Flair language models to a model folder. Flair is not needed, and no code in the files is run.",
    examples=("charembed import-flair news-forward.pt news-backward.pt runs/news",),
)
EXPORT_ONNX = Command(
    run_export_onnx,
    _add_export_options,
    "Write a model or a tagger as ONNX graphs that ONNX Runtime runs without charembed and PyTorch, with an example.",
    examples=(
        "charembed export-onnx --model en exported",
        "charembed export-onnx --model runs/mine/best exported --precision int8",
        "charembed export-onnx --model runs/tagger exported",
    ),
    hint="name the model with --model, as in: charembed export-onnx --model en exported",
)
