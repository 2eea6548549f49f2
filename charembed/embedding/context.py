"""Join texts with the context before and after them in their document."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from charembed.embedding.passage import Passage
from charembed.errors import CharEmbedError
from charembed.text.words import SpannedText


@dataclass(frozen=True)
class Context:
    """How much of the document is read with each text: by the forward model before it, by the backward model after it.

    Consecutive texts belong to the same document until a blank text ends it. Specify either `characters` or
    `sentences`.
    """

    characters: int | None = None
    """Maximum number of characters on either side, cut to whole words where there are spaces."""
    sentences: int | None = None
    """Number of whole texts on either side."""
    joiner: str = " "
    """Characters between two texts."""

    def __post_init__(self) -> None:
        if (self.characters is None) == (self.sentences is None):
            raise CharEmbedError(
                "a context needs either characters or sentences, got"
                f" characters={self.characters!r} and sentences={self.sentences!r}"
            )
        for name in ("characters", "sentences"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise CharEmbedError(f"context {name} must be a positive whole number, got {value!r}")

    def is_filled_by(self, texts: Iterable[str]) -> bool:
        """Return whether these texts are enough context for one side."""
        if self.sentences is not None:
            return sum(1 for _ in texts) >= self.sentences
        assert self.characters is not None
        return sum(len(text) + len(self.joiner) for text in texts) > self.characters

    def before(self, texts: Iterable[str]) -> str:
        """Return the context before a text, given the texts before it."""
        joined = "".join((text[-self.characters - 1 :] if self.characters else text) + self.joiner for text in texts)
        if self.characters is None or len(joined) <= self.characters:
            return joined
        cut = len(joined) - self.characters
        if not joined[cut - 1].isspace():  # the cut may be inside a word: start at the next one, if there are spaces
            cut = next((k + 1 for k in range(cut, len(joined) - len(self.joiner)) if joined[k].isspace()), cut)
        return joined[cut:]

    def after(self, texts: Iterable[str]) -> str:
        """Return the context after a text, given the texts after it."""
        joined = "".join(self.joiner + (text[: self.characters + 1] if self.characters else text) for text in texts)
        if self.characters is None or len(joined) <= self.characters:
            return joined
        cut = self.characters
        if not joined[cut].isspace():  # the cut may be inside a word: end before it, if there are spaces
            cut = next((k for k in reversed(range(len(self.joiner), cut)) if joined[k].isspace()), cut)
        return joined[:cut]


def iter_passages(texts: Iterable[SpannedText], context: Context | None) -> Iterator[Passage]:
    """Yield each text as a passage, reading ahead no further than its context reaches."""
    if context is None:
        yield from (Passage(text.text, text.spans, original=text.original) for text in texts)
        return
    source = iter(texts)
    exhausted = False
    previous: deque[str] = deque()  # texts of the document before the current one, as far as the context reaches
    ahead: deque[SpannedText] = deque()  # the current text and those read ahead

    def following() -> Iterator[str]:
        """Yield the texts that are read ahead and belong to the current text's document."""
        return itertools.takewhile(_has_content, (text.text for text in itertools.islice(ahead, 1, None)))

    while True:
        # Read ahead until the context is complete, the document ends or there are no more texts.
        while not exhausted and (not ahead or (_has_content(ahead[-1].text) and not context.is_filled_by(following()))):
            text = next(source, None)
            if text is None:
                exhausted = True
            else:
                ahead.append(text)
        if not ahead:
            return
        # The current text with its context; a blank text has none and starts a new document.
        text = ahead[0]
        if _has_content(text.text):
            before = context.before(previous)
            after = context.after(_take_context(context, following()))
            yield Passage(text.text, text.spans, before, after, original=text.original)
            previous.append(text.text)
            while len(previous) > 1 and context.is_filled_by(itertools.islice(previous, 1, None)):
                previous.popleft()
        else:
            yield Passage(text.text, text.spans)
            previous.clear()
        ahead.popleft()


def _has_content(text: str) -> bool:
    return bool(text) and not text.isspace()


def _take_context(context: Context, texts: Iterator[str]) -> list[str]:
    """Return the first texts, as many as the context needs."""
    taken: list[str] = []
    while not context.is_filled_by(taken):
        text = next(texts, None)
        if text is None:
            break
        taken.append(text)
    return taken
