"""The parts of a word's vector."""

from __future__ import annotations

from typing import Literal, get_args

Part = Literal["forward", "backward", "words"]
"""The state of the forward or of the backward language model, or the static vector of the word."""
PARTS: tuple[Part, ...] = get_args(Part)
"""All parts, in their order in a vector."""
