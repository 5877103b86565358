"""Named settings: one function a recipe, all its numbers in one literal call. `subcam run NAME` starts from one."""

from collections.abc import Callable

from subcam.crf.dense_crf import CRFSettings
from subcam.data.augmentation import AugmentationSettings
from subcam.data.dataset import DatasetSettings
from subcam.networks.backbones.build import NetworkSettings
from subcam.predict.tiles import InferenceSettings
from subcam.recipes_coco14 import coco14
from subcam.recipes_voc12 import voc12_paper, voc12_reference
from subcam.refine.settings import RefineSettings
from subcam.settings import RunSettings
from subcam.stages.affinity import AffinitySettings
from subcam.stages.cam import CamSettings
from subcam.stages.classify import ClassifySettings
from subcam.stages.discover import DiscoverSettings
from subcam.stages.evaluate import EvaluateSettings
from subcam.stages.prototypes import LocalSettings
from subcam.stages.pseudo_masks import MaskSettings
from subcam.stages.random_walk import WalkSettings
from subcam.stages.segment import TrainSettings
from subcam.stages.segment_settings import SegmentSettings
from subcam.stages.sure_regions import SureRegionSettings
from subcam.training.optimiser import OptimiserSettings


def toy() -> RunSettings:
    """Generated images, a small network of our own from scratch, rounds 0-3 and the lambda = 0 control.

    Alphas were chosen by looking at masks of such images: its scores show the effect and no more.
    An image of 64 pixels has 8 x 8 cells at stride 8, too few for psa's rule to make a pair: the random walk leaves
    the maps as they are on that grid, and the pseudo masks come from the CRF alone.
    Command: `subcam demo`. Hardware: 2 CPU cores, no download. Time and scores: `docs/log.md`.
    """
    return RunSettings(
        rounds=3,
        control=True,
        dataset=DatasetSettings(root="toy"),
        network=NetworkSettings(name="tiny", weights="none", freeze_batch_norm=False),
        classify=ClassifySettings(
            epochs=4,
            batch_size=32,
            subcategory_weight=5.0,
            start="restart",
            augmentation=AugmentationSettings(
                crop=64,
                scale_long_side=(56, 84),
                flip=0.5,
                brightness=0.2,
                contrast=0.2,
                saturation=0.2,
                hue=0.02,
            ),
            optimiser=OptimiserSettings(
                name="adamw",
                learning_rate=2e-3,
                weight_decay=1e-3,
                head_multiplier=5.0,
                schedule="cosine",
                warmup_steps=20,
            ),
        ),
        discover=DiscoverSettings(num_subcategories=4),
        cam=CamSettings(scales=(1.0, 0.5, 1.5, 2.0), flip=True, storage_stride=2, subcategory_maps=True, batch_size=32),
        evaluate=EvaluateSettings(background_threshold="auto"),
        refine=RefineSettings(
            rounds="first-and-last",
            affinity=AffinitySettings(
                epochs=4,
                batch_size=32,
                augmentation=AugmentationSettings(
                    crop=80,
                    scale_long_side=(72, 104),
                    flip=0.5,
                    brightness=0.2,
                    contrast=0.2,
                    saturation=0.2,
                    hue=0.02,
                ),
                optimiser=OptimiserSettings(
                    name="adamw", learning_rate=1e-3, weight_decay=1e-3, head_multiplier=2.0, schedule="poly"
                ),
            ),
            masks=MaskSettings(pseudo_mask="crf", crf_alpha=3.0, walk_alpha=2.0),
        ),
        segment=SegmentSettings(
            train_on=("pseudo", "truth"),
            train=TrainSettings(
                epochs=4,
                batch_size=16,
                augmentation=AugmentationSettings(
                    crop=64,
                    scale_long_side=(48, 84),
                    flip=0.5,
                    brightness=0.2,
                    contrast=0.2,
                    saturation=0.2,
                    hue=0.02,
                ),
                optimiser=OptimiserSettings(
                    name="adamw", learning_rate=2e-3, weight_decay=1e-3, head_multiplier=1.0, schedule="poly"
                ),
            ),
            predict=InferenceSettings(flip=True, batch_size=32, known_labels=True),
        ),
    )


