"""Receives texts in their order; hands on passages: each text with what stands before and after it in its document."""

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
    """How much of its document is read with a text: before it by the forward model, after it by the backward one.

    Texts that follow each other are taken for one document, which a blank text ends.
    """

    characters: int | None = None
    """At most so many characters on either side, cut to whole words where there are spaces."""
    sentences: int | None = None
    """So many whole texts on either side."""
    joiner: str = " "
    """What stands between two texts."""

    def __post_init__(self) -> None:
        if (self.characters is None) == (self.sentences is None):
            raise CharEmbedError("a context is given in characters or in sentences, one of the two")
        for name in ("characters", "sentences"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise CharEmbedError(f"context {name} must be a positive whole number, got {value!r}")

    def suffices(self, texts: Iterable[str]) -> bool:
        """Whether no more texts are needed on one side."""
        if self.sentences is not None:
            return sum(1 for _ in texts) >= self.sentences
        assert self.characters is not None
        return sum(len(text) + len(self.joiner) for text in texts) > self.characters

    def before(self, texts: Iterable[str]) -> str:
        """What is read before a text, given the texts before it."""
        joined = "".join((text[-self.characters - 1 :] if self.characters else text) + self.joiner for text in texts)
        if self.characters is None or len(joined) <= self.characters:
            return joined
        cut = len(joined) - self.characters
        if not joined[cut - 1].isspace():  # within a word, perhaps: go on to the next one, if there are spaces
            cut = next((k + 1 for k in range(cut, len(joined) - len(self.joiner)) if joined[k].isspace()), cut)
        return joined[cut:]

    def after(self, texts: Iterable[str]) -> str:
        """What is read, from its end, before a text is read backwards, given the texts after it."""
        joined = "".join(self.joiner + (text[: self.characters + 1] if self.characters else text) for text in texts)
        if self.characters is None or len(joined) <= self.characters:
            return joined
        cut = self.characters
        if not joined[cut].isspace():
            cut = next((k for k in reversed(range(len(self.joiner), cut)) if joined[k].isspace()), cut)
        return joined[:cut]


def iter_passages(texts: Iterable[SpannedText], context: Context | None) -> Iterator[Passage]:
    """Each text as a passage, reading ahead no further than its context reaches."""
    if context is None:
        yield from (Passage(text.text, text.spans) for text in texts)
        return
    source = iter(texts)
    before: deque[str] = deque()
    ahead: deque[SpannedText] = deque()
    ended = False

    def following() -> Iterator[str]:
        """Texts of the document after the first of those ahead."""
        return itertools.takewhile(_is_full, (text.text for text in itertools.islice(ahead, 1, None)))

    while True:
        while not ended and (not ahead or (_is_full(ahead[-1].text) and not context.suffices(following()))):
            text = next(source, None)
            if text is None:
                ended = True
            else:
                ahead.append(text)
        if not ahead:
            return
        text = ahead[0]
        if _is_full(text.text):
            yield Passage(text.text, text.spans, context.before(before), context.after(_enough(context, following())))
            before.append(text.text)
            while len(before) > 1 and context.suffices(itertools.islice(before, 1, None)):
                before.popleft()
        else:
            yield Passage(text.text, text.spans)
            before.clear()
        ahead.popleft()


def _is_full(text: str) -> bool:
    return bool(text) and not text.isspace()


def _enough(context: Context, texts: Iterator[str]) -> list[str]:
    taken: list[str] = []
    while not context.suffices(taken):
        text = next(texts, None)
        if text is None:
            break
        taken.append(text)
    return taken
