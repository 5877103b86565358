"""The one door by which a run finds its methods: ours, those of installed packages, and those of a module.

A package registers a method by an entry point of the group `subcam.methods`:

    [project.entry-points."subcam.methods"]
    my-method = "my_package.my_module:METHOD"

Code of others is imported for the methods alone that the settings name, and what is imported is said before.
"""

import hashlib
import inspect
import sys
from collections.abc import Iterable
from importlib import import_module, invalidate_caches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from subcam.data.records import suggest
from subcam.errors import SettingsError
from subcam.methods.built_in import built_in
from subcam.methods.protocol import ChosenMethod, Method
from subcam.methods.settings import CompareSettings, is_code
from subcam.runtime.failures import explain
from subcam.runtime.files import file_digest
from subcam.runtime.progress import say

GROUP = "subcam.methods"

_sources: dict[str, tuple[Method, str]] = {}
"""Methods of others that were imported in this process by their references, with what their source was then."""


def choose(settings: CompareSettings) -> tuple[ChosenMethod, ...]:
    """The methods that a run's settings name, in their order.

    Raises:
        SettingsError: there is none of that name, its code cannot be imported or is no `Method`, two have the same
            name, or what one needs is not installed; says which and what to do.
    """
    ours = built_in(settings)
    chosen = tuple(_find(reference, ours) for reference in settings.methods)
    taken = {name: name for name in ours}
    for one in chosen:
        other = taken.setdefault(one.method.name, one.reference)
        if other != one.reference:
            raise SettingsError(
                f"--method {one.reference}: its name {one.method.name!r} is that of {other}; give it another name"
            )
        if one.method.needs is not None:
            one.method.needs()
    return chosen


def _find(reference: str, ours: dict[str, Method]) -> ChosenMethod:
    if reference in ours:
        return ChosenMethod(method=ours[reference], reference=reference)
    if is_code(reference):
        return _imported(reference, reference, says=f"the module {reference.partition(':')[0]}")
    registered = _registered(reference, ours)
    package = registered.dist.name if registered.dist else "a package"
    where = f"{registered.module}:{registered.attr}"
    return _imported(reference, where, says=f"the package {package} ({where})")


def _registered(name: str, ours: Iterable[str]) -> EntryPoint:
    points = entry_points(group=GROUP)
    found = {point.value: point for point in points.select(name=name)}
    if not found:
        known = [*ours, *sorted(set(points.names))]
        raise SettingsError(
            f"--method {name}: expected a method's name, or my_methods:NAME for one of a file my_methods.py in this"
            f" folder, got {name!r}; {suggest(name, known)}"
        )
    if len(found) > 1:
        raise SettingsError(
            f"--method {name}: several packages have registered it: {', '.join(sorted(found))}; give one of these in"
            " its place"
        )
    return next(iter(found.values()))


def _imported(reference: str, where: str, *, says: str) -> ChosenMethod:
    """The method at package.module:name."""
    module_name, _, name = where.partition(":")
    if module_name not in sys.modules:
        say(f"method {reference}: runs the code of {says}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # at the end, so that no file here takes the place of an installed module
    invalidate_caches()  # a file may have been written since the folder was last looked into
    try:
        module = import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise SettingsError(
                f"--method {reference}: there is no module {error.name} in {here} or among the installed packages"
            ) from error
        if explain(error) is not None:
            raise
        raise SettingsError(
            f"--method {reference}: importing {module_name} raised {type(error).__name__}: {error}; --debug shows where"
        ) from error
    method = getattr(module, name, None)
    if method is None:
        raise SettingsError(
            f"--method {reference}: the module {module_name} has no {name!r}; {suggest(name, sorted(vars(module)))}"
        )
    if not isinstance(method, Method):
        raise SettingsError(f"--method {reference}: expected a subcam.Method, got {type(method).__name__}")
    if reference not in _sources or _sources[reference][0] is not method:
        _sources[reference] = (method, _source_of(method, module_name, reference))
    return ChosenMethod(method=method, reference=reference, source=_sources[reference][1])


def _source_of(method: Method, module_name: str, reference: str) -> str:
    """A digest of the files that hold the method and its functions; this package's own are left out."""
    holds = {module_name}
    for part in (method.maps, method.refine, method.losses):
        name = getattr(inspect.unwrap(getattr(part, "func", part)), "__module__", None) if part is not None else None
        if name and name.partition(".")[0] != "subcam":
            holds.add(name)
    digests = []
    for name in sorted(holds):
        file = getattr(sys.modules.get(name), "__file__", None)
        if not file or not Path(file).is_file():
            raise SettingsError(
                f"--method {reference}: the module {name} is no file, so that nothing can tell when its code changes;"
                " put the method into a file"
            )
        digests.append(f"{name} {file_digest(Path(file))}")
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
