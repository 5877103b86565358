"""The run-time checker of the tests: shapes and types of all functions of subcam; an int is a float (PEP 484).

The option `--jaxtyping-packages` decorates each function of the package with `jaxtyping.jaxtyped`. That binds the
arguments of each call by name, to know the sizes (`n`, `h`, `w`) that arrays share: a fifth of the time of all tests.
Where the annotations hold no array there is none to share, and beartype alone says the same of the types.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, ForwardRef, Literal, get_args, get_origin

import jaxtyping
from beartype import BeartypeConf, beartype

typechecker = beartype(conf=BeartypeConf(is_pep484_tower=True))

jaxtyped = jaxtyping.jaxtyped


def may_hold_array(annotation: object) -> bool:
    """Whether an array with a shape is in it, however deep; a name in quotes may stand for one."""
    if isinstance(annotation, str | ForwardRef):
        return True
    if isinstance(annotation, type) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    return any(map(may_hold_array, annotation if isinstance(annotation, list) else parts_of(annotation)))


def parts_of(annotation: object) -> tuple[object, ...]:
    """What it is made of; the allowed values of a `Literal` and the remarks of an `Annotated` are no types."""
    if get_origin(annotation) is Literal:
        return ()
    parts = get_args(annotation)
    return parts[:1] if get_origin(annotation) is Annotated else parts


def shapes_where_arrays_are(*, typechecker: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What decorates the functions of the package, and its classes: their `__init__` if they are dataclasses."""

    def decorate(checked: Any) -> Any:
        is_class = isinstance(checked, type)
        if is_class and not (dataclasses.is_dataclass(checked) and "__init__" in vars(checked)):
            return checked
        function = checked.__init__ if is_class else checked
        annotations = getattr(function, "__annotations__", {}).values()
        if any(map(may_hold_array, annotations)):
            return jaxtyped(typechecker=typechecker)(checked)
        if not is_class:
            return typechecker(checked)
        checked.__init__ = typechecker(function)
        return checked

    return decorate


jaxtyping.jaxtyped = shapes_where_arrays_are
