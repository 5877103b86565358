"""The notebook of the tour: it runs from top to bottom, and is stored with its outputs and nothing else of a run."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

PATH = Path(__file__).resolve().parents[1] / "docs" / "tour.ipynb"


@pytest.fixture
def tour():
    return nbformat.read(PATH, as_version=4)


def test_it_is_stored_with_outputs_and_without_noise(tour):
    nbformat.validate(tour)
    assert dict(tour.metadata) == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in tour.cells:
        assert not cell.metadata
        if cell.cell_type == "code":
            assert cell.execution_count is None
            assert all(not output.get("metadata") for output in cell.outputs)
    check_outputs_of(tour)
    text = PATH.read_text("utf-8")
    assert len(text) < 500_000
    assert not re.search(r"/tmp|/home|/root|Users|Warning|Traceback", text)


def test_cells_that_draw_say_what(tour):
    """The site takes the words for people who do not see the image from there."""
    drawing = [cell for cell in tour.cells if "plt.show()" in cell.source]
    assert len(drawing) == 4
    for cell in drawing:
        assert cell.source.startswith("# ")


SMALLER = {
    "ToySettings(train_images=320, val_images=40)": "ToySettings(train_images=48, val_images=8)",
    '"control": False,': '"control": False, "classify.epochs": 1,',
}
"""What is changed so that a test takes seconds. CI runs the notebook as it stands, as it builds the site."""


@pytest.mark.thorough
def test_it_runs_on_fewer_images(tour):
    for before, after in SMALLER.items():
        (cell,) = [cell for cell in tour.cells if before in cell.source]
        cell.source = cell.source.replace(before, after)
    check_a_run_of(tour)


@pytest.mark.thorough
def test_it_runs(tour):
    check_a_run_of(tour)


def check_a_run_of(tour):
    NotebookClient(tour, timeout=900, kernel_name="python3").execute()
    check_outputs_of(tour)


def check_outputs_of(tour):
    outputs = [output for cell in tour.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    printed = "".join(output.get("text", "") for output in outputs)
    assert "round 2: mIoU" in printed
    assert "mIoU with the CRF" in printed
