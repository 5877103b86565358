"""subcam: pixels from image-level labels, by sub-category exploration.

Everything public is here, listed in `__init__.pyi`. A name is imported when it is first used, so that `import subcam`
costs nothing.
"""

from subcam._lazy import public_names
from subcam._version import __version__ as __version__

__all__ = public_names(__name__, __file__)
