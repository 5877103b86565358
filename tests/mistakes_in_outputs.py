"""Wrong things in folders that subcam wrote, that somebody else uses, or that the machine does not let it write.

What was computed from what, files that were edited, two writers of one folder, caches, shards with what does not belong.
"""

# ruff: noqa: E501 - a message stands as it is printed

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from tests.mistakes import IMAGES, PREDICT, RUN, TABLE, Mistake, file, masks, model, rows, write_tar
from tests.test_results import record

_held: list[int] = []


def in_use(folder: str) -> Callable[[], object]:
    """As by another process: who opens a file for itself meets the kernel's lock, even in the same process."""

    def take() -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        descriptor = os.open(Path(folder, ".lock"), os.O_RDWR | os.O_CREAT)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        while _held:
            os.close(_held.pop())
        _held.append(descriptor)

    return take


def coloured(path: str) -> Callable[[], object]:
    def write() -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), (1, 2, 3), np.uint8)).save(path)

    return write


def png() -> bytes:
    return (IMAGES / "a.png").read_bytes()


def predictions_of(image: str) -> Callable[[], object]:
    """A folder of predictions with a mask of that image under the name "a"."""

    def write() -> None:
        masks("masks/masks", "a", size=(16, 24))()
        table = Path("masks/predictions.csv")
        table.write_text(f"image,mask,classes,seconds\n{image},masks/a.png,cat 100.00%,0.1\n")

    return write


EXPORT = "export coco-rle --predictions p --out out"
SCORE = "evaluate --predictions p --truth t"
SHARDS = (TABLE.unlink,)

MISTAKES_IN_OUTPUTS = {
    # --- results kept for something else
    "predictions of another model in the folder": Mistake(
        command=PREDICT,
        prepare=(model, file("masks/predict.json", '{"model": "other"}')),
        message="masks holds predictions of another model or other settings (<...>); choose another --out, or give the same"
        " model and settings again",
    ),
    "a mask of another image of the same name": Mistake(
        command=PREDICT,
        prepare=(model, predictions_of("elsewhere/a.png")),
        message="masks/masks/a.png was made from elsewhere/a.png, and images/a.png has the same name; choose another --out,"
        " or give the path as before",
    ),
    # --- files that were edited
    "a record of predictions that is a list": Mistake(
        command=PREDICT,
        prepare=(model, file("masks/predict.json", "[]")),
        message="masks/predict.json is not the record of predictions (expected an object, got []); choose another --out, or"
        " move the folder's files away",
    ),
    "a run that is not finished": Mistake(
        command=PREDICT,
        prepare=(file("model/run.json", '{"segment": [{"round": 1}]}'),),
        message="model/run.json is not the record of a run (.segment[0]: expected the key 'trained_on', got ['round']);"
        " move it away and give the run's command again",
    ),
    "a run without segmentation": Mistake(
        command=PREDICT,
        prepare=(file("model/run.json", json.dumps(record() | {"segment": []})),),
        message="model is a run without a segmentation network; train one by running it again with segmentation, or give"
        " the folder of another",
    ),
    "a round of a number of thousands of digits": Mistake(
        command="report r",
        prepare=(file("r/run.json", json.dumps(record()).replace('"round": 0', f'"round": {10**300}', 1)),),
        message="r/run.json is not the record of a run (.rounds[0].round: expected a whole number of at most 19 digits, got"
        " <...>); move it away and give the run's command again",
    ),
    # --- two writers, and places that cannot be written
    "an export that another process writes": Mistake(
        command=EXPORT,
        prepare=(masks("p", "a"), in_use("out")),
        message="out is in use by another process; wait for it to end or choose another folder",
    ),
    "scores that another process writes": Mistake(
        command=f"{SCORE} --out out",
        prepare=(masks("p", "a"), masks("t", "a"), in_use("out")),
        message="out is in use by another process; wait for it to end or choose another folder",
    ),
    "an audit that another process writes": Mistake(
        command="data check images --out out",
        prepare=(in_use("out"),),
        message="out is in use by another process; wait for it to end or choose another folder",
    ),
    "a cache of decoded images in the place of a file": Mistake(
        command=f"{RUN.replace('--classify.epochs 0', '--classify.epochs 1')} --machine.decoded-cache images/a.png",
        message="cannot write images/a.png/<...> (Not a directory); choose another folder or mend its rights",
    ),
    # --- shards
    "shards of what a Mac adds alone": Mistake(
        command=RUN,
        prepare=(
            *SHARDS,
            lambda: write_tar(IMAGES / "train.tar", {"._a.png": b"x", ".DS_Store": b"x", "README.md": b"x"}),
        ),
        message="images/train.tar: expected images with their labels beside them (a.jpg with a.cls, a.txt or a.json), got none;"
        " `subcam data shards` writes such archives",
    ),
    "a number of a class below zero in a shard": Mistake(
        command=RUN,
        prepare=(
            *SHARDS,
            file("images/classes.txt", "cat\ndog\n"),
            lambda: write_tar(IMAGES / "train.tar", {"./a.png": png(), "./a.cls": b"-1"}),
        ),
        message="images/train.tar: the labels of a cannot be read (ValueError: expected a number in 0..1, got -1); expected"
        ' {"labels": [names]} in .json, names separated by ; in .txt, or a number of classes.txt in .cls',
    ),
    # --- colours
    "masks in colours that nothing names": Mistake(
        command=SCORE,
        prepare=(masks("p", "a"), coloured("t/a.png")),
        message="t/a.png: expected a mask, got RGB with the colour (1, 2, 3), which is not in PASCAL VOC's colour map; it must"
        " be an indexed PNG (palette or grey) whose values are class indices; export it again as such, or say the colours in"
        " a labelmap.txt beside the masks (a line a class: NAME:1,2,3::)",
    ),
    "masks in colours that the list does not name": Mistake(
        command=SCORE,
        prepare=(masks("p", "a"), coloured("t/a.png"), file("t/labelmap.txt", "background:0,0,0::\ncat:9,9,9::\n")),
        message="t/a.png: expected the colours of the list of classes, got (1, 2, 3); add it there (in labelmap.txt a line"
        " NAME:1,2,3::), or mend the mask",
    ),
    "a table of labels that names an image twice in two spellings": Mistake(
        command=RUN,
        prepare=(rows("image,labels", "a.png,cat", "./a.png,dog"),),
        message="images/labels.csv:3: duplicate name 'a', first on line 2; remove one of them",
    ),
}
