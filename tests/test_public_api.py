import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import subcam


@pytest.mark.parametrize("name", subcam.__all__)
def test_everything_public_is_there_and_documented(name):
    found = getattr(subcam, name)
    home = getattr(found, "__module__", found.__class__.__name__ == "module" and found.__name__)
    assert name == "__version__" or (found.__doc__ and home.startswith("subcam."))


def fresh(code: str) -> str:
    """What a new process prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_package_imports_none_but_itself_and_the_standard_library():
    code = "import sys; before = set(sys.modules); import subcam; print(*set(sys.modules) - before)"
    tops = {name.partition(".")[0] for name in fresh(code).split()}
    assert tops - sys.stdlib_module_names - {"subcam"} == set()


def test_importing_the_package_takes_less_than_a_second():
    """Processor time, which other work on the machine does not change much; it is some hundredths of a second."""
    code = "import time; start = time.process_time(); import subcam; print(time.process_time() - start)"
    assert min(float(fresh(code)) for _ in range(3)) < 1


def test_a_name_is_imported_when_it_is_asked_for():
    code = "import sys, subcam; subcam.scores; print(*(name in sys.modules for name in ('numpy', 'torch', 'timm')))"
    assert fresh(code) == "True False False"
    code = "import subcam; print(subcam.hub.__name__, subcam.scores.__module__)"
    assert fresh(code) == "subcam.hub subcam.metrics.scores"


def test_type_checkers_see_every_name_where_it_really_is():
    """They read the imports under TYPE_CHECKING; at run time `_HOMES` is read. Both must say the same."""
    source = Path(subcam.__file__)
    (block,) = [node for node in ast.parse(source.read_text("utf-8")).body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen.pop("hub") == "subcam"
    homes = dict(subcam._HOMES)
    assert homes.pop("hub") == "subcam.hub"
    assert seen == homes
    assert sorted([*subcam._HOMES, "__version__"]) == subcam.__all__ == dir(subcam)
    assert all(getattr(import_module(home), name) is getattr(subcam, name) for name, home in homes.items())
    assert (source.parent / "py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        subcam.nothing  # noqa: B018
