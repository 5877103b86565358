"""`subcam data download`: PASCAL VOC 2012, SBD's augmentation of it and COCO 2014, ready for a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from subcam.checks.fields import Settings
from subcam.commands.flags import read_flags
from subcam.download.sources import ARCHIVES, DataSetName
from subcam.errors import SettingsError

DESCRIPTION = """Download published data sets from their own sites, check them and unpack them.

voc2012 is PASCAL VOC 2012 (2.0 GB to download), sbd adds the masks and the list of the augmented training set to it
(1.4 GB), coco2014 is COCO 2014 (20.4 GB). The same command again resumes and skips what is done.
Nothing that is there already is changed. Proxies are those of the environment (https_proxy, http_proxy).
"""


@dataclass(frozen=True, kw_only=True)
class Arguments(Settings):
    """What to download, and where to.

    Attributes:
        names: which: voc2012, sbd, coco2014; sbd needs voc2012, which may be there already.
        to: the folder in which VOCdevkit appears, or annotations, train2014 and val2014.
        archives: a folder with archives that you have already; they are checked in the same way and left as they are.
            Those it lacks are downloaded.
        mirrors: addresses of folders that hold the archives by their names, tried before the official addresses.
        keep_archives: whether to keep what was downloaded after it is unpacked.
    """

    names: Annotated[tuple[DataSetName, ...], tyro.conf.Positional]
    to: Path
    archives: Path | None = None
    mirrors: Annotated[tuple[str, ...], tyro.conf.arg(metavar="URL...")] = ()
    keep_archives: bool = True


def download(words: list[str]) -> None:
    """`subcam data download voc2012|sbd|coco2014... --to DIR`."""
    given = read_flags(Arguments, words, prog="subcam data download", description=DESCRIPTION)
    if not given.names:
        raise SettingsError(f"expected the name of a data set, got none; there are: {', '.join(ARCHIVES)}")

    from subcam.download.published_sets import FetchSettings, fetch
    from subcam.runtime.progress import say

    settings = FetchSettings(
        to=given.to, archives=given.archives, mirrors=given.mirrors, keep_archives=given.keep_archives
    )
    ready = [fetch(name, settings) for name in ARCHIVES if name in given.names]
    for folder in dict.fromkeys(ready):
        say(f"ready: subcam run RECIPE --data {folder}")
