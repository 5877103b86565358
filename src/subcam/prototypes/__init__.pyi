"""The public names of `subcam.prototypes`."""

from subcam.prototypes.clustering import Prototypes as Prototypes
from subcam.prototypes.clustering import find_prototypes as find_prototypes
