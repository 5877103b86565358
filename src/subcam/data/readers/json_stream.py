"""Reads the entries of a large JSON file one at a time, so that the whole of it is never in memory.

In: a file that is one object whose large values are lists (COCO), or one list (Label Studio). Out: its entries.
"""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from subcam.errors import BadInputError
from subcam.runtime.documents.regular_file import open_file

CHUNK = 1 << 22
"""Bytes that are read at a time."""

_SPACE = " \t\r\n"
_LONGEST_CUT = 16
"""A literal or escape cut off by the buffer's end is reported by the decoder at most so many characters before it."""


def json_entries(path: Path, *, chunk: int = CHUNK) -> Iterator[tuple[str, Any]]:
    """The entries of a file's top level as (key, entry).

    A key whose value is a list gives one pair for each entry of the list, any other key one pair with its value. A file
    that is a list gives its entries under the key "". An empty list gives none.

    Args:
        path: UTF-8, with or without its mark.
        chunk: bytes read at a time.

    Raises:
        BadInputError: there is no such file, it is no UTF-8, or no JSON; says where.
    """
    reader = _Reader(path, chunk)
    with reader:
        start = reader.peek()
        if start == "[":
            yield from (("", entry) for entry in reader.list_entries())
        elif start == "{":
            yield from reader.object_entries()
        else:
            raise reader.wrong("expected an object or a list")
        if reader.peek():
            raise reader.wrong("expected the end of the file")


class _Reader:
    """A window on the text of a file, which moves on as values are taken from its front."""

    def __init__(self, path: Path, chunk: int) -> None:
        self.path, self.chunk = path, chunk
        self.text, self.at, self.passed, self.ended = "", 0, 0, False
        self._decoder = json.JSONDecoder()
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()

    def __enter__(self) -> "_Reader":
        try:
            self._file = open_file(self.path)
        except OSError as error:
            raise BadInputError(
                f"{self.path}: expected a JSON file, got none ({error.strerror}); check its name"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def list_entries(self) -> Iterator[Any]:
        """The entries of the list that begins here; ends after its bracket."""
        self._take("[")
        if self.peek() == "]":
            self._take("]")
            return
        while True:
            yield self._value()
            if self._take(",]") == "]":
                return

    def object_entries(self) -> Iterator[tuple[str, Any]]:
        """The keys of the object that begins here with their values, lists entry by entry; ends after its brace."""
        self._take("{")
        if self.peek() == "}":
            self._take("}")
            return
        while True:
            if self.peek() != '"':
                raise self.wrong("expected a key in quotes")
            key = self._value()
            self._take(":")
            if self.peek() == "[":
                yield from ((key, entry) for entry in self.list_entries())
            else:
                yield key, self._value()
            if self._take(",}") == "}":
                return

    def peek(self) -> str:
        """The next character that is no space, left where it is; empty at the end of the file."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in _SPACE:
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if self.ended:
                return ""
            self._more(self.chunk)

    def wrong(self, expected: str) -> BadInputError:
        """The error for what stands here."""
        got = "the file's end" if not self.text[self.at :] else repr(self.text[self.at : self.at + 20])
        return BadInputError(
            f"{self.path}: no JSON at character {self.passed + self.at}: {expected}, got {got}; "
            "export or download the file again"
        )

    def _take(self, allowed: str) -> str:
        character = self.peek()
        if not character or character not in allowed:
            raise self.wrong(f"expected {' or '.join(repr(sign) for sign in allowed)}")
        self.at += 1
        return character

    def _value(self) -> Any:
        self.peek()
        size = self.chunk
        while True:
            try:
                value, end = self._decoder.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                cut_off = error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - _LONGEST_CUT
                if self.ended or not cut_off:
                    self.at = min(error.pos, len(self.text))
                    raise self.wrong(error.msg[:1].lower() + error.msg[1:]) from error
            except RecursionError as error:
                raise self.wrong("expected lists in lists no deeper than some hundred") from error
            except ValueError as error:
                raise self.wrong("expected numbers of less than some thousand digits") from error
            else:
                # a number may go on in the file: "1" was decoded, and "e-5" follows, of which "e-" is here
                if self.ended or end + 2 < len(self.text):
                    self.at = end
                    return value
            self._more(size)
            size *= 2  # so that an entry larger than a chunk is not decoded again for each of its chunks

    def _more(self, size: int) -> None:
        """Drop what was taken and read on."""
        self.passed += self.at
        data = self._file.read(size)
        self.ended = not data
        try:
            self.text = self.text[self.at :] + self._utf8.decode(data, final=self.ended)
        except UnicodeDecodeError as error:
            raise BadInputError(f"{self.path}: expected UTF-8, got other bytes ({error}); save it as UTF-8") from error
        self.at = 0
