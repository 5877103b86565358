"""The stage that takes response maps of another program in the place of a run's own: checked, in the run's form."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from subcam.cam.given_maps import maps_digest, open_maps
from subcam.cam.map_files import maps_path, write_response_maps
from subcam.checks.fields import Settings
from subcam.data.check import CheckedImages
from subcam.export.mask_folder import class_names_in
from subcam.runtime import distributed
from subcam.runtime.progress import track
from subcam.runtime.run_folder import CONTENT, Stage, by_content

VERSION = 1
"""Of what this stage computes; raise it when that changes."""


@dataclass(frozen=True, kw_only=True)
class GivenMapsSettings(Settings):
    """Response maps that are taken in the place of a run's own.

    Attributes:
        folder: a folder with a NAME.npy or NAME.npz for each image, in 0..1; or a run's folder, or that of its stage.
            A run then begins with these maps. Empty to train a classifier and make them.
        classes: the classes in the order of the channels, or a file of them; else the run's, those of classes.txt in
            the folder, or the data set's in its order.
    """

    folder: Annotated[str, tyro.conf.arg(name="maps", prefix_name=False, metavar="DIR")] = field(
        default="", metadata=by_content(maps_digest)
    )
    classes: Annotated[
        tuple[str, ...], tyro.conf.arg(name="maps-classes", prefix_name=False, metavar="NAME...|FILE")
    ] = field(default=(), metadata={CONTENT: class_names_in})


def run(stage: Stage, *, settings: GivenMapsSettings, images: CheckedImages) -> None:
    """Write the maps of every image, of the classes that its labels name.

    Raises:
        BadInputError: an image has no maps, or a file cannot be used; names it.
    """
    image_set, class_names = images.image_set, images.image_set.class_names
    folder = open_maps(Path(settings.folder), channels=class_names_in(settings.classes), class_names=class_names)
    records = image_set.records
    # Of an image that shows nothing there is nothing to say.
    files = folder.files([record.name for record in records], needed=[bool(record.labels) for record in records])
    own = distributed.share(range(len(records)))
    left = [index for index in own if not maps_path(stage.path, records[index].name).is_file()]
    for index in track(left, stage.name, len(left)):
        record = records[index]
        maps = folder.read(
            files.get(record.name), class_names=class_names, labels=record.labels, size=images.sizes[index]
        )
        write_response_maps(maps_path(stage.path, record.name), maps)
    stage.finish({"images": len(records)})
