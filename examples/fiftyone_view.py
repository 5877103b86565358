"""Look at a folder of predictions in FiftyOne, and score it there against true masks where you have some.

    uv pip install fiftyone
    python examples/fiftyone_view.py predictions --truth true-masks

`predictions` is what `subcam predict` wrote. Each sample has its image, the field `prediction`, the names of the
classes in it as tags, and with --truth the field `truth`.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

from subcam.data.images import read_indices
from subcam.export.mask_folder import open_masks


def open_in_fiftyone(fiftyone: Any, predictions: Path, *, truth: Path | None = None, name: str = "subcam") -> Any:
    """A FiftyOne data set of the images of a folder of predictions; one that has this name is replaced.

    Args:
        fiftyone: the module.
        predictions: the folder.
        truth: a folder of true masks under the same names, with the same values.
        name: of the data set.
    """
    masks = open_masks(predictions)
    true_masks = open_masks(truth).files if truth else {}
    names = masks.class_names or ()
    with (predictions / "predictions.csv").open(encoding="utf-8", newline="") as file:
        images = {predictions / row["mask"]: row["image"] for row in csv.DictReader(file)}

    def segmentation(path: Path) -> Any:
        # As an array: FiftyOne takes the palette of an indexed PNG for an image of three channels.
        return fiftyone.Segmentation(mask=read_indices(path))

    samples = []
    for key, path in masks.files.items():
        found = segmentation(path)
        present = [class_name for value, class_name in enumerate(names, start=1) if (found.mask == value).any()]
        sample = fiftyone.Sample(filepath=str(Path(images[path]).absolute()), tags=present, prediction=found)
        if key in true_masks:
            sample["truth"] = segmentation(true_masks[key])
        samples.append(sample)
    dataset = fiftyone.Dataset(name, overwrite=True)
    dataset.default_mask_targets = dict(enumerate(names, start=1))
    dataset.add_samples(samples)
    return dataset


def main() -> None:
    """Read the command line, build the data set, open the app."""
    import fiftyone

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--truth", type=Path)
    given = parser.parse_args()
    dataset = open_in_fiftyone(fiftyone, given.predictions, truth=given.truth)
    if given.truth:
        dataset.match(fiftyone.ViewField("truth") != None).evaluate_segmentations(  # noqa: E711 - it builds a query
            "prediction", gt_field="truth", eval_key="masks"
        ).print_report()
    fiftyone.launch_app(dataset).wait()


if __name__ == "__main__":
    main()
