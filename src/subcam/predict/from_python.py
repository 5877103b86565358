"""`subcam.predict`: masks of any images by a trained network, in one call. Images in; masks in a folder out."""

from collections.abc import Sequence
from pathlib import Path

from subcam.checks.arguments import takes_arrays
from subcam.predict import run


@takes_arrays()
def predict(
    model: Path | str,
    images: Path | str | Sequence[Path | str],
    *,
    out: Path | str,
    settings: run.PredictSettings | None = None,
    lists: Sequence[Path | str] = (),
) -> run.PredictResult:
    """Write the masks of any images by a trained network into a folder, as `subcam predict` does.

    Args:
        model: folder of a saved segmentation network, or of a run that trained one.
        images: an image or a folder of images, or several of them.
        out: where masks, overlays and tables go; what is there already is not computed again.
        settings: how; see `PredictSettings`.
        lists: text files with the path of an image on each line.

    Raises:
        SubcamError: no model, no images, names that collide, a folder in use or of other predictions, or no image
            that could be used.
    """
    inputs = [images] if isinstance(images, str | Path) else images
    return run.predict(
        settings or run.PredictSettings(),
        model=Path(model),
        inputs=[Path(image) for image in inputs],
        out=Path(out),
        lists=[Path(file) for file in lists],
    )