def small() -> RunSettings:
    """Any timm backbone on your own images, sized for a CPU or a small GPU; MobileNetV2 unless you say otherwise.

    Rounds find sub-categories of positions, not of images (`pipeline.local_rounds`), and the background threshold is
    chosen without masks. Limits of sure positions, alphas, beta and the last CRF (DeepLab's) were chosen by looking at
    masks of six VOC animals (MobileNetV2, long side 320).
    Command: `subcam run small --data DIR --out runs/mine`. Hardware: 2 CPU cores. Time and scores: `docs/log.md`.
    """
    return RunSettings(
        rounds=2,
        control=False,
        subcategories="local",
        network=NetworkSettings(name="mobilenetv2_100", weights="timm", freeze_batch_norm=True),
        classify=ClassifySettings(
            epochs=5,
            least_steps=200,
            batch_size=16,
            subcategory_weight=5.0,
            local_weight=0.3,
            start="restart",
            augmentation=AugmentationSettings(
                crop=224,
                scale_long_side=(256, 512),
                flip=0.5,
                brightness=0.3,
                contrast=0.3,
                saturation=0.3,
                hue=0.1,
            ),
            optimiser=OptimiserSettings(
                name="adamw", learning_rate=1e-4, weight_decay=1e-2, head_multiplier=10.0, schedule="poly"
            ),
        ),
        discover=DiscoverSettings(num_subcategories=5),
        local=LocalSettings(num_subcategories=5, num_context=5, object_above=0.4, context_below=0.2),
        cam=CamSettings(scales=(1.0, 0.5, 1.5, 2.0), flip=True),
        evaluate=EvaluateSettings(background_threshold="auto"),
        refine=RefineSettings(
            rounds="last",
            sure_regions=SureRegionSettings(low_alpha=1.5, high_alpha=8.0),
            affinity=AffinitySettings(
                epochs=3,
                least_steps=100,
                batch_size=16,
                augmentation=AugmentationSettings(
                    crop=224,
                    scale_long_side=(256, 512),
                    flip=0.5,
                    brightness=0.3,
                    contrast=0.3,
                    saturation=0.3,
                    hue=0.1,
                ),
                optimiser=OptimiserSettings(
                    name="adamw", learning_rate=1e-4, weight_decay=1e-2, head_multiplier=10.0, schedule="poly"
                ),
            ),
            walk=WalkSettings(
                beta=12.0, log_steps=8, all_pairs=True, alphas=(1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
            ),
            masks=MaskSettings(
                pseudo_mask="walk-crf",
                crf_alpha=2.0,
                walk_alpha=3.0,
                crf=CRFSettings(
                    spatial_sigma=1.0,
                    spatial_weight=3.0,
                    bilateral_sigma_xy=67.0,
                    bilateral_sigma_rgb=3.0,
                    bilateral_weight=4.0,
                ),
            ),
        ),
        segment=SegmentSettings(
            train_on=("pseudo",),
            architecture="deeplabv3plus",
            network=NetworkSettings(name="same", output_stride=16),
            train=TrainSettings(
                epochs=8,
                least_steps=400,
                batch_size=8,
                validate_every=2,
                augmentation=AugmentationSettings(
                    crop=256,
                    scale_long_side=(224, 480),
                    flip=0.5,
                    brightness=0.3,
                    contrast=0.3,
                    saturation=0.3,
                    hue=0.1,
                ),
                optimiser=OptimiserSettings(
                    name="adamw", learning_rate=1e-4, weight_decay=1e-2, head_multiplier=10.0, schedule="poly"
                ),
            ),
            predict=InferenceSettings(scales=(1.0, 1.5), flip=True, crf=True, known_labels=True),
        ),
    )


RECIPES: dict[str, Callable[[], RunSettings]] = {
    "toy": toy,
    "small": small,
    "voc12_paper": voc12_paper,
    "voc12_reference": voc12_reference,
    "coco14": coco14,
}
