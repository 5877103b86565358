"""Checksums of large files: what was published against what lies on the disk.

In: a file and what it should be. Out: its checksums, or what is wrong with them, in words.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from subcam.errors import BadInputError
from subcam.runtime.documents.regular_file import open_file
from subcam.runtime.progress import bar

_MIB = 1 << 20


def digests(path: Path, kinds: frozenset[str]) -> dict[str, str]:
    """Several checksums of a file in one reading, as hex digits, with a bar.

    kinds: algorithms as hashlib calls them.

    Raises:
        BadInputError: the file cannot be read; names it.
    """
    hashes = {kind: hashlib.new(kind, usedforsecurity=kind != "md5") for kind in kinds}
    try:
        with open_file(path) as file, bar(f"checking {path.name} (MiB)", -(-path.stat().st_size // _MIB)) as progress:
            while block := file.read(_MIB):
                for value in hashes.values():
                    value.update(block)
                progress.advance()
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror}); check its rights and the disk") from error
    return {kind: value.hexdigest() for kind, value in hashes.items()}


def difference(actual: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """What differs, in words; empty where every checksum is as expected."""
    wrong = [kind for kind, value in expected.items() if actual[kind] != value]
    return "; ".join(f"expected {kind.upper()} {expected[kind]}, got {actual[kind]}" for kind in wrong)
