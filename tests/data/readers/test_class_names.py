"""What a list of classes means, and which words are none."""

from pathlib import Path

import pytest

from subcam.data.images import voc_palette
from subcam.data.readers.class_names import (
    ClassList,
    is_background,
    is_missing,
    listed_classes,
    read_class_list,
)
from subcam.errors import BadInputError


@pytest.mark.parametrize(
    "first",
    [(), ("background",), ("_background_",), ("__background__",), ("Background",), ("__ignore__", "_background_")],
)
def test_what_stands_before_the_classes(first: tuple[str, ...]) -> None:
    assert listed_classes([*first, "cat", "dog"], where="x") == ("cat", "dog")


@pytest.mark.parametrize("names", [("cat", "background"), ("cat", "__ignore__"), ("background", "__ignore__", "cat")])
def test_a_place_that_would_shift_the_values_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(BadInputError, match=r"x: expected '.*' on the first line or nowhere"):
        listed_classes(names, where="x")


def test_names_that_are_none() -> None:
    assert all(map(is_missing, ("nan", "NaN", "None", "null", "<NA>", "", " none ")))
    assert not any(map(is_missing, ("nancy", "no", "0", "Na")))
    assert not is_background("background-2")


def test_a_label_map_has_voc_s_colours(tmp_path: Path) -> None:
    path = tmp_path / "labelmap.txt"
    lines = [f"c{value}:{','.join(map(str, colour))}::" for value, colour in enumerate(voc_palette().tolist()) if value]
    path.write_text("\n".join(["background:0,0,0::", *lines]))
    classes = read_class_list(path)
    assert classes.values == tuple(range(1, 255))  # 255 is not scored
    assert classes.names[20] == "c21"
    path.write_text("dog:0,128,0::\ncat:128,0,0::\n")
    assert read_class_list(path) == ClassList.numbered(["cat", "dog"])
    path.write_text("# label:color_rgb:parts:actions\nbackground:::\ndog:::\ncat:::\n")
    assert read_class_list(path) == ClassList.numbered(["dog", "cat"])
    path.write_text("dog:::\ncat:::\n")
    assert read_class_list(path) == ClassList.numbered(["dog", "cat"])
