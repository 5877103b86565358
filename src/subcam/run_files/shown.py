"""Folders that show files of a run's stages at one place: hard links, or copies where there are none.

In: which files, by name. Out: a folder that holds them, and of what it held before nothing that an earlier run showed.
"""

from collections.abc import Mapping
from pathlib import Path

from subcam.run_files.links import link_or_copy
from subcam.runtime.documents.regular_file import read_bytes
from subcam.runtime.files import atomic_write, below, read_as, write_json

INDEX_FILE = ".shown.json"
"""Names of the files that a run put into the folder; others are somebody else's, and stay."""


def show(folder: Path, files: Mapping[str, Path], texts: Mapping[str, bytes] | None = None) -> None:
    """Make the folder show these files, and no other that an earlier call showed.

    Called again after a kill at any moment it ends what was begun; called again for the same files it changes nothing.

    Args:
        folder: made if it is not there and there is something to show.
        files: where each file lies, by its name in the folder, which may have sub-folders.
        texts: contents of further files, by name.

    Raises:
        RunFolderError: the disk is full, the folder cannot be written, or a name leads out of it.
    """
    texts = texts or {}
    names = sorted({*files, *texts})
    if not names and not folder.is_dir():
        return
    index = below(folder, INDEX_FILE)
    shown = _shown(index)
    if sorted(shown) != names:
        # Before any file, so that none is left over that nobody knows of.
        write_json(index, sorted({*shown, *names}))
    for name, source in files.items():
        link_or_copy(source, below(folder, name))
    for name, content in texts.items():
        path = below(folder, name)
        if not path.is_file() or path.is_symlink() or read_bytes(path) != content:
            with atomic_write(path, durable=False) as file:
                file.write(content)
    for name in shown - set(names):
        _remove(below(folder, name), up_to=folder)
    if not names:
        _remove(index, up_to=folder.parent)
    elif sorted(shown) != names:
        write_json(index, names)


def _remove(path: Path, *, up_to: Path) -> None:
    """Remove a file, and the folders between it and `up_to` that are empty then."""
    path.unlink(missing_ok=True)
    for parent in path.parents:
        if parent == up_to:
            return
        try:
            parent.rmdir()
        except OSError:  # it holds other files
            return


def _shown(index: Path) -> set[str]:
    if not index.is_file():
        return set()
    what = "the list of names that was written there"
    return set(read_as(list[str], index, what=what, mend="remove it and run again"))
