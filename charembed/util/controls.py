"""Write control characters as escapes, so that what shows a text shows nothing but text."""

from __future__ import annotations

import re

# What moves the cursor, changes colors or titles, rings the bell, or reverses the order of what is shown: C0 and C1
# controls, line and paragraph separators, and the overrides and isolates of bidirectional text. Marks of direction
# (U+200E, U+200F) and joiners are ordinary text in some scripts.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_CONTROLS_AND_LINE_ENDS = re.compile(f"\n|{_CONTROLS.pattern}")


def escape_controls(text: str, *, line_ends: bool = False) -> str:
    r"""Return text in which each control character is written as `\uXXXX`, which JSON reads as the same character.

    Args:
        text: the text. Tabs stay.
        line_ends: whether line ends are escaped too, so that a file name cannot begin a line of its own.
    """
    pattern = _CONTROLS_AND_LINE_ENDS if line_ends else _CONTROLS
    return pattern.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
