"""The run-time checker of the tests: shapes where arrays are, types everywhere."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float32, TypeCheckError
from typecheck import may_hold_array, shapes_where_arrays_are, typechecker

from subcam.cam.response import likely_background
from subcam.data.records import first_of

checked = shapes_where_arrays_are(typechecker=typechecker)
Grid = Float32[np.ndarray, "h w"]


@pytest.mark.parametrize(
    ("annotation", "may"),
    [
        (Grid, True),
        (list[tuple[int, Grid]], True),
        (Grid | None, True),
        (Annotated[Grid, "cells"], True),
        (Callable[[Grid], int], True),
        ("Grid", True),
        (tuple["Grid", int], True),
        (int, False),
        (np.ndarray | None, False),
        (dict[str, list[float]], False),
        (Literal["a", "b"], False),
        (Annotated[int, "a"], False),
    ],
)
def test_where_an_array_may_be(annotation: object, may: bool) -> None:
    assert may_hold_array(annotation) == may


def test_sizes_are_shared_by_the_arguments_of_a_call() -> None:
    @checked
    def added(a: Float32[np.ndarray, " n"], b: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
        return a + b

    added(np.zeros(3, np.float32), np.ones(3, np.float32))
    with pytest.raises(TypeCheckError):
        added(np.zeros(3, np.float32), np.ones(1, np.float32))


@checked
@dataclass
class Maps:
    first: Grid
    second: Grid


@checked
@dataclass
class Names:
    names: list[str]


def test_data_classes_are_checked_as_they_are_made() -> None:
    Maps(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32))
    with pytest.raises(TypeCheckError):
        Maps(np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32))
    Names(["a"])
    with pytest.raises(BeartypeCallHintViolation):
        Names([1])  # type: ignore[list-item]


def test_functions_of_the_package_are_checked() -> None:
    with pytest.raises(TypeCheckError):
        likely_background(np.zeros(3), 1.0)  # type: ignore[arg-type]
    with pytest.raises(BeartypeCallHintViolation):
        first_of([1])  # type: ignore[list-item]
