"""Response maps that another program wrote: one `.npy` or `.npz` an image, of any grid, checked, in our own form.

Nothing is unpickled. In: a folder, and what its channels mean. Out: `ResponseMaps` of the classes that an image's
labels name.
"""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from subcam.cam.map_files import ResponseMaps, read_response_maps
from subcam.data.readers.class_names import LEGEND_FILE, read_class_list
from subcam.data.records import first_of, suggest
from subcam.errors import BadInputError
from subcam.run_record import read_record
from subcam.runtime.documents.regular_file import open_file
from subcam.runtime.files import below, files_digest
from subcam.runtime.run_folder import RECORD

SUFFIXES = (".npy", ".npz")
MAPS_FOLDER = "maps"
CONVERTER = "docs/own-maps-and-masks.md has a converter of ten lines"

_OWN = frozenset({"maps", "classes", "size"})
"""Arrays that a file of our own has."""

_MOST_BYTES = 2 << 30
"""Of the arrays of one image: 81 classes of 2,000 x 1,500 values are half of it."""

_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class MapFolder:
    """A folder of response maps.

    root: where the files lie, each called after its image.
    channels: the classes in the order of the channels, and of indices; what is no class of the set is passed over.
    """

    root: Path
    channels: tuple[str, ...]

    def files(self, names: Sequence[str], *, needed: Sequence[bool]) -> dict[str, Path]:
        """The file of each image that has one.

        Args:
            names: of the images.
            needed: whether an image must have one.

        Raises:
            BadInputError: an image has none, or two; says how many and names the first.
        """
        found: dict[str, Path] = {}
        missing: list[str] = []
        for name, must in zip(names, needed, strict=True):
            there = [path for path in (below(self.root, name, suffix) for suffix in SUFFIXES) if path.is_file()]
            if len(there) > 1:
                raise BadInputError(f"{there[0]}: it and {there[1].name} are maps of one image; take one away")
            if there:
                found[name] = there[0]
            elif must:
                missing.append(name)
        if missing:
            raise BadInputError(
                f"{self.root}: expected response maps of each of {len(names)} images as NAME.npy or NAME.npz, got none"
                f" for {len(missing)}: {first_of(missing, shown=_SHOWN)}; make them, or name the splits that have some"
                " with --dataset.train-split and --dataset.scored-splits"
            )
        return found

    def read(
        self, path: Path | None, *, class_names: Sequence[str], labels: tuple[int, ...], size: tuple[int, int]
    ) -> ResponseMaps:
        """One image's maps, of its labels alone, as a run stores them.

        Args:
            path: the file; None of an image without labels that has none.
            class_names: of the set.
            labels: of the image, indices into `class_names`.
            size: height and width of the image.

        Raises:
            BadInputError: the file cannot be read, holds a pickled object or values outside 0..1, or lacks a class;
                names the file and says what to do.
        """
        # Nothing says how sure another program was of the whole image.
        logits = np.full(len(class_names), np.nan, np.float32)
        if path is None:
            return _maps_of([], labels, logits=logits, size=size)
        arrays = _arrays(path)
        if arrays.keys() >= _OWN and arrays["maps"].dtype == np.uint8:
            own = read_response_maps(path)
            if own.size != size:
                raise BadInputError(
                    f"{path}: expected maps of an image of {_sides(size)}, got of {_sides(own.size)}; these are maps of"
                    " another image, or the image has changed"
                )
            by_name = self._of_indices(own.classes.tolist(), own.maps, path)
            logits = own.logits if self.channels == tuple(class_names) else logits
        else:
            wanted = tuple(class_names[label] for label in labels)
            given = self._by_name(arrays, path, labels=wanted, size=size)
            by_name = {name: _in_bytes(one, name, path) for name, one in given.items() if name in wanted}
        absent = [class_names[label] for label in labels if class_names[label] not in by_name]
        if absent:
            raise BadInputError(
                f"{path}: expected a map of {first_of(absent)}, which the image's labels name, got"
                f" {f'maps of {first_of(list(by_name))}' if by_name else 'none'}; write it, or say what the channels"
                " are with --maps-classes"
            )
        return _maps_of([by_name[class_names[label]] for label in labels], labels, logits=logits, size=size, path=path)

    def _by_name(
        self, arrays: Mapping[str, np.ndarray], path: Path, *, labels: Sequence[str], size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """The map of each class in an array of all channels, or in arrays that are called after classes."""
        if len(arrays) == 1 and next(iter(arrays.values())).ndim == 3:
            (stacked,) = arrays.values()
            names = self.channels
            if len(stacked) != len(names) and len(stacked) == len(labels):
                names = tuple(name for name in names if name in labels)
            if len(stacked) != len(names):
                background = "; leave out the channel of the background" if len(stacked) == len(names) + 1 else ""
                raise BadInputError(
                    f"{path}: expected {len(self.channels)} channels, one for each of {first_of(self.channels)}, or"
                    f" one for each of the image's {len(labels)} labels, got {len(stacked)}{background}; say what they"
                    " are with --maps-classes"
                )
            by_name = dict(zip(names, stacked, strict=True))
        else:
            by_name = {}
            for key, one in arrays.items():
                name = key if key in self.channels else self._of_indices([key], [one], path, what="array").popitem()[0]
                if one.ndim != 2:
                    raise BadInputError(
                        f"{path}: expected a map of height x width under {key!r:.60}, got an array of"
                        f" {list(one.shape)}; write one array of classes x height x width, or one map for each class"
                    )
                by_name[name] = one
        for one in by_name.values():
            if not one.size:
                raise BadInputError(f"{path}: expected maps with values, got {_sides(one.shape)}; write them again")
            if one.shape == size[::-1] and size[0] != size[1]:
                raise BadInputError(
                    f"{path}: expected maps of height x width for an image of {_sides(size)}, got {_sides(one.shape)};"
                    " exchange the axes"
                )
        return by_name

    def _of_indices(self, keys: Sequence[Any], maps: Any, path: Path, *, what: str = "class") -> dict[str, Any]:
        by_name = {}
        for key, one in zip(keys, maps, strict=True):
            text = str(key)
            index = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else -1
            if not 0 <= index < len(self.channels):
                raise BadInputError(
                    f"{path}: expected maps under the names of classes or their indices 0..{len(self.channels) - 1},"
                    f" without background, got the {what} {text!r:.60}; {suggest(text[:60], self.channels)} Say what"
                    " the indices are with --maps-classes"
                )
            by_name[self.channels[index]] = one
        return by_name


def open_maps(folder: Path, *, channels: Sequence[str], class_names: Sequence[str]) -> MapFolder:
    """Find the response maps in a folder, in its sub-folder `maps`, or those of the last round of a run's folder.

    What the channels are is said by `channels`, else by the run, else by `classes.txt` in the folder, else they are the
    classes of the set in their order.

    Args:
        folder: of another program, of a stage, or of a run.
        channels: the classes in the order of the channels; empty where nobody says.
        class_names: of the set.

    Raises:
        BadInputError: there is no such folder, or no such list.
        RunFolderError: a run's record is none; see `read_record`.
    """
    if not folder.is_dir():
        raise BadInputError(f"{folder}: expected a folder of response maps, got none; check the path")
    own: Sequence[str] = ()
    if (folder / RECORD).is_file():
        folder, own = _of_run(folder)
    elif (folder / LEGEND_FILE).is_file():
        own = read_class_list(folder / LEGEND_FILE).names
    root = folder / MAPS_FOLDER if (folder / MAPS_FOLDER).is_dir() else folder
    return MapFolder(root=root, channels=tuple(channels or own or class_names))


def _of_run(folder: Path) -> tuple[Path, tuple[str, ...]]:
    run = read_record(folder / RECORD)
    maps = [entry.maps for entry in run.rounds if entry.maps and not entry.control]
    if not maps:
        raise BadInputError(f"{folder} is a run without response maps; give a folder of maps")
    return below(folder, maps[-1]), run.class_names


def maps_digest(folder: Path) -> str:
    """A digest of the maps in a folder and of what says which classes they are of: equal ones are equal maps."""
    if (folder / RECORD).is_file():
        folder, own = _of_run(folder)
        return f"{maps_digest(folder)} {' '.join(own)}"
    files = (path for path in folder.rglob("*") if path.suffix in SUFFIXES or path.name == LEGEND_FILE)
    return files_digest({path.relative_to(folder).as_posix(): path for path in files if path.is_file()})


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file by name; that of a `.npy` file under "".

    Raises:
        BadInputError: it is no such file, is damaged, or holds a pickled object, which is never read.
    """
    try:
        with open_file(path) as file:
            if zipfile.is_zipfile(file):
                held = sum(entry.file_size for entry in zipfile.ZipFile(file).infolist())
            else:
                held = path.stat().st_size
            if held > _MOST_BYTES:
                raise BadInputError(f"{path}: expected at most {_MOST_BYTES >> 30} GiB of maps, got {held:,} bytes")
            file.seek(0)
            loaded = np.load(file, allow_pickle=False, max_header_size=10_000)
            arrays = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except BadInputError:
        raise
    except Exception as error:  # a damaged archive makes zipfile, zlib and numpy raise nearly any kind
        if "pickle" in str(error).lower():
            raise BadInputError(
                f"{path}: expected an array of numbers, got a pickled Python object, such as a dict of maps, which is"
                f" never read as it could run code; convert it to npz where you trust it: {CONVERTER}"
            ) from error
        raise BadInputError(
            f"{path}: expected response maps as .npy or .npz, got something else ({type(error).__name__}: {error});"
            " write it again"
        ) from error
    return arrays


def _maps_of(
    maps: Sequence[np.ndarray],
    labels: tuple[int, ...],
    *,
    logits: np.ndarray,
    size: tuple[int, int],
    path: Path | None = None,
) -> ResponseMaps:
    grid = maps[0].shape if maps else (1, 1)
    if any(one.shape != grid for one in maps):
        raise BadInputError(f"{path}: expected maps of one size, got {', '.join(_sides(one.shape) for one in maps)}")
    return ResponseMaps(
        maps=np.stack(maps) if maps else np.zeros((0, *grid), np.uint8),
        classes=np.array(labels, np.int16),
        subcategory_maps=np.zeros((len(maps), 0, *grid), np.uint8),
        logits=logits,
        size=size,
    )


def _in_bytes(one: np.ndarray, name: str, path: Path) -> np.ndarray:
    """A map of values in 0..1 as 0..255.

    Raises:
        BadInputError: it has other values; says how to mend them.
    """
    if one.dtype.kind not in "fiub":
        raise BadInputError(f"{path}: expected numbers in the map of {name}, got {one.dtype}; write them as float32")
    values: Float32[np.ndarray, "h w"] = one.astype(np.float32)
    what, mend = "", ""
    if not np.isfinite(values).all():
        what = f"{int((~np.isfinite(values)).sum()):,} that are not finite"
        mend = "write maps without NaN and infinity, such as np.nan_to_num(maps)"
    elif values.min() < 0:
        what = f"{values.min():g}"
        mend = "take the positive part of each map and divide it by its maximum: np.maximum(m, 0) / m.max()"
    elif values.max() > 1:
        what = f"{values.max():g}"
        mend = "divide by 255" if one.dtype == np.uint8 else "divide each map by its maximum: m / m.max()"
    if what:
        raise BadInputError(f"{path}: expected values in 0..1 in the map of {name}, got {what}; {mend}")
    return np.round(values * 255).astype(np.uint8)


def _sides(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
