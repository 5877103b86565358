"""Every function of a stage, found by walking their files: no list of them can be short of one."""

import pkgutil
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from subcam import stages

MODULES: list[ModuleType] = [
    import_module(found.name)
    for found in pkgutil.walk_packages(stages.__path__, "subcam.stages.")
    if not found.ispkg and ".settings." not in found.name and found.name != "subcam.stages.context"
]
STAGES: list[Callable[..., None]] = [
    function
    for module in MODULES
    for name, function in vars(module).items()
    if name == "run" or name.startswith("run_")
]
