"""Settings of data: which images, how they are varied, and of the generated set."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from subcam.checks.fields import Count, Pixels, Range, Seed, Settings, Share
from subcam.errors import SettingsError

OnBadInput = Literal["stop", "skip"]
"""What to do with a file or row that cannot be used: stop with one error, or leave it out, counted and named."""


Layout = Literal["voc", "coco", "folder", "shards", "folders", "label-studio", "tags", "yolo", "cvat", "xml"]
"""Layouts of ours and of published sets, and those of other programs, of which `subcam data labels` makes a CSV too."""


@dataclass(frozen=True, kw_only=True)
class ToySettings(Settings):
    """How many images, how large, and how much the rest of an object tells about its class.

    Attributes:
        train_images: generated images to learn from.
        val_images: generated images to score.
        size: height and width in pixels.
        class_tint: share of the class's own colour in the body's, 0 (bodies tell nothing about the class) to 1.
        second_object: share of images with a second object of another class.
        seed: of the images' random numbers.
    """

    train_images: Count = 480
    val_images: Annotated[int, Range(0, 1_000_000)] = 120
    size: Annotated[int, Range(8, 10_000)] = 64
    class_tint: Share = 0.3
    second_object: Share = 0.1
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True)
class DatasetSettings(Settings):
    """Which images.

    Attributes:
        root: a folder of images with labels: a folder for each class, a CSV, VOC's or COCO's layout, tar shards, or
            what a labelling tool exports; or "toy" for the generated set.
        layout: how the folder is laid out; "auto" looks, and asks where two readings are plausible. folder: a CSV of
            labels; folders: one for each class; tags: texts beside images, or a file of tags; xml: an annotation in
            VOC's form for each image.
        labels: name of the file of labels in the folder, which may be a CSV, COCO's, Label Studio's, CVAT's or of tags.
        train_split: images whose labels are learned from; empty for the layout's own (VOC: train_aug, else train;
            COCO: the one that begins with train; shards: train_aug, else the only one with train in its name).
        scored_splits: images scored against masks; empty for the layout's own (VOC: train and val; COCO: that of val
            that belongs to train; else val, or the training images where there are no splits).
        classes: the classes worth learning, all if empty. Other classes' pixels are not scored.
        crowd_labels: COCO: whether a class counts that is in an image only as a group ("iscrowd").
        crowd_masks: COCO: score groups ("iscrowd") as objects of their class, as which CVAT writes brush masks.
        two_valued_masks: masks of one class hold 0 and 255, and 255 is the class, as drawing programs write it.
        train_masks: COCO: draw masks of the training images too, where these are not scored. Only a segmentation
            network trained on ground truth needs them; networks trained without them are trained again.
        on_bad_input: whether to stop at the first file that cannot be used, or to leave such files out, counted and
            named.
    """

    root: Annotated[str, tyro.conf.arg(name="data", prefix_name=False, metavar="DIR|toy")] = ""
    layout: Literal["auto", Layout] = "auto"
    labels: str = "labels.csv"
    train_split: str = ""
    scored_splits: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    crowd_labels: bool = True
    crowd_masks: bool = False
    two_valued_masks: bool = False
    train_masks: bool = False
    on_bad_input: OnBadInput = "stop"
    toy: ToySettings = field(default_factory=ToySettings)


Jitter = Annotated[float, Range(0.0, 100.0)]


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings(Settings):
    """How training images are varied.

    Attributes:
        crop: side of the square crop in pixels.
        scale_long_side: least and greatest length in pixels, both included, of the long side after scaling.
        flip: probability of a left-right flip.
        brightness: by how much brightness changes: its factor is drawn from [max(0, 1 - value), 1 + value].
        contrast: by how much contrast changes, as brightness.
        saturation: by how much saturation changes, as brightness.
        hue: by how much colours change: turns of the colour circle are drawn from [-value, value], value at most 0.5.
        resampling: filter of the scaling, anti-aliased.
    """

    crop: Pixels = 224
    scale_long_side: tuple[Pixels, Pixels] = (256, 512)
    flip: Share = 0.5
    brightness: Jitter = 0.3
    contrast: Jitter = 0.3
    saturation: Jitter = 0.3
    hue: Annotated[float, Range(0.0, 0.5)] = 0.1
    resampling: Literal["bilinear", "bicubic"] = "bicubic"

    def check_together(self) -> None:
        """The least length comes first."""
        if self.scale_long_side[0] > self.scale_long_side[1]:
            raise SettingsError(f"expected the least length of scale_long_side first, got {list(self.scale_long_side)}")
