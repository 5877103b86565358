"""Brings a published data set into a folder, ready for a run: VOC 2012, SBD's part of it, or COCO 2014 (Section 4.1).

In: the name of a data set and a folder. Out: its files in their usual layout. What is done is skipped, what was
interrupted resumes, and nothing that was there is changed.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from subcam.checks.fields import Settings
from subcam.download.archive_folder import RECEIPTS, AtHand, discard, find, have
from subcam.download.archives import Limits, measure, unpack
from subcam.download.sources import ARCHIVES, AUGMENTED_MASKS, TRAIN_AUG_NAMES, Archive, DataSetName
from subcam.download.transfer import Patience, partial_size
from subcam.download.voc_augmented import LIST, MASKS, augment_voc, made_before
from subcam.errors import BadInputError, SettingsError
from subcam.runtime.files import read_as, write_json
from subcam.runtime.progress import bar, say
from subcam.runtime.resources import require_space
from subcam.runtime.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class FetchSettings(Settings):
    """Where data sets come from and go to.

    Attributes:
        to: the folder in which the archives' own folders appear (VOCdevkit; annotations, train2014, val2014).
        archives: a folder of archives that are there already; those it lacks are downloaded.
        mirrors: addresses of folders with the archives, tried before their own.
        keep_archives: keep what was downloaded after it is unpacked.
        patience: how long to wait for servers.
    """

    to: Path
    archives: Path | None = None
    mirrors: tuple[str, ...] = ()
    keep_archives: bool = True
    patience: Patience = field(default_factory=Patience)


def fetch(
    name: DataSetName,
    settings: FetchSettings,
    *,
    sources: Mapping[DataSetName, tuple[Archive, ...]] = ARCHIVES,
    train_aug_names: int = TRAIN_AUG_NAMES,
) -> Path:
    """Bring a data set into `settings.to`; returns the folder that `subcam run --data` takes.

    Args:
        name: which.
        settings: from where to where.
        sources: the archives of each data set.
        train_aug_names: how many images the augmented training set is known to have.

    Raises:
        SettingsError: a folder that does not fit.
        BadInputError: an archive or file is there that is not what was published, or others' files are in the way.
        DownloadError: an archive could not be had.
        RunFolderError: the disk has no room, the folder cannot be written, or another process works in it.
    """
    if settings.archives is not None and not settings.archives.is_dir():
        raise SettingsError(f"{settings.archives} is no folder; --archives takes the folder that holds the archives")
    if name == "voc2012" and (settings.to / "JPEGImages").is_dir():
        raise SettingsError(f"{settings.to} is itself a folder of VOC's images; --to takes one to put VOCdevkit in")
    with RunFolder(path=settings.to / RECEIPTS).lock():
        if name == "sbd":
            return _fetch_sbd(sources["sbd"][0], settings, train_aug_names)
        _fetch_files(sources[name], settings)
        return settings.to / "VOCdevkit" / "VOC2012" if name == "voc2012" else settings.to


def _fetch_files(archives: tuple[Archive, ...], settings: FetchSettings) -> None:
    """Have, check and unpack each archive."""
    left = []
    for archive in archives:
        if _is_unpacked(archive, settings.to):
            say(f"{archive.name}: unpacked before")
            _tidy(archive, settings)
        else:
            left.append(archive)
    _require_space_for(left, settings)
    for archive in left:
        at_hand = _have(archive, settings)
        limits = Limits(members=archive.most_members, bytes=archive.most_bytes)
        size = measure(at_hand.path, settings.to, limits=limits)
        require_space(settings.to, size.missing_bytes, what=f"unpacking {archive.name}")
        with bar(f"unpacking {archive.name}", size.files) as progress:
            counts = unpack(at_hand.path, settings.to, limits=limits, on_file=progress.advance)
        os.sync()  # the files were written without waiting for the disk; the record of them must not overtake them
        write_json(_record(archive, settings.to), {**archive.checksums, "archive": at_hand.sha256, "folders": counts})
        say(f"{archive.name}: {sum(counts.values())} files unpacked into {settings.to}")
        _tidy(archive, settings)


def _fetch_sbd(archive: Archive, settings: FetchSettings, train_aug_names: int) -> Path:
    """Make the augmented training set in the VOC folder that is there."""
    voc = settings.to if (settings.to / "JPEGImages").is_dir() else settings.to / "VOCdevkit" / "VOC2012"
    if not (voc / "ImageSets" / "Segmentation" / "train.txt").is_file():
        raise BadInputError(
            f"{voc}: expected VOC 2012, to which SBD adds masks, got none; run "
            f"'subcam data download voc2012 sbd --to {settings.to}'"
        )
    made = made_before(voc)
    if made is None:
        _require_space_for([archive], settings)
        at_hand = _have(archive, settings)
        require_space(voc, archive.needed_bytes, what=f"making {MASKS}")
        limits = Limits(members=archive.most_members, bytes=archive.most_bytes)
        with bar(f"making {MASKS}", AUGMENTED_MASKS) as progress:
            made = augment_voc(voc, at_hand.path, limits=limits, on_mask=progress.advance)
    else:
        say(f"{voc / MASKS}: made before")
    _tidy(archive, settings)
    say(f"{voc}: {made.masks} masks in {MASKS}, {made.masks_of_sbd} of them SBD's; {made.names} images in {LIST}")
    if made.names != train_aug_names:
        say(
            f"NOTE: {LIST} is known to have {train_aug_names} images, here it has {made.names}: the lists in "
            f"{voc / 'ImageSets' / 'Segmentation'} are not the published ones; scores cannot be compared with others'"
        )
    return voc


def _have(archive: Archive, settings: FetchSettings) -> AtHand:
    return have(archive, settings.to, given=settings.archives, mirrors=settings.mirrors, patience=settings.patience)


def _tidy(archive: Archive, settings: FetchSettings) -> None:
    if not settings.keep_archives:
        discard(archive, settings.to)


def _require_space_for(archives: list[Archive], settings: FetchSettings) -> None:
    """Refuse before the first byte what would not fit: all downloads (or the largest, where none is kept) and files."""
    # What is at hand is measured exactly before it is unpacked: part of its files may be there.
    absent = [archive for archive in archives if find(archive, settings.to, settings.archives) is None]
    downloads = [archive.size - partial_size(settings.to / archive.name) for archive in absent]
    at_once = sum(downloads) if settings.keep_archives else max(downloads, default=0)
    files = sum(archive.needed_bytes for archive in absent)
    require_space(settings.to, at_once + files, what=" and ".join(archive.name for archive in absent))


@dataclass(frozen=True, kw_only=True)
class _Unpacked:
    """The receipt of an archive that was unpacked: its published checksums, and files by folder."""

    folders: dict[str, int]
    sha256: str = ""
    md5: str = ""


def _record(archive: Archive, folder: Path) -> Path:
    return folder / RECEIPTS / f"{archive.name}.unpacked.json"


def _is_unpacked(archive: Archive, folder: Path) -> bool:
    """Whether the archive was unpacked here, and no folder has fewer files than it brought."""
    path = _record(archive, folder)
    if not path.is_file():
        return False
    mend = "remove it, and the archive is unpacked again"
    record: _Unpacked = read_as(_Unpacked, path, what="the receipt of what was unpacked", mend=mend)
    if any(getattr(record, kind) != value for kind, value in archive.checksums.items()):
        return False
    return all(
        (folder / name).is_dir() and sum(1 for _ in (folder / name).iterdir()) >= count
        for name, count in record.folders.items()
    )
