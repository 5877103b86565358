"""`subcam predict MODEL IMAGES... --out DIR`: masks of any images by a trained network."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from subcam.checks.fields import Settings


def predict(words: list[str]) -> None:
    """`subcam predict MODEL IMAGES... --out DIR [settings]`."""
    import tyro

    from subcam.commands.flags import read_flags
    from subcam.predict.find_model import find_model
    from subcam.predict.settings import PredictSettings
    from subcam.runtime import launch

    @dataclass(frozen=True, kw_only=True)
    class Arguments(Settings):
        """Segment images with a trained network: indexed masks, overlays, and a table of what is in each image.

        Attributes:
            model: folder of a saved segmentation network, or of a run that trained one.
            images: image files, and folders whose images are meant, those in sub-folders too.
            out: where masks, overlays and tables go. The same command again resumes.
            list: text files with the path of an image on each line.
        """

        model: tyro.conf.Positional[Path]
        images: tyro.conf.Positional[tuple[Path, ...]] = ()
        out: Path
        list: tuple[Path, ...] = ()
        settings: Annotated[PredictSettings, tyro.conf.arg(name="")] = field(default_factory=PredictSettings)

    given = read_flags(Arguments, words, prog="subcam predict", config=(tyro.conf.OmitArgPrefixes,))
    settings = given.settings
    if launch.wanted(devices=settings.devices, num_nodes=settings.num_nodes):
        raise SystemExit(launch.together(["predict", *words], devices=settings.devices))
    find_model(given.model)  # a wrong path is said before the imports that take seconds

    from subcam.predict.folder import FAILED_FILE, TABLE_FILE
    from subcam.predict.run import predict as run
    from subcam.runtime import distributed
    from subcam.runtime.progress import close, duration, say, warn

    result = run(given.settings, model=given.model, inputs=given.images, out=given.out, lists=given.list)
    if not distributed.is_first():
        return
    before = f", {result.before} done before" if result.before else ""
    say(f"{result.predicted} images in {duration(result.seconds)}{before}")
    if result.failed:
        failed = [f"{len(result.failed)} files could not be used, see {given.out / FAILED_FILE}; the first:"]
        # A terminal takes no bytes that are not UTF-8, and names of files may have some.
        failed.append(f"  {result.failed[0].reason}".encode("utf-8", "backslashreplace").decode("utf-8"))
        warn("\n".join(failed))
    out = shlex.quote(str(given.out))
    images = next((shlex.quote(str(path)) for path in given.images if path.is_dir()), "DIR")
    close(
        f"masks: {given.out / 'masks'}",
        f"what is in each image: {given.out / TABLE_FILE}",
        f"next: subcam export label-studio --predictions {out} --images {images} --out tasks",
    )
