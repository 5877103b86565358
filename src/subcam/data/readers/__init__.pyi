"""The public names of `subcam.data.readers`."""

from subcam.data.readers.coco import read_coco as read_coco
from subcam.data.readers.folder import read_folder as read_folder
from subcam.data.readers.folder import write_labels_csv as write_labels_csv
from subcam.data.readers.shards import read_shards as read_shards
from subcam.data.readers.shards import write_shards as write_shards
from subcam.data.readers.toy import write_toy as write_toy
from subcam.data.readers.voc import VOC_CLASSES as VOC_CLASSES
from subcam.data.readers.voc import read_voc as read_voc
from subcam.data.settings import ToySettings as ToySettings
