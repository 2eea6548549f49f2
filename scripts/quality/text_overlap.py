"""Count the labelled sentences that a text has seen: those of which it holds so many words in a row.

    python -m scripts.quality.text_overlap --text 'en_wiki/train_*.txt.xz' --labelled wnut17/test.conll

Case and punctuation do not count.
"""

from __future__ import annotations

import re

from jsonargparse import auto_cli

from charembed.tagging.labelled_text import read_labelled
from charembed.text.corpus import Corpus

WORD = re.compile(r"\w+")


def main(text: str, labelled: str, run: int = 8, token_column: int = 0, tag_column: int = 1) -> None:
    """Print how many sentences share a run of words with the text, and how many are in it as a whole.

    Args:
        text: what a model was trained on, as for `charembed train`.
        labelled: file of columns or CoNLL-U.
        run: words in a row; sentences of fewer are not looked for.
        token_column: column of the word, from 0.
        tag_column: column of the tag, from 0.
    """
    sentences = [
        WORD.findall(" ".join(sentence.words).lower()) for sentence in read_labelled(labelled, token_column, tag_column)
    ]
    sought = {tuple(words[k : k + run]) for words in sentences for k in range(len(words) - run + 1)}
    beginnings = {words[0] for words in sought}
    found = set()
    for document in Corpus(text):
        words = WORD.findall(document.lower())
        for k, word in enumerate(words):
            if word in beginnings and (here := tuple(words[k : k + run])) in sought:
                found.add(here)
    shared = [
        [tuple(words[k : k + run]) in found for k in range(len(words) - run + 1)]
        for words in sentences
        if len(words) >= run
    ]
    print(
        f"{labelled}: of {len(sentences):,} sentences, {len(shared):,} of {run} words or more, "
        f"{sum(map(any, shared)):,} share a run of {run} with the text, {sum(map(all, shared)):,} all of theirs"
    )


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
