"""The notebook of the tour: it runs from top to bottom, and is stored without what a run leaves in it."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

PATH = Path(__file__).resolve().parents[1] / "docs" / "tour.ipynb"


@pytest.fixture
def tour():
    return nbformat.read(PATH, as_version=4)


def test_it_is_stored_without_outputs_and_noise(tour):
    nbformat.validate(tour)
    assert dict(tour.metadata) == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in tour.cells:
        assert not cell.metadata
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


def test_cells_that_draw_say_what(tour):
    """The site takes the words for people who do not see the image from there."""
    drawing = [cell for cell in tour.cells if "plt.show()" in cell.source]
    assert len(drawing) == 4
    for cell in drawing:
        assert cell.source.startswith("# ")


@pytest.mark.slow
def test_it_runs(tour):
    NotebookClient(tour, timeout=900, kernel_name="python3").execute()
    outputs = [output for cell in tour.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    printed = "".join(output.get("text", "") for output in outputs)
    assert "round 2: mIoU" in printed
    assert "mIoU with the CRF" in printed
