"""Determine which parts a word's vector consists of, and where they are in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from charembed.errors import CharEmbedError
from charembed.lm.model import DIRECTIONS, Direction
from charembed.pretrained.model_folder import Pretrained
from charembed.pretrained.parts import PARTS, Part
from charembed.util.checks import shown


@dataclass(frozen=True)
class VectorLayout:
    """The parts of a word's vector."""

    slices: Mapping[Part, slice]
    """Dimensions of each part, in the order of the vector."""

    @classmethod
    def of(cls, pretrained: Pretrained, parts: Sequence[Part] | None = None) -> VectorLayout:
        """Return the layout of the vectors of a model.

        Args:
            pretrained: the model.
            parts: the parts of a vector, in any order; None for all that the model has.

        Raises:
            CharEmbedError: a part is unknown, or the model lacks it.
        """
        available = pretrained.parts
        chosen = available if parts is None else check_parts(parts)
        if missing := [part for part in chosen if part not in available]:
            hint = "; charembed add-words adds static vectors" if "words" in missing else ""
            raise CharEmbedError(
                f"parts: the model has no {' and no '.join(missing)}, only {', '.join(available)}{hint}"
            )
        slices: dict[Part, slice] = {}
        start = 0
        for part in chosen:
            slices[part] = slice(start, start + pretrained.part_sizes[part])
            start = slices[part].stop
        return cls(slices)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts, in the order of the vector."""
        return tuple(self.slices)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The language models whose states are parts, forward first."""
        return tuple(direction for direction in DIRECTIONS if direction in self.slices)

    @property
    def has_words(self) -> bool:
        """Whether static vectors of words are a part."""
        return "words" in self.slices

    @property
    def dim(self) -> int:
        """Number of dimensions of a vector."""
        return int(max(part.stop for part in self.slices.values()))


def check_parts(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Return parts in the order in which they follow each other in a vector.

    Raises:
        CharEmbedError: there are none, or one is unknown.
    """
    # A single string is a sequence, too, but of letters.
    is_list = isinstance(parts, Sequence) and not isinstance(parts, str)
    if not is_list or not parts or any(part not in PARTS for part in parts):
        raise CharEmbedError(f"parts must be one or several of {', '.join(PARTS)}, in a list, got {shown(parts)}")
    return tuple(part for part in PARTS if part in parts)
