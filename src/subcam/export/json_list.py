"""A JSON list written entry by entry, so that the whole of it is never in memory."""

import json
from typing import IO, Any


class JsonList:
    """Writes `[`, entries one a line, and `]` into an open text file; entries are added in between.

    Meant for a file opened with `atomic_write`, so that a truncated list is never seen.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.count = 0
        file.write("[")

    def add(self, entry: Any) -> None:
        """Write one more entry."""
        self._file.write(",\n" if self.count else "\n")
        self._file.write(json.dumps(entry, ensure_ascii=False, separators=(",", ":")))
        self.count += 1

    def close(self) -> None:
        """Write the end of the list; what follows it in the file is the caller's."""
        self._file.write("\n]")
