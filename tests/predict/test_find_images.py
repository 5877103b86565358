"""Which images are meant, and under which names their outputs go: never outside, never two of one name."""

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from subcam.errors import BadInputError, SettingsError
from subcam.predict.find_images import find_images


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def touch(here: Path) -> Callable[..., None]:
    def touch(*names: str) -> None:
        for name in names:
            path = here / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return touch


def names(*inputs: str, lists: tuple[str, ...] = (), outputs: str | None = None) -> dict[str, str]:
    found = find_images(
        [Path(path) for path in inputs],
        lists=[Path(path) for path in lists],
        outputs=Path(outputs) if outputs else None,
    ).records
    assert all(record.labels == () and record.mask is None for record in found)
    assert len({record.name for record in found}) == len(found)
    for record in found:
        parts = PurePosixPath(record.name)
        assert not parts.is_absolute()
        assert ".." not in parts.parts
    return {record.name: str(record.image) for record in found}


def test_folders_keep_their_sub_folders_and_hide_what_is_hidden(touch: Callable) -> None:
    touch("in/b.JPG", "in/sub/a.b.png", "in/sub/deep/c.tiff", "in/notes.txt", "in/.d.jpg", "in/.e/f.jpg", "x.jpg")
    assert names("in", "x.jpg") == {
        "b": "in/b.JPG",
        "sub/a.b": "in/sub/a.b.png",
        "sub/deep/c": "in/sub/deep/c.tiff",
        "x": "x.jpg",
    }
    assert list(names("in")) == ["b", "sub/a.b", "sub/deep/c"]


def test_a_name_that_no_output_can_have_is_left_out_and_named(touch: Callable) -> None:
    touch("in/a.jpg", "in/b\nc.jpg", f"in/{'d' * 252}.x")
    assert names("in") == {"a": "in/a.jpg"}
    found = find_images([Path("in"), Path(f"in/{'d' * 252}.x")])
    assert [(skip.file, skip.reason.partition(": ")[2]) for skip in found.unread] == [
        ("in/b\nc.jpg", "outputs cannot be named 'b\\nc': it has control characters; rename it"),
        (
            f"in/{'d' * 252}.x",
            f"outputs cannot be named {'d' * 252!r}: it is too long (more than 251 bytes in a part, or 1,000 in all);"
            " rename it",
        ),
    ]


def test_a_file_may_have_any_ending_and_be_named_twice(touch: Callable, here: Path) -> None:
    touch("in/x.data")
    assert names("in/x.data", f"{here}/in/x.data", "in/../in/x.data") == {"x": "in/x.data"}


def test_outputs_are_no_inputs(touch: Callable) -> None:
    touch("in/a.jpg", "in/out/masks/a.png", "in/outer/b.jpg")
    assert names("in", outputs="in/out") == {"a": "in/a.jpg", "outer/b": "in/outer/b.jpg"}
    assert set(names("in")) == {"a", "out/masks/a", "outer/b"}
    with pytest.raises(SettingsError, match="in is the folder of the outputs too; choose another --out"):
        names("in", outputs="in/../in")


def test_lists_are_named_below_their_common_folder(touch: Callable, here: Path) -> None:
    (here / "list.txt").write_text("one/a.jpg\r\n\n  one/two/b.jpg  \none/missing.jpg\n")
    assert names(lists=("list.txt",)) == {
        "a": "one/a.jpg",
        "two/b": "one/two/b.jpg",
        "missing": "one/missing.jpg",
    }
    (here / "single.txt").write_bytes(b"\xef\xbb\xbf" + f"{here}/deep/er/c.png\n".encode())
    assert names(lists=("single.txt",)) == {"c": f"{here}/deep/er/c.png"}


@pytest.mark.parametrize(
    "lines",
    [
        ["../../../etc/passwd", "a.jpg"],
        ["/etc/passwd", "../x/../../y.jpg", "b/../../c.jpg"],
        ["a/..", "b/.", "c//d.jpg"],
        ["~/.ssh/id", "$HOME/x", "`touch y`", "-rf", "C:\\windows\\x.jpg", "..\\..\\z.jpg"],
        [f"{'../' * 40}tmp/x.jpg", "....//....//y.jpg", ".../z", ".a.jpg"],
    ],
)
def test_hostile_lists_name_nothing_outside(here: Path, lines: list[str]) -> None:
    (here / "list.txt").write_text("\n".join(lines))
    found = names(lists=("list.txt",))  # checks each name
    assert list(found.values()) == [str(Path(line)) for line in lines]
    for name in found:
        assert Path(os.path.abspath(here / "out" / f"{name}.png")).is_relative_to(here / "out")  # noqa: PTH100


def test_names_that_are_not_utf8_are_kept_byte_for_byte(here: Path) -> None:
    path = os.fsdecode(b"in/caf\xe9.jpg")
    Path("in").mkdir()
    Path(path).touch()
    (here / "list.txt").write_bytes(b"in/caf\xe9.jpg\nin/e\xcc\x81.jpg\n")
    assert names(lists=("list.txt",)) == {os.fsdecode(b"caf\xe9"): path, "e\u0301": "in/e\u0301.jpg"}
    assert list(names("in").values()) == [path]


@pytest.mark.parametrize(
    ("files", "inputs", "said"),
    [
        (["in/a.jpg", "in/a.png"], ["in"], "in/a.jpg and in/a.png would both be written as a.png"),
        (["one/a.jpg", "two/a.jpg"], ["one", "two"], "one/a.jpg and two/a.jpg would both be written as a.png"),
        (["one/a.jpg", "a.jpg"], ["one", "a.jpg"], "one/a.jpg and a.jpg would both be written as a.png"),
        (
            ["in/a.gif", "in/a.png/b.gif"],
            ["in"],
            "an output of in/a.gif would have the name of the folder for in/a.png/b",
        ),
        (
            ["in/a.gif", "in/a.jpg/b.gif"],
            ["in"],
            "an output of in/a.gif would have the name of the folder for in/a.jpg/b",
        ),
        (
            ["in/a.gif", "in/a.npz/b.gif"],
            ["in"],
            "an output of in/a.gif would have the name of the folder for in/a.npz/b",
        ),
        ([], ["nowhere"], "nowhere: no such file or folder"),
        (["in/notes.txt"], ["in"], "in: expected images in this folder"),
        ([], [], "no images were named; give files or folders, or --list"),
    ],
)
def test_what_cannot_be_is_said_before_work_starts(
    touch: Callable, files: list[str], inputs: list[str], said: str
) -> None:
    touch(*files)
    with pytest.raises((SettingsError, BadInputError)) as caught:
        names(*inputs)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n \n", "expected paths of images, one a line, got none"),
        (b"a.jpg\nb\0.jpg\n", r"one a line, got 'b\\x00.jpg'; correct the list"),
        (b"/\n", "one a line, got '/'; correct the list"),
        (None, "list.txt: the list cannot be read"),
    ],
)
def test_lists_that_cannot_be(here: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (here / "list.txt").write_bytes(content)
    with pytest.raises(BadInputError) as caught:
        names(lists=("list.txt",))
    assert said.replace("\\\\", "\\") in str(caught.value)
