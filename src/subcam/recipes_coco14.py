"""A recipe of MS COCO 2014, on which the paper has no numbers: its recipe of VOC 2012 at COCO's size."""

from subcam.data.augmentation import AugmentationSettings
from subcam.data.dataset import DatasetSettings
from subcam.networks.backbones.build import NetworkSettings
from subcam.predict.tiles import InferenceSettings
from subcam.refine.settings import RefineSettings
from subcam.settings import RunSettings
from subcam.stages.affinity import AffinitySettings
from subcam.stages.cam import CamSettings
from subcam.stages.classify import ClassifySettings
from subcam.stages.discover import DiscoverSettings
from subcam.stages.evaluate import EvaluateSettings
from subcam.stages.pseudo_masks import MaskSettings
from subcam.stages.random_walk import WalkSettings
from subcam.stages.segment import TrainSettings
from subcam.stages.segment_settings import SegmentSettings
from subcam.stages.sure_regions import SureRegionSettings
from subcam.training.optimiser import OptimiserSettings


def coco14() -> RunSettings:
    """MS COCO 2014, 80 classes: `voc12_paper` with its numbers of epochs and its segmentation network at COCO's size.

    Written down, not run. The paper has no numbers on COCO. Published work that has some learns from the image-level
    labels of train2014 (82,081 images with an object, eight times VOC's) and scores val2014 (40,137); DeepLab-v2
    takes 100,000 steps of 10 images at a rate of 0.0002. A quarter of VOC's epochs, K and all thresholds are ours
    or VOC's, and untried here.
    Command: `subcam run coco14 --data COCO --network.weights ilsvrc-cls_rna-a1_cls1000_ep-0001.params`.
    Hardware: a GPU of 12 GB or more, and days of it. Time and scores: not measured.
    """
    return RunSettings(
        rounds=3,
        dataset=DatasetSettings(layout="coco", train_split="train2014", scored_splits=("val2014",)),
        network=NetworkSettings(name="resnet38", neck_channels=512, freeze_batch_norm=True),
        classify=ClassifySettings(
            epochs=4,
            batch_size=16,
            subcategory_weight=5.0,
            start="continue",
            augmentation=AugmentationSettings(
                crop=448,
                scale_long_side=(448, 768),
                flip=0.5,
                brightness=0.3,
                contrast=0.3,
                saturation=0.3,
                hue=0.1,
            ),
            optimiser=OptimiserSettings(
                name="adam",
                learning_rate=1e-3,
                weight_decay=5e-4,
                head_multiplier=1.0,
                bias_multiplier=1.0,
                schedule="constant",
            ),
        ),
        discover=DiscoverSettings(num_subcategories=10),
        cam=CamSettings(scales=(1.0, 0.5, 1.5, 2.0), flip=True, batch_size=1),
        evaluate=EvaluateSettings(background_threshold="auto"),
        refine=RefineSettings(
            rounds="last",
            sure_regions=SureRegionSettings(low_alpha=4.0, high_alpha=24.0),
            affinity=AffinitySettings(
                epochs=2,
                batch_size=8,
                augmentation=AugmentationSettings(
                    crop=448,
                    scale_long_side=(448, 768),
                    flip=0.5,
                    brightness=0.3,
                    contrast=0.3,
                    saturation=0.3,
                    hue=0.1,
                ),
                optimiser=OptimiserSettings(
                    name="sgd",
                    learning_rate=0.1,
                    momentum=5e-4,
                    weight_decay=5e-4,
                    decay_biases=False,
                    head_multiplier=10.0,
                    bias_multiplier=2.0,
                    schedule="poly",
                ),
            ),
            walk=WalkSettings(beta=8.0, log_steps=8, alphas=(4.0, 8.0, 16.0, 24.0, 32.0)),
            masks=MaskSettings(pseudo_mask="walk", crf_alpha=4.0, walk_alpha=16.0),
        ),
        segment=SegmentSettings(
            train_on=("pseudo",),
            network=NetworkSettings(name="resnet101", weights="timm", output_stride=8, freeze_batch_norm=True),
            multi_scale_inputs=(0.5, 0.75),
            train=TrainSettings(
                epochs=12,
                batch_size=10,
                augmentation=AugmentationSettings(
                    crop=321,
                    scale_long_side=(320, 960),
                    flip=0.5,
                    brightness=0.0,
                    contrast=0.0,
                    saturation=0.0,
                    hue=0.0,
                ),
                optimiser=OptimiserSettings(
                    name="sgd",
                    learning_rate=2e-4,
                    momentum=0.9,
                    weight_decay=5e-4,
                    decay_biases=False,
                    head_multiplier=10.0,
                    bias_multiplier=2.0,
                    schedule="poly",
                    poly_power=0.9,
                ),
            ),
            predict=InferenceSettings(scales=(1.0,), flip=True, crf=True),
        ),
    )
