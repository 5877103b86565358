"""What the tiles of the page's head say of the knowledge behind each number."""

import pytest

from subcam.report.page.headline import _knowledge


@pytest.mark.parametrize("trained_on", ["pseudo", "truth"])
@pytest.mark.parametrize("kind", ["plain", "crf", "known"])
def test_known_labels_are_said(trained_on: str, kind: str) -> None:
    said = _knowledge(trained_on, kind)
    assert ("image-level labels given" in said) == (kind == "known")
    assert ("without image-level labels" in said) == (kind != "known")
    assert ("upper bound" in said) == (trained_on == "truth")
