"""`subcam data` and `subcam data download` as a person calls them."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.download.local_server import Served, serving
from tests.download.made_archives import TRAIN_AUG, digest, sbd_files, tar, voc_files

from subcam import cli
from subcam.download import published_sets, sources


def test_usage_for_no_word_and_for_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["data"], ["data", "--help"], ["data", "-h"]):
        assert cli.main(words) == cli.EXIT_OK
        said = capsys.readouterr().out
        assert all(f"subcam data {word} " in said for word in ("download", "check", "labels", "masks", "shards"))


def test_an_unknown_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "dowload"]) == cli.EXIT_USER
    said = capsys.readouterr().err
    known = "download, check, labels, masks, corrections, shards"
    assert said == f"error: expected a word after 'data', got dowload; there are: {known}\n"


def test_every_word_has_its_function() -> None:
    from importlib import import_module

    from subcam.commands.data import COMMANDS

    for place in COMMANDS.values():
        module, function = place.split(":")
        assert callable(getattr(import_module(module), function))


def test_help_says_what_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", "download", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for word in ("voc2012", "sbd", "coco2014", "--to", "--archives", "--mirrors", "--no-keep-archives"):
        assert word in said


def test_a_name_is_needed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["data", "download", "--to", str(tmp_path)]) == cli.EXIT_USER
    assert "expected the name of a data set, got none; there are: voc2012, sbd, coco2014" in capsys.readouterr().err


def test_an_unknown_name_is_refused_with_the_choices(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", "download", "voc2007", "--to", str(tmp_path)])
    assert ended.value.code == cli.EXIT_USER
    said = "".join(capsys.readouterr())
    assert "voc2007" in said
    assert "voc2012" in said


def test_both_in_one_command_whatever_their_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From archives that a person has; SBD after VOC, of which it needs the folder."""
    contents = {sources.VOC2012.name: tar(voc_files()), sources.SBD.name: tar(sbd_files(), packed=True)}
    small = {
        name: (replace(archive, size=len(content), md5=digest(content), sha256=None),)
        for name, archive, content in zip(
            ("voc2012", "sbd"), (sources.VOC2012, sources.SBD), contents.values(), strict=True
        )
    }
    mine, to = tmp_path / "mine", tmp_path / "data"
    mine.mkdir()
    for name, content in contents.items():
        (mine / name).write_bytes(content)
    fetch = published_sets.fetch
    monkeypatch.setattr(
        published_sets, "fetch", lambda name, settings: fetch(name, settings, sources=small, train_aug_names=4)
    )
    words = ["data", "download", "sbd", "voc2012", "--to", str(to), "--archives", str(mine)]
    assert cli.main(words) == cli.EXIT_OK
    voc = to / "VOCdevkit" / "VOC2012"
    assert (voc / "ImageSets/Segmentation/train_aug.txt").read_text().split() == sorted(TRAIN_AUG)
    said = capsys.readouterr().out
    assert said.count(f"ready: subcam run RECIPE --data {voc}") == 1


def test_what_is_not_the_published_archive_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / sources.SBD.name).write_bytes(b"something else")
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("2007_000001\n")
    assert cli.main(["data", "download", "sbd", "--to", str(tmp_path)]) == cli.EXIT_USER
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path / 'benchmark.tgz'}: expected 1419539633 bytes, got 14; ")
    assert said.count("\n") == 1


def test_a_mirror_of_ones_own_that_has_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The addresses are tried in order, each with its reason; only the mirror is on this machine."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10**12}))
    with serving() as server:
        server.files[sources.VOC2012.name] = Served(b"<html>please log in</html>")
        words = ["data", "download", "voc2012", "--to", str(tmp_path), "--mirrors", server.address]
        assert cli.main(words) == cli.EXIT_USER
        assert [name for name, _, _ in server.asked] == [sources.VOC2012.name]
    said = capsys.readouterr().err
    assert "expected a file of 1999639040 bytes, the server announces 26" in said
    for url in sources.VOC2012.urls:
        assert f"{url}: the connection failed" in said
    assert "behind a proxy, set https_proxy" in said


def test_the_page_has_the_numbers_of_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data-sets.md").read_text("utf-8")
    for archives in sources.ARCHIVES.values():
        for archive in archives:
            sums = f"`{archive.md5}` | {f'`{archive.sha256}`' if archive.sha256 else ''}".rstrip()
            assert f"| `{archive.name}` | {archive.size:,} | {sums} |" in page
    for count in (sources.TRAIN_AUG_NAMES, sources.AUGMENTED_MASKS):
        assert f"{count:,}" in page
