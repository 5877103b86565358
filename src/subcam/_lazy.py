"""Public names of a package that are imported when they are first used; the package's `__init__.pyi` lists them.

That file is the only list: type checkers read it as a stub, and here its `from module import name as name` lines are
read when the package is imported, which takes a millisecond.
"""

import ast
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


class _Face(ModuleType):
    """A package whose public names are found in the modules that `_homes` names."""

    _homes: dict[str, tuple[str, str]]
    _called: str

    def __getattr__(self, name: str) -> Any:
        if name not in self._homes:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        module, original = self._homes[name]
        if module == self.__name__:
            return import_module(f"{module}.{original}")
        value = getattr(import_module(module), original)
        # The import of `subcam.predict.run` has made `subcam.predict` a package, and it stays one: it can be called.
        return vars(self).get(name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        # Importing the file `dense_crf` would put the module in the place of the function of that name.
        if isinstance(value, ModuleType) and self._homes.get(name, ("", ""))[0] == value.__name__:
            value = getattr(value, self._homes[name][1])
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return list(self.__all__)


class _CallableFace(_Face):
    """A package that shares its name with a function, and stands for it when it is called."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, self._called)(*args, **kwargs)


def public_names(package: str, file: str, *, called: str = "") -> list[str]:
    """Make the names in a package's stub available from the package; returns them, for its `__all__`.

    Args:
        package: its `__name__`.
        file: its `__file__`.
        called: which of the names is called where the package itself is.
    """
    homes: dict[str, tuple[str, str]] = {}
    for node in ast.parse(Path(file).with_suffix(".pyi").read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            homes |= {alias.asname: (node.module, alias.name) for alias in node.names if alias.asname}
    module = sys.modules[package]
    vars(module).update(_homes=homes, _called=called)
    module.__class__ = _CallableFace if called else _Face
    return sorted(homes)
