"""The public names of `subcam.refine`."""

from subcam.refine.one_image import Refined as Refined
from subcam.refine.one_image import refine as refine
