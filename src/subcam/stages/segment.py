"""Training the segmentation network on masks (Section 4.4). Images and masks in, a saved network out."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from subcam.data.batches.inference import inference_batches, same_size_batches
from subcam.data.batches.mask_crops import SegmentationImages, only_masked, with_masks
from subcam.data.check import CheckedImages
from subcam.data.decoded_cache import decoded_images
from subcam.data.images import read_mask
from subcam.data.records import IGNORE_INDEX
from subcam.metrics.confusion import confusion_matrix
from subcam.metrics.scores import Scores, scores
from subcam.networks.fast.parts import in_parts
from subcam.networks.segmenter import SegmentationNetwork, for_inference, upsample_logits
from subcam.networks.settings import SegmentationConfig
from subcam.refine.scores_and_masks import mask_path
from subcam.runtime import distributed
from subcam.runtime.devices import Device, Fabric, HostCopy, one_behind
from subcam.runtime.machine.settings import MachineSettings
from subcam.runtime.run_folder import Stage
from subcam.runtime.seeds import derive_seed
from subcam.stages.settings.segment import TrainSettings
from subcam.training.loop import Training, train

VERSION = 1
"""Of what this stage computes; raise it when that changes."""


def run(
    stage: Stage,
    *,
    settings: TrainSettings,
    config: SegmentationConfig,
    images: CheckedImages,
    masks: Stage | None,
    variant: str,
    validation: CheckedImages | None,
    seed: int,
    device: Device,
) -> None:
    """Train the network; resume an interrupted training.

    What is saved are the weights after the last step (or their moving average), never those of the epoch with the best
    score: to choose by ground truth would be to learn from it, and the scores on the same masks would say too much.

    Args:
        stage: where the network is written.
        settings: how it is trained.
        config: the network.
        images: the training images.
        masks: pseudo masks of them to learn from; None learns from ground truth, where an image has some.
        variant: which of the pseudo masks (`MaskSettings.pseudo_mask`).
        validation: images with ground truth to score along the way, or None.
        seed: of the run.
        device: where it is trained.

    Raises:
        BadInputError: an image or mask cannot be used; names it.
        SubcamError: the loss is not finite; the last good checkpoint stays.
    """
    machine, fabric = device.machine, device.fabric
    if masks is None:
        image_set = only_masked(images.image_set)
    else:
        folder = masks.path
        image_set = with_masks(images.image_set, lambda record: mask_path(folder, variant, record.name))
    torch.manual_seed(derive_seed(seed, "initialise segmentation"))
    network = SegmentationNetwork(config)
    body, heads = network.body_and_heads()

    def loss(model: nn.Module, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
        # Fabric asks to be told which methods besides `forward` run under its precision.
        model.mark_forward_method("logits_by_scale")  # type: ignore[operator]
        return {"loss": segmentation_loss(model.logits_by_scale(pixels), labels, stride=network.stride)}  # type: ignore[operator]

    def validate() -> dict[str, float]:
        assert validation is not None
        validated = score_images(
            network, validation, fabric=fabric, batch_size=settings.validation_batch, machine=machine
        )
        return {"miou": validated.miou}

    train(
        Training(
            network=network,
            body=body,
            heads=heads,
            images=SegmentationImages(
                image_set,
                settings.augmentation,
                seed=derive_seed(seed, "segmentation images"),
                fill=network.fill_colour,
                decoded=decoded_images(machine),
            ),
            loss=loss,
            optimiser=settings.optimiser,
            epochs=settings.epochs,
            least_steps=settings.least_steps,
            frozen_in_bf16=config.network.frozen_in_bf16,
            batch_size=settings.batch_size,
            seed=derive_seed(seed, "segmentation"),
            average_decay=settings.average_decay,
            validate=validate if validation is not None and settings.validate_every else None,
            validate_every=settings.validate_every or 1,
        ),
        stage=stage,
        fabric=fabric,
        machine=machine,
        save=lambda: network.save(stage.path),
    )


def segmentation_loss(
    logits_by_scale: list[Float[Tensor, "batch channels h w"]],
    masks: Integer[Tensor, "batch height width"],
    *,
    stride: int,
) -> Float[Tensor, ""]:
    """Cross-entropy of each pixel, mean over the pixels that are not 255, on logits brought to the mask's size.

    Of several scales each has its own loss, and so has their greatest; all are summed (DeepLab-v2's published training
    files; its text only names the scales and the maximum). 0 where every pixel is ignored.
    """
    logits_and_greatest = list(logits_by_scale)
    if len(logits_and_greatest) > 1:
        logits_and_greatest.append(torch.stack(logits_and_greatest).amax(0))
    labels = masks.long()
    labelled = (labels != IGNORE_INDEX).sum()
    counted = labelled.clamp(min=1)
    total = torch.zeros((), device=masks.device)
    for logits in logits_and_greatest:
        full = upsample_logits(logits, (masks.shape[1], masks.shape[2]), stride=stride)
        total = total + F.cross_entropy(full, labels, ignore_index=IGNORE_INDEX, reduction="sum") / counted
    return total * distributed.weight_of(labelled)


def score_images(
    network: SegmentationNetwork, checked: CheckedImages, *, fabric: Fabric, batch_size: int, machine: MachineSettings
) -> Scores:
    """Scores of the network, in evaluation mode, on images that have masks: one look at scale 1, no flip, no CRF.

    Each of several processes scores its share; all return the same.
    """
    image_set = checked.image_set
    records, channels = image_set.records, image_set.num_classes + 1
    masked = [index for index, record in enumerate(records) if record.mask is not None]
    batches = distributed.share(same_size_batches(masked, checked.sizes, batch_size=batch_size))
    fast = for_inference(network, fabric)

    def labelled() -> Iterator[tuple[tuple[int, ...], HostCopy]]:
        for indices, images in inference_batches(
            records, batches, workers=machine.workers, decoded=decoded_images(machine)
        ):
            # Not as a decorator: around a generator it would hold, or not, by what else wraps the function.
            with torch.no_grad():
                placed = fabric.to_device(images).contiguous(memory_format=torch.channels_last)
                full = upsample_logits(
                    in_parts(fast, placed), (images.shape[2], images.shape[3]), stride=network.stride
                )
                copy = HostCopy(full.max(1).indices.to(torch.uint8))
            yield indices, copy

    matrix = np.zeros((channels, channels), np.int64)
    for indices, labels in one_behind(labelled(), device=fabric.device):
        for index, prediction in zip(indices, labels.numpy(), strict=True):
            mask = records[index].mask
            if mask is not None:
                turn = records[index].mask_turn
                truth = read_mask(mask, image_set.mask_values, size=prediction.shape, turn=turn)
                matrix = matrix + confusion_matrix(prediction, truth, num_classes=channels)
    return scores(distributed.total(matrix))
