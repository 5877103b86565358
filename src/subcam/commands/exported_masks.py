"""Which masks `subcam export` writes: those of a folder, or of a run, the worst of which people correct first."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from subcam.checks.fields import Range, Settings
from subcam.errors import BadInputError, SettingsError
from subcam.runtime.run_folder import RECORD

if TYPE_CHECKING:
    from subcam.export.images import Images
    from subcam.export.mask_folder import MaskFolder
    from subcam.metrics.masks_csv import MaskRow

Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME...|FILE")]


@dataclass(frozen=True, kw_only=True)
class Masks(Settings):
    """Which masks to write.

    Attributes:
        source: a folder of masks, one that `subcam predict` wrote, or that of a run, whose final masks are meant.
        predictions: the same, as a flag.
        out: where to write; a file that is there is replaced as a whole. Without it, exports of a run go into its
            folder `exports`.
        images: the folder of the images: their file names are then the real ones, and sizes are checked. A run knows
            where its images were.
        list: a file of the names to write, one a line, such as a split of VOC; else every mask.
        classes: names of the values 1, 2, ..., or a file of them (.txt, .csv); else those of `classes.csv` or
            `classes.txt` in the folder.
    """

    source: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="RUN|DIR")] = None
    predictions: Path | None = None
    out: Path | None = None
    images: Path | None = None
    list: Path | None = None
    classes: Names = ()

    default_name: ClassVar[str] = "voc.tar.gz"
    """What is written into a run's folder `exports` is called so."""

    @property
    def folder(self) -> Path:
        """Where the masks are.

        Raises:
            SettingsError: nothing says it, or two do.
        """
        given = [folder for folder in (self.source, self.predictions) if folder is not None]
        if len(given) != 1:
            raise SettingsError(f"expected one folder of masks, got {len(given)}; give a run's, or --predictions DIR")
        return given[0]

    @property
    def target(self) -> Path:
        """Where to write.

        Raises:
            SettingsError: nothing says it.
        """
        if self.out is not None:
            return self.out
        if not (self.folder / RECORD).is_file():
            raise SettingsError("expected where to write, got nothing; give --out")
        return self.folder / "exports" / self.default_name

    def found(self) -> "tuple[MaskFolder, Images]":
        """The masks and their images."""
        from subcam.data.readers.voc import read_names
        from subcam.export.images import find_images
        from subcam.export.mask_folder import class_names_in, open_masks

        masks = open_masks(self.folder, class_names=class_names_in(self.classes))
        if self.list is not None:
            masks = masks.only(read_names(self.list))
        if self.images is None and (self.folder / RECORD).is_file():
            return masks, self._of_run(masks)
        return masks, find_images(masks.files, self.images)

    def _of_run(self, masks: "MaskFolder") -> "Images":
        """The images of a run's masks, where the run had them."""
        from subcam.data.dataset import TOY, image_files
        from subcam.export.images import find_images, images_at
        from subcam.results import read_run
        from subcam.runtime.progress import warn

        settings = read_run(self.folder).result.settings.dataset
        root = Path(settings.root)
        if settings.root != TOY and not (settings.root and root.is_dir()):
            warn(f"the run's images are not at {root}: they are called NAME.jpg; --images DIR says where they are")
            return find_images(masks.files, None)
        files = image_files(settings, work_folder=self.folder)
        if missing := [name for name in masks.files if name not in files]:
            raise BadInputError(
                f"{root}: expected an image for each of the run's {len(masks.files)} masks, got none for"
                f" {len(missing)}, such as {missing[0]}; put them there again, or say with --images DIR where they are"
            )
        return images_at({name: files[name] for name in masks.files}, root)


@dataclass(frozen=True, kw_only=True)
class Drafts(Masks):
    """Which masks to write for people to correct. Those of a run are sorted by their confidence, the worst first.

    Attributes:
        worst: only so many, those of the least confidence; of a run.
    """

    worst: Annotated[int, Range(1, 1_000_000_000)] | None = None

    @cached_property
    def confidences(self) -> "dict[str, MaskRow]":
        """What the run says of its masks, by name, the worst first.

        Raises:
            BadInputError: the worst are asked for where nothing says which these are.
        """
        from subcam.metrics.masks_csv import MASKS_CSV, read_confidences

        rows = {row.image: row for row in read_confidences(self.folder)}
        if self.worst is not None and not rows:
            if (self.folder / RECORD).is_file():
                advice = "give the run's command again, which writes it"
            else:
                advice = "only a run's masks have a confidence: give a run's folder, or leave out --worst"
            raise BadInputError(f"{self.folder}: expected a run with {MASKS_CSV} beside its masks, got none; {advice}")
        return rows

    def found(self) -> "tuple[MaskFolder, Images]":
        """The masks and their images, the worst first."""
        masks, images = super().found()
        order = [name for name in self.confidences if name in masks.files]
        names = dict.fromkeys([*order, *masks.files])
        drafts = masks.only([*names][: self.worst])
        _warn_of_unshown(drafts, images)
        return drafts, images


def _warn_of_unshown(masks: "MaskFolder", images: "Images") -> None:
    """Say which images a labelling tool, which runs in a browser, will not show."""
    from subcam.data.records import SUFFIXES_BY_KIND, UNSHOWN_KINDS, first_of
    from subcam.runtime.progress import warn

    unshown = tuple(suffix for kind in UNSHOWN_KINDS for suffix in SUFFIXES_BY_KIND[kind])
    files = [images.file_name(name) for name in masks.files if images.file_name(name).lower().endswith(unshown)]
    if files:
        warn(
            f"browsers, and so labelling tools, do not show {len(files)} of these images: {first_of(files)}; give the "
            "tool JPEG copies of the same size and name, and --images a folder of all images with these in their place"
        )


@dataclass(frozen=True, kw_only=True)
class Regions(Drafts):
    """Which masks to write, and what is one region.

    Attributes:
        pieces: whether there is one region for each connected piece; else one for each class.
        least_area: regions of fewer pixels are left out.
    """

    pieces: bool = False
    least_area: Annotated[int, Range(0, 1_000_000_000)] = 1
