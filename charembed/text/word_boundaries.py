r"""Define the regular expression of a word: a segment between the word boundaries of Unicode Standard Annex 29.

The rules WB1 to WB999 of https://www.unicode.org/reports/tr29/#Word_Boundaries are written out with the Word_Break
property of the `regex` package. Its own word boundary (`\b` with the flag WORD) did not follow them before 2026.11.18:
it found none between an opening apostrophe and a vowel ("'apple"), after an unpaired flag letter, and after a combining
mark at the beginning of a line.
"""

from __future__ import annotations

import regex

# WB4: marks, format characters and joiners belong to the character before them, and no rule sees them.
_MARKS = r"[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]*+"
_LETTER = r"[\p{WB=ALetter}\p{WB=Hebrew_Letter}]"
_HEBREW = r"\p{WB=Hebrew_Letter}"
_DIGIT = r"\p{WB=Numeric}"

# WB6, WB7, WB11, WB12: a single mark such as an apostrophe or a point joins two letters or two digits.
_BETWEEN_LETTERS = rf"[\p{{WB=MidLetter}}\p{{WB=MidNumLet}}\p{{WB=Single_Quote}}]{_MARKS}(?={_LETTER})"
_BETWEEN_DIGITS = rf"[\p{{WB=MidNum}}\p{{WB=MidNumLet}}\p{{WB=Single_Quote}}]{_MARKS}(?={_DIGIT})"
# WB7b, WB7c: a double quote joins Hebrew letters, as in acronyms.
_BETWEEN_HEBREW = rf"\p{{WB=Double_Quote}}{_MARKS}(?={_HEBREW})"
# WB7a: a single quote belongs to a Hebrew letter before it, even at the end of a word.
_AFTER_HEBREW = rf"(?<={_HEBREW}{_MARKS})\p{{WB=Single_Quote}}{_MARKS}"

# WB5, WB8 to WB10, WB13: letters and digits join each other, Katakana joins Katakana.
_LETTERS_AND_DIGITS = (
    rf"(?:\p{{WB=ALetter}}++{_MARKS}(?:{_BETWEEN_LETTERS})?+"
    rf"|{_HEBREW}{_MARKS}(?:{_BETWEEN_LETTERS}|{_BETWEEN_HEBREW})?+"
    rf"|{_DIGIT}++{_MARKS}(?:{_BETWEEN_DIGITS})?+)++"
)
_KATAKANA = rf"(?:\p{{WB=Katakana}}{_MARKS})++"
_RUN = rf"(?:{_LETTERS_AND_DIGITS}|{_KATAKANA})"
# WB13a, WB13b: characters such as "_" join all of these. U+202F would too, but is white space, which is in no word.
_CONNECTORS = rf"(?:[\p{{WB=ExtendNumLet}}--\s]{_MARKS})++"
_RUNS = rf"(?:{_RUN}|{_CONNECTORS}{_RUN}?+)(?:{_CONNECTORS}{_RUN}?+)*+(?:{_AFTER_HEBREW})?+"
# WB15, WB16: two flag letters are a flag.
_FLAG = rf"\p{{RI}}{_MARKS}(?:\p{{RI}}{_MARKS})?+"
# WB999: every other character stands alone. White space never begins a match (WB3 to WB3b, WB3d).
_UNIT = rf"(?:{_RUNS}|{_FLAG}|\S{_MARKS})"
# WB3c: a zero-width joiner joins what is before it to an emoji.
_SEGMENT = rf"{_UNIT}(?:(?<=\u200d)(?=\p{{Extended_Pictographic}}){_UNIT})*+"

# Most words of most texts, found several times faster: letters and digits up to ASCII punctuation and white space, and
# ASCII punctuation before an ASCII character, to which no rule joins it.
_PUNCTUATION = r"[!-/:-@\[-^`{-~]"
_PLAIN_WORD = rf"[[\p{{WB=ALetter}}0-9]--\p{{Cf}}]++(?={_PUNCTUATION}*+(?:\s|\Z))"
_PLAIN_PUNCTUATION = rf"{_PUNCTUATION}(?=[\x00-\x7f]|\Z)"

_INVISIBLE = r"[\p{Cc}\p{Cf}]"

WORD = regex.compile(rf"{_PLAIN_WORD}|{_PLAIN_PUNCTUATION}|(?!{_INVISIBLE}){_SEGMENT}|({_SEGMENT})", regex.V1)
"""A segment between word boundaries, without white space. It is group 1 if it begins with a character that shows
nothing."""

INVISIBLE_RUN = regex.compile(rf"{_INVISIBLE}++", regex.V1)
"""Control and format characters."""

WORD_RULES_1 = regex.compile(
    r"\p{RI}{2}[\p{WB=Extend}\p{WB=Format}\u200d]*+(?=\p{RI}|\s|\Z)|[^\s\p{Cc}\p{Cf}]\S*?(?=\b|\s|\Z)",
    regex.V1 | regex.WORD,
)
"""A word by the rules of version 0.1.0, which relied on the boundary of `regex`. Outputs that it began are finished
with them."""

HAS_WORD_RULES_1 = WORD_RULES_1.findall("'a") == ["'a"]
"""Whether the installed `regex` finds words as at that time: it does not from 2026.11.18 on."""
