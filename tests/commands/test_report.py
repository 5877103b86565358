"""Which run's page `subcam report` writes, where a folder has several."""

import os
from pathlib import Path

import pytest

from subcam.cli import EXIT_USER, main
from subcam.commands import report as command


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The records whose page was asked for."""
    asked: list[str] = []

    def write_report(run: Path, *, record: str, **_: object) -> Path:
        asked.append(record)
        page = tmp_path / "index.html"
        page.write_text("")
        return page

    monkeypatch.setattr("subcam.report.page.page.write_report", write_report)
    return asked


def test_a_folder_of_an_ablation_has_the_page_of_its_latest_variant(written: list[str], tmp_path: Path) -> None:
    for age, name in enumerate(("b", "a", "c")):
        path = tmp_path / "ablate" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
        os.utime(path, ns=(10**18 - age, 10**18 - age))
    command.report([str(tmp_path)])
    command.report([str(tmp_path), "--record", "ablate/c.json"])
    (tmp_path / "run.json").write_text("{}")
    command.report([str(tmp_path)])
    assert written == ["ablate/b.json", "ablate/c.json", "run.json"]


def test_a_folder_without_a_run_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == EXIT_USER
    assert "holds no finished run: expected run.json in it" in capsys.readouterr().err
    assert main(["report", str(tmp_path), "--images", "0"]) == EXIT_USER
