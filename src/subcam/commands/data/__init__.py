"""`subcam data WORD`: published data sets, what is wrong with one, its other forms, drafts that people corrected."""

from importlib import import_module

from subcam.errors import SubcamError

USAGE = """subcam data: bring images and labels into a form that can be run

  subcam data download voc2012|sbd|coco2014... --to DIR
                             published data sets from their own sites, checked and unpacked; resumable
  subcam data check DIR      what is wrong with a data set, before hours are spent on it
  subcam data labels ...     a CSV of image-level labels from folders, COCO, Label Studio or tags
  subcam data masks EXPORT.json --images DIR --out DIR
                             masks that people drew in Label Studio, as ground truth
  subcam data corrections EXPORT --run RUN
                             drafts of a run that people corrected in Label Studio or CVAT
  subcam data shards DIR --out DIR
                             a data set as tar files, for millions of images

Each takes --help.
"""

COMMANDS = {
    "download": "subcam.commands.data.download:download",
    "check": "subcam.commands.data.check:check",
    "labels": "subcam.commands.data.labels:labels",
    "masks": "subcam.commands.data.masks:masks",
    "corrections": "subcam.commands.data.corrections:corrections",
    "shards": "subcam.commands.data.shards:shards",
}
"""Each word's function, which takes the words after it; imported when it is asked for."""


def data(words: list[str]) -> None:
    """`subcam data download|check|labels|masks|corrections|shards ...`."""
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return
    if words[0] not in COMMANDS:
        raise SubcamError(f"expected a word after 'data', got {words[0]}; there are: {', '.join(COMMANDS)}")
    module, function = COMMANDS[words[0]].split(":")
    getattr(import_module(module), function)(words[1:])
