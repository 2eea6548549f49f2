"""What each model reads of a passage, and the positions of the words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from charembed.embedding.passage import END_MARKER, Passage
from charembed.text.words import find_words

TEXTS = st.text("ab \n", max_size=6)


@given(TEXTS, TEXTS, TEXTS, st.sampled_from(["\n", "\n\n"]), st.integers(0, 20), st.integers(0, 20))
def test_any_slice_is_that_of_the_whole_reading(
    text: str, before: str, after: str, delimiter: str, start: int, length: int
) -> None:
    passage = Passage(text, find_words(text), before, after)
    whole = {
        "forward": delimiter + before + text + END_MARKER,
        "backward": delimiter + (text + after)[::-1] + END_MARKER,
    }
    for direction, characters in whole.items():
        for readout, outside in (("word", 0), ("separator", 1)):
            reading = passage.reading(direction, delimiter, readout)
            assert reading.read(0, len(characters)) == characters
            assert reading.read(start, start + length) == characters[start : start + length]
            assert reading.length <= len(characters)
            for (first, last), position in zip(passage.spans.tolist(), reading.positions.tolist(), strict=True):
                outermost = last - 1 if direction == "forward" else first
                if not outside:
                    assert characters[position] == text[outermost]
