"""Count the labelled sentences that share a sequence of words with a text, or occur in it completely.

    python -m scripts.quality.text_overlap --text 'en_wiki/train_*.txt.xz' --labelled wnut17/test.conll

Case and punctuation are ignored.
"""

from __future__ import annotations

import re

from charembed.cli.runner import run_script
from charembed.tagging.columns import Columns
from charembed.tagging.labelled_text import read_labelled
from charembed.tagging.treebank import is_treebank
from charembed.text.corpus import Corpus

WORD = re.compile(r"\w+")


def main(text: str, labelled: str, run: int = 8, token_column: int = 0, tag_column: int = 1) -> None:
    """Print how many labelled sentences share a sequence of words with a text, and how many occur in it completely.

    Args:
        text: text that a model was trained on, as for `charembed train`.
        labelled: file of columns or CoNLL-U.
        run: number of words in a sequence; shorter sentences are not searched for.
        token_column: column of the word, from 0.
        tag_column: column of the tag, from 0.
    """
    columns = None if is_treebank(labelled) else Columns(token_column, {"tags": tag_column})
    sentences = [
        WORD.findall(" ".join(sentence.words).lower()) for sentence in read_labelled(labelled, columns).sentences
    ]
    sequences = {each for words in sentences for each in _sequences(words, run)}

    # Most words of the text begin none of the sequences, which spares their comparison.
    first_words = {words[0] for words in sequences}
    in_text = set()
    for document in Corpus(text):
        words = WORD.findall(document.lower())
        for k, word in enumerate(words):
            if word in first_words and (sequence := tuple(words[k : k + run])) in sequences:
                in_text.add(sequence)

    shared = [[each in in_text for each in _sequences(words, run)] for words in sentences if len(words) >= run]
    print(
        f"{labelled}: {len(sentences):,} sentences, {len(shared):,} of them of at least {run} words;"
        f" {sum(map(any, shared)):,} share {run} consecutive words with the text, {sum(map(all, shared)):,} all"
        " their words"
    )


def _sequences(words: list[str], run: int) -> list[tuple[str, ...]]:
    """Return all sequences of a number of consecutive words."""
    return [tuple(words[k : k + run]) for k in range(len(words) - run + 1)]


if __name__ == "__main__":
    run_script(main)
