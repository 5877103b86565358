"""`subcam data masks` as a user gives it: what it says, and that its folder is ground truth at once."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.data.labels.test_masks_from_label_studio import SIZE, box, said, task, write

from subcam import cli
from subcam.data.dataset import open_dataset
from subcam.data.images import read_mask
from subcam.data.settings import DatasetSettings


def test_its_folder_is_ground_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    point = {"type": "keypointlabels", "value": {"x": 1, "y": 2, "keypointlabels": ["cat"]}} | SIZE
    write(tmp_path, task("b.jpg", box("dog", 0, 0, 1, 1)))  # makes the images
    tasks = [
        task("a.jpg", annotations=[said(box("dog", 0, 0, 4, 6), box("cat", 4, 0, 4, 6), point), said()]),
        task("b.jpg", box("cat", 0, 0, 2, 2), box(None, 7, 5, 1, 1)),
        *(task("c.png", annotations=[]) for _ in range(7)),
    ]
    tasks[0]["annotations"][1]["id"] = 0
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    words = ["data", "masks", str(tmp_path / "tasks.json"), "--images", str(tmp_path / "images")]
    out = tmp_path / "masks"
    assert cli.main([*words, "--out", str(out)]) == cli.EXIT_OK
    printed = capsys.readouterr().out
    for line in (
        f"{out}: 2 masks; classes, with the masks that show them: 1 cat (2), 2 dog (1)",
        "1 images have several annotations: the newest was taken",
        "1 regions without one label: their pixels are 255, not scored",
        "left out 1 regions of kinds that are not drawn: keypointlabels (1)",
        "left out 7 tasks, as what their images show is unknown:",
        "  - and 2 more",
    ):
        assert line in printed
    assert printed.count("was not annotated") == 5

    assert cli.main(["evaluate", "--predictions", str(out), "--truth", str(out)]) == cli.EXIT_OK
    assert "100.0" in capsys.readouterr().out

    # in a folder of one's own: masks beside images, the legend at its top
    (tmp_path / "labels.csv").write_text("image,labels\na.jpg,dog;cat\nb.jpg,cat\n")
    shutil.copy(out / "classes.txt", tmp_path)
    settings = DatasetSettings(root=str(tmp_path))
    image_set = open_dataset(settings, work_folder=tmp_path / "work").train.image_set
    found = {record.name: read_mask(record.mask, image_set.mask_values) for record in image_set.records if record.mask}
    assert image_set.class_names == ("cat", "dog")
    assert np.unique(found["a"]).tolist() == [1, 2]
    assert np.unique(found["b"]).tolist() == [0, 1, 255]

    assert cli.main([*words, "--out", str(out)]) == cli.EXIT_USER
    assert "expected a new or empty folder" in capsys.readouterr().err
