"""Wrong inputs in the forms of other programs, each with its command and the message that it ends in.

The kinds are those in which a wrong reading would be silent: what nobody said, what has no name, one image under two ids,
more than a format holds, a score of nothing.
"""

# ruff: noqa: E501 - a message stands as it is printed

import json
from collections.abc import Callable
from pathlib import Path

from tests.mistakes import IMAGES, RUN, Mistake, classes, file, mask, masks, rows, write_tar

COCO_RUN = f"{RUN} --dataset.labels all.json"
LABELS = "data labels"


def coco(
    images: object, annotations: object = (), categories: object = ({"id": 1, "name": "cat"},)
) -> Callable[[], object]:
    content = {"images": images, "annotations": annotations, "categories": categories}
    return lambda: (IMAGES / "all.json").write_text(json.dumps(content))


def drawn(image: object, category: object = 1, **more: object) -> dict[str, object]:
    return {"image_id": image, "category_id": category, "segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]]} | more


def voc(*names: str, masks_too: bool = True) -> Callable[[], object]:
    """One image, a.png, that shows these classes, in VOC's layout."""

    def write() -> None:
        root = Path("voc")
        for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (root / folder).mkdir(parents=True)
        (root / "JPEGImages" / "a.png").write_bytes((IMAGES / "a.png").read_bytes())
        objects = "".join(f"<object><name>{name}</name></object>" for name in names)
        (root / "Annotations" / "a.xml").write_text(f"<annotation>{objects}</annotation>")
        (root / "ImageSets" / "Main" / "train.txt").write_text("a\n")
        if masks_too:
            masks("voc/SegmentationClass", "a")()

    return write


VOC_RUN = RUN.replace("--data images", "--data voc")
A, B = (
    {"id": 1, "file_name": "a.png", "height": 16, "width": 24},
    {"id": 2, "file_name": "b.png", "height": 16, "width": 24},
)

MISTAKES_IN_FORMATS = {
    # --- names and lists of classes
    "a word for a missing label": Mistake(
        command=RUN,
        prepare=(rows("image,labels", "a.png,cat", "b.png,nan"),),
        message="images/labels.csv:3: expected the names of classes, got 'nan', which stands for a missing one: what the image"
        " shows is unknown; leave the cell empty if it shows none of the classes, else take the row out",
    ),
    "background in the middle of the classes": Mistake(
        command=RUN,
        prepare=(classes("cat", "background", "dog"),),
        message="images/classes.txt: expected 'background' on the first line or nowhere, as the place in the list is the"
        " value in masks; move it up or take it out",
    ),
    "a class twice in the list": Mistake(
        command=RUN,
        prepare=(classes("cat", "dog", "cat"),),
        message="images/classes.txt: expected each class once, got 'cat' twice; remove the repeated name",
    ),
    "more classes than a mask has values": Mistake(
        command=RUN,
        prepare=(rows("image,labels", "a.png,cat", f"b.png,{';'.join(f'c{number}' for number in range(254))}"),),
        message="images: expected at most 254 classes, which is what the 8 bits of a mask hold, got 255; merge some, or choose"
        " some with --dataset.classes",
    ),
    "how sure a program is in a column of classes": Mistake(
        command=RUN,
        prepare=(rows("image,cat,dog", "a.png,0.9,0.2", "b.png,0,1"),),
        message="images/labels.csv:2: expected 0, 1, true, false, yes, no or nothing in column 'cat', got '0.9'; correct the"
        " cell",
    ),
    # --- COCO
    "one image under two ids": Mistake(
        command=COCO_RUN,
        prepare=(coco([A, B, A | {"id": 3}], [drawn(1), drawn(2), drawn(3)]),),
        message="images/all.json: 'a.png' is images/a.png, the image of several entries, with the ids 1 and 3; give each image"
        " one entry that has all of its annotations, or write its folder into file_name",
    ),
    "an annotation of half an image": Mistake(
        command=COCO_RUN,
        prepare=(coco([A, B], [drawn(1), drawn(1.5)]),),
        message="images/all.json: annotations[1]: expected an object with image_id, got {<...>",
    ),
    "categories without a class": Mistake(
        command=COCO_RUN,
        prepare=(coco([A], [drawn(1)], [{"id": 1, "name": "_background_"}]),),
        message="images/all.json: expected categories that are classes, got only _background_",
    ),
    "an image of another split": Mistake(
        command=COCO_RUN,
        prepare=(coco([A | {"file_name": "train/a.png"}], [drawn(1)]), lambda: (IMAGES / "a.png").rename(_in("val"))),
        message="images/all.json: 'train/a.png' is no file in images; restore it or correct the name (capital letters count,"
        " and the suffix is part of it)",
    ),
    # --- VOC's layout
    "a class that is not VOC's beside one that is": Mistake(
        command=VOC_RUN,
        prepare=(voc("cat", "apple"),),
        message="voc/Annotations/a.xml: unknown class 'apple': <...>If you have classes of your own, list them in"
        " labels.txt, one a line in the order of their values in masks, or give --dataset.classes",
    ),
    "an object without a name": Mistake(
        command=VOC_RUN,
        prepare=(voc("apple", "nan"),),
        message="voc/Annotations/a.xml: expected the name of each object, got 'nan', which stands for a missing one; name it,"
        " or take the image out of the split",
    ),
    "the list of one class for a split": Mistake(
        command=f"{VOC_RUN} --dataset.train-split cat_train",
        prepare=(voc("cat"), file("voc/ImageSets/Main/cat_train.txt", "a  1\n")),
        message="voc/ImageSets/Main/cat_train.txt:1: expected one name such as 2007_000032, got 'a  1', as in the list of one"
        " class; give the list of all images",
    ),
    # --- shards
    "a class number below nothing": Mistake(
        command=RUN.replace("--data images", "--data tars"),
        prepare=(
            file("tars/classes.txt", "cat\n"),
            lambda: write_tar(Path("tars/train.tar"), {"a.png": (IMAGES / "a.png").read_bytes(), "a.cls": b"-1"}),
        ),
        message="tars/train.tar: the labels of a cannot be read (ValueError: expected a number in 0..0, got -1); expected<...>",
    ),
    # --- masks
    "masks of 0 and 255 for two classes": Mistake(
        command=f"{RUN} --dataset.two-valued-masks",
        prepare=(mask(255),),
        message="two_valued_masks is for one class, got 2; give masks where i + 1 means class i",
    ),
    "nothing to score, asked for": Mistake(
        command=f"{RUN} --dataset.scored-splits val",
        prepare=(rows("image,labels,split", "a.png,cat,val", "b.png,cat,train"), mask(255)),
        message="images: expected masks to score on val, got none with a pixel of any class; mend the masks, or leave the"
        " split's name out",
    ),
    "a score of the background": Mistake(
        command="evaluate --predictions p --truth t",
        prepare=(masks("t", "a", value=255), masks("p", "a", value=0)),
        message="expected pixels of <...>in the ground truth, got none: its values are 255 (64 pixels). There is nothing to"
        " score; if its masks hold 0 and 255, and 255 is the one class, give --two-valued",
    ),
    # --- ids of results
    "two masks of one image of a COCO file": Mistake(
        command="export coco-rle --predictions p --out o --classes cat --numbers images/all.json",
        prepare=(coco([A]), masks("p/x", "a"), masks("p/y", "a")),
        message="p/y/a.png: it and p/x/a.png would be the mask of one image of the COCO file, 1; give the masks of its set"
        " alone",
    ),
    # --- sources of labels
    "VOC's folders for classes": Mistake(
        command=f"{LABELS} voc",
        prepare=(voc("cat"),),
        message="voc: expected a folder for each class, or tags beside images, got a data set in PASCAL VOC's layout, which a"
        " run reads as it is: subcam run RECIPE --data voc (--kind folders or --kind tags reads it all the same)",
    ),
    "YOLO's boxes without names": Mistake(
        command=f"{LABELS} images",
        prepare=(file("images/a.txt", "0 0.5 0.5 0.2 0.2\n"), file("images/b.txt", "1 0.5 0.5 0.2 0.2\n")),
        message="images: expected a list of what YOLO's numbers mean (data.yaml, data.yml, dataset.yaml, classes.txt,"
        " obj.names), got none; put it there, or give it in place of the folder, with --images",
    ),
    "a number that no class of YOLO has": Mistake(
        command=f"{LABELS} images --out images/new.csv",
        prepare=(file("images/a.txt", "2 0.5 0.5 0.2 0.2\n"), file("images/data.yaml", "names: [cat, dog]\n")),
        message="images/a.txt:1: expected the number of a class of images/data.yaml, which are 0 cat, 1 dog, got 2; this"
        " list is of another set, or the text is damaged",
    ),
    "tasks that nobody annotated": Mistake(
        command=f"{LABELS} tasks.json --images images",
        prepare=(file("tasks.json", '[{"data": {"image": "a.png"}, "annotations": []}]'),),
        message="tasks.json: expected images with labels, got none that can be used; the first: tasks.json: task 0: was not"
        " annotated, so what its image shows is unknown; annotate it, or leave it out",
    ),
    "numbers for names": Mistake(
        command=f"{LABELS} t.csv --images images",
        prepare=(file("t.csv", "image,label\na.png,0.25\nb.png,1.5\n"),),
        message="t.csv: expected names of classes, got the numbers 0.25, 1.5, ...",
    ),
}


def _in(folder: str) -> Path:
    (IMAGES / folder).mkdir()
    return IMAGES / folder / "a.png"
