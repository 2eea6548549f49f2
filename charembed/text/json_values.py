"""Read the values of a JSON file one at a time, in bounded memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from charembed.errors import CharEmbedError

_SEPARATORS = re.compile(r"[\s,]*")
_NEAR_END = 20
"""An error this close to the end of what was read may be due to the part that was not."""


class JsonValues:
    """The elements of the array that a JSON file holds, or the values that follow each other in it."""

    def __init__(self, pieces: Iterable[str], max_characters: int, name: str, advice: str) -> None:
        """
        Args:
            pieces: the text of the file, in pieces.
            max_characters: longest value that is read, with a piece more.
            name: the file, for error messages.
            advice: what else the error for a longer value advises than to divide it.
        """
        self._pieces = iter(pieces)
        self._max_characters = max_characters
        self._name = name
        self._advice = advice
        self._text = ""
        self._position = 0
        self._line = 1

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Yield each value with the file, its number and its line, for error messages.

        Raises:
            CharEmbedError: the file is not JSON, or a value is too long.
        """
        is_array = self._skip_to_value() and self._text[self._position] == "["
        if is_array:
            self._position += 1
        number = 0
        while self._skip_to_value():
            if is_array and self._text[self._position] == "]":
                self._position += 1
                if self._skip_to_value():
                    raise self._error("there is more after the end of the array")
                return
            number += 1
            yield f"{self._name}, record {number} (line {self._line})", self._next_value(number)
        if is_array:
            raise self._error("the array has no end")

    def _skip_to_value(self) -> bool:
        """Move to the next value or bracket, and return whether there is one."""
        while True:
            separators = _SEPARATORS.match(self._text, self._position)
            assert separators is not None
            self._line += self._text.count("\n", self._position, separators.end())
            self._position = separators.end()
            if self._position < len(self._text):
                return True
            if not self._read_on():
                return False

    def _next_value(self, number: int) -> Any:
        decoder = json.JSONDecoder()
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._position)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated string") or error.pos > len(self._text) - _NEAR_END
                if not is_cut or not self._read_on():
                    raise self._error(str(error.msg), self._text.count("\n", self._position, error.pos)) from error
            except (ValueError, RecursionError) as error:  # too many digits, or too many brackets
                raise self._error(str(error)) from error
            else:
                self._line += self._text.count("\n", self._position, end)
                self._position = end
                return value
            if len(self._text) > self._max_characters:
                raise CharEmbedError(
                    f"{self._name}, record {number} (line {self._line}): longer than"
                    f" {self._max_characters // 1_000_000} MB: divide it{self._advice}"
                )

    def _read_on(self) -> bool:
        """Read as much again as is there, so that a long value is tried few times; return whether there was more."""
        text = [self._text[self._position :]]
        wanted = len(text[0])
        self._position = 0
        read = 0
        for piece in self._pieces:
            text.append(piece)
            read += len(piece)
            if read >= wanted:
                break
        self._text = "".join(text)
        return read > 0

    def _error(self, reason: str, lines: int = 0) -> CharEmbedError:
        return CharEmbedError(f"{self._name}, line {self._line + lines}: not JSON: {reason}")
