"""`subcam data shards DIR --out DIR`: a data set as tar shards that `subcam run` reads."""

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from subcam.checks.fields import Count, Settings
from subcam.errors import SettingsError

if TYPE_CHECKING:
    from subcam.data.settings import DatasetSettings

DESCRIPTION = """Write a data set as tar shards: few large files instead of millions of small ones.

Images and masks are copied as they are; a split's shards are called SPLIT-000000.tar, SPLIT-000001.tar, ... Flags are
those of `subcam run`, without `dataset.` before them. The folder is then what `subcam run` takes as --data.
"""


def shards(words: list[str]) -> None:
    """`subcam data shards DIR --out DIR [settings of the data set]`."""
    import tyro

    from subcam.commands.flags import read_flags
    from subcam.data.settings import DatasetSettings

    @dataclass(frozen=True, kw_only=True)
    class Arguments(Settings):
        """What to write, and where to.

        Attributes:
            folder: of the images, what `subcam run` calls --data.
            out: the folder of the shards; splits that are there are written anew.
            images_each: images in one shard.
        """

        folder: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="DIR")] = None
        out: Path
        images_each: Count = 1000
        dataset: Annotated[DatasetSettings, tyro.conf.arg(name="")] = field(default_factory=DatasetSettings)

    given = read_flags(Arguments, words, prog="subcam data shards", description=DESCRIPTION)
    if given.folder and given.dataset.root:
        raise SettingsError(f"expected one folder, got {given.folder} and --data {given.dataset.root}; leave one out")
    root = str(given.folder or "") or given.dataset.root
    if root and Path(root).resolve() == given.out.resolve():
        raise SettingsError(f"expected another folder for the shards than that of the images, got {root} twice")
    with tempfile.TemporaryDirectory(prefix="subcam-") as temporary:
        settings = replace(given.dataset, root=root)
        _write(settings, given.out, work_folder=Path(temporary), images_each=given.images_each)


def _write(settings: "DatasetSettings", out: Path, *, work_folder: Path, images_each: int) -> None:
    from subcam.data.dataset import ALL, open_splits
    from subcam.data.readers.shards import write_shards
    from subcam.runtime.progress import say
    from subcam.runtime.run_folder import RunFolder

    splits = open_splits(settings, work_folder=work_folder)
    chosen = dict.fromkeys((splits.train, *(split for split in splits.scored if not splits.is_train(split))))
    with RunFolder(path=out).lock(leave=False):
        for split in chosen:
            image_set = splits.read(split)
            name = split or ALL
            written = write_shards(out, image_set, split=name, images_each=images_each)
            say(f"{name}: {len(image_set):,} images in {len(written):,} shards")
            for skip in image_set.skipped:
                say(f"left out: {skip.reason}")
    say(f"ready: subcam run RECIPE --data {out}")
