"""The stage that takes response maps of another program in the place of a run's own: checked, in the run's form."""

from pathlib import Path

from subcam.cam.given_maps import open_maps
from subcam.cam.map_files import maps_path, write_response_maps
from subcam.data.check import CheckedImages
from subcam.export.mask_folder import class_names_in
from subcam.runtime import distributed
from subcam.runtime.progress import track
from subcam.runtime.run_folder import Stage
from subcam.stages.settings.given import GivenMapsSettings

VERSION = 1
"""Of what this stage computes; raise it when that changes."""


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
