"""Print the words of some texts with their offsets and the first numbers of their vectors.

    python scripts/embed.py en "George Washington went to Washington ."

`charembed embed` writes the vectors of whole files.
"""

from jsonargparse import ArgumentParser

from charembed import CharEmbedder

parser = ArgumentParser(description="Print the words of some texts, their offsets and the start of their vectors.")
parser.add_argument("model", type=str, help="name or folder of the model")
parser.add_argument("texts", type=str, nargs="+", help="texts, whose words are found")
arguments = parser.parse_args()

embedder = CharEmbedder.from_pretrained(arguments.model)
for found in embedder.embed(arguments.texts):
    for word, (start, end), vector in zip(found.words, found.spans, found.vectors, strict=True):
        numbers = " ".join(f"{number:7.4f}" for number in vector[:6])
        print(f"{start:5}–{end:<5} {word:<20} {numbers} … ({len(vector)} numbers)")
