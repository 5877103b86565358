"""Figures 3 and 7: rows and columns in their places, absent columns left out, all of it legible."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from report.legible import faults, overlap, said

from subcam.data.overlay import colour_mask, overlay_mask
from subcam.report.figures.maps import ResponseRow, SegmentationRow, response_figure, segmentation_figure
from subcam.report.figures.overlays import overlay_map

RNG = np.random.default_rng(0)


def image(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def mask(height: int, width: int, *labels: int) -> np.ndarray:
    return np.resize(np.array(labels, np.uint8).repeat(5), (height, width))


def response_row(height: int, width: int, **given: object) -> ResponseRow:
    plain, ours = RNG.random((2, height, width), dtype=np.float32)
    return ResponseRow(image=image(height, width), plain=plain, ours=ours, **given)  # type: ignore[arg-type]


def columns(figure: Figure, count: int) -> list[str]:
    """What is written above the first row, from the left."""
    return [text.get_text() for text in sorted(figure.axes[0].texts[:count], key=lambda text: text.get_position())]


def test_figure_3() -> None:
    rows = [
        response_row(40, 60, truth=mask(40, 60, 0, 1), label="an image with a long name", threshold=0.3),
        response_row(90, 30, truth=mask(90, 30, 0, 2)),
        response_row(20, 80),
    ]
    figure = response_figure(rows, title="Responses")
    assert columns(figure, 4) == ["image", "plain CAM", "ours", "ground truth"]
    first = rows[0]
    assert first.truth is not None
    expected = [
        first.image,
        overlay_map(first.image, first.plain, threshold=0.3),
        overlay_map(first.image, first.ours, threshold=0.3),
        overlay_mask(first.image, first.truth),
    ]
    placed = figure.axes[0].images
    for one, pixels in zip(placed, expected, strict=False):
        assert one.get_array().tolist() == pixels.tolist()
    assert len(placed) == 11
    assert said(figure).count("none") == 1
    assert figure.axes[1].get_xlabel() == "response"
    assert faults(figure) == []
    boxes = [one.get_window_extent() for one in (*placed, figure.axes[1])]
    shapes = [one.get_array().shape for one in placed]
    for box, (height, width, _) in zip(boxes, shapes, strict=False):
        assert box.width / box.height == pytest.approx(width / height)
    assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_maps_of_other_methods_have_their_own_threshold() -> None:
    row = response_row(40, 60, threshold=0.3)
    row = replace(row, compared={"LayerCAM": (row.ours, 0.7)})
    figure = response_figure([row])
    assert columns(figure, 4) == ["image", "plain CAM", "LayerCAM", "ours"]
    placed = figure.axes[0].images
    assert placed[2].get_array().tolist() == overlay_map(row.image, row.ours, threshold=0.7).tolist()
    assert placed[3].get_array().tolist() == overlay_map(row.image, row.ours, threshold=0.3).tolist()


def test_figure_3_without_truth_has_three_columns() -> None:
    figure = response_figure([response_row(20, 30)], ours_name="round 3")
    assert columns(figure, 3) == ["image", "plain CAM", "round 3"]
    assert len(figure.axes[0].images) == 3
    with pytest.raises(ValueError, match="one row"):
        response_figure([])


def test_figure_7() -> None:
    rows = [
        SegmentationRow(
            image=image(30, 40),
            truth=mask(30, 40, 0, 2, 255),
            prediction=mask(30, 40, 0, 1),
            label="first",
        ),
        SegmentationRow(image=image(50, 40), prediction=mask(50, 40, 0)),
    ]
    figure = segmentation_figure(rows, ["cat", "dog", "cow"], title="Segmentations")
    assert columns(figure, 3) == ["image", "ground truth", "prediction"]
    truth = rows[0].truth
    assert truth is not None
    assert figure.axes[0].images[1].get_array().tolist() == colour_mask(truth).tolist()
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["background", "cat", "dog", "ignored (255)"]
    assert faults(figure) == []


def test_eighty_classes_are_named() -> None:
    names = [f"class number {i}" for i in range(80)]
    row = SegmentationRow(image=image(30, 54), prediction=np.arange(81, dtype=np.uint8).repeat(20).reshape(30, 54))
    figure = segmentation_figure([row], names)
    assert {"background", *names} <= set(said(figure))
    assert faults(figure) == []
