"""The public names of `subcam.export`."""

from subcam.export.coco import export_coco_panoptic as export_coco_panoptic
from subcam.export.coco import export_coco_rle as export_coco_rle
from subcam.export.cvat import export_cvat_images as export_cvat_images
from subcam.export.cvat import export_cvat_masks as export_cvat_masks
from subcam.export.label_studio import export_label_studio as export_label_studio
from subcam.export.mask_folder import MaskFolder as MaskFolder
from subcam.export.mask_folder import evaluate as evaluate
from subcam.export.mask_folder import open_masks as open_masks
from subcam.export.onnx_and_torch import export_onnx as export_onnx
from subcam.export.onnx_and_torch import export_torch as export_torch
from subcam.export.voc import export_voc as export_voc
