import subprocess
import sys

import pytest

import subcam


@pytest.mark.parametrize("name", subcam.__all__)
def test_everything_public_is_there_and_documented(name):
    found = getattr(subcam, name)
    assert name == "__version__" or (found.__doc__ and found.__module__.startswith("subcam."))


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, subcam; print([m for m in ('torch', 'timm', 'sklearn', 'numba') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        subcam.nothing  # noqa: B018
