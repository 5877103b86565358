"""The public names of `subcam.data`."""

from subcam.data.augmentation import augment as augment
from subcam.data.check import CheckedImages as CheckedImages
from subcam.data.check import check_images as check_images
from subcam.data.dataset import Dataset as Dataset
from subcam.data.dataset import open_dataset as open_dataset
from subcam.data.images import read_image as read_image
from subcam.data.images import read_mask as read_mask
from subcam.data.images import write_mask as write_mask
from subcam.data.overlay import overlay_mask as overlay_mask
from subcam.data.records import BACKGROUND as BACKGROUND
from subcam.data.records import IGNORE_INDEX as IGNORE_INDEX
from subcam.data.records import ImageSet as ImageSet
from subcam.data.records import Record as Record
from subcam.data.records import Skipped as Skipped
from subcam.data.settings import AugmentationSettings as AugmentationSettings
from subcam.data.settings import DatasetSettings as DatasetSettings
