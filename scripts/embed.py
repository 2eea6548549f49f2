"""Print the words of texts, their character offsets and the beginning of their vectors.

    python scripts/embed.py --model en "George Washington went to Washington."

`charembed embed` writes the vectors of whole files.
"""

from charembed import CharEmbedder
from charembed.cli.parser import Parser
from charembed.cli.runner import run_program

SHOWN = 6
"""Number of dimensions to print."""


def main() -> None:
    """Read the command line, and print the vectors."""
    parser = Parser(description="Print the words of texts, their character offsets and the beginning of their vectors.")
    parser.add_argument("-m", "--model", type=str, default="en", help="Name of a bundled model, or a model folder")
    parser.add_argument("texts", type=str, nargs="+", help="Texts")
    arguments = parser.parse_args()

    embedder = CharEmbedder.from_pretrained(arguments.model)
    for embeddings in embedder.embed(arguments.texts):
        for word, (start, end), vector in zip(embeddings.words, embeddings.spans, embeddings.vectors, strict=True):
            numbers = " ".join(f"{number:7.4f}" for number in vector[:SHOWN])
            print(f"{start:5}–{end:<5} {word:<20} {numbers} … ({len(vector)} dimensions)")


if __name__ == "__main__":
    raise SystemExit(run_program("embed.py", main))
